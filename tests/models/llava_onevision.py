"""LLaVA-OneVision: tiles that are no whole number of patches, as in its checkpoints, and a raster that is shrunk."""

from __future__ import annotations

from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision.image_processing_llava_onevision import LlavaOnevisionImageProcessor
from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor

from scripts.embedded import build
from tests.models.common import SENTENCES, Kind, text_config

# That of the published checkpoints, without its video branch.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TILE, PATCH = 40, 7


def _onevision():
    tokenizer = build.tokenizer(SENTENCES, vocab_size=400)
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    pinpoints = [[TILE * rows, TILE * cols] for rows in (1, 2, 3) for cols in (1, 2, 3)]
    size = {"height": TILE, "width": TILE}
    tokens = (TILE // PATCH) ** 2
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=TILE,
            patch_size=PATCH, vision_use_head=False, initializer_range=0.3,
        ),
        text_config=Qwen2Config(
            **text_config(len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
                          pad_token_id=tokenizer.pad_token_id)
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints, vision_feature_layer=-1, vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
    )  # fmt: skip
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=tokens,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
        chat_template=TEMPLATE,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


KINDS = {
    "llava_onevision": Kind(_onevision, token_pixels=PATCH, thumbnail=(TILE // PATCH) ** 2, crops=True, beyond=0.9),
}
