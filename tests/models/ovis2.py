"""Ovis2."""

from __future__ import annotations

from transformers import Ovis2Config, Ovis2ForConditionalGeneration, Ovis2Processor, Qwen2Config
from transformers.models.ovis2.configuration_ovis2 import Ovis2VisionConfig
from transformers.models.ovis2.image_processing_ovis2 import Ovis2ImageProcessor

from scripts.embedded import build
from tests.models.common import SENTENCES, Kind, text_config

# That of the published checkpoints: its own system prompt always stands first.
TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<image>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
INDICATORS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
TILE, PATCH, STRIDE, SIDE = 84, 14, 2, 3


def _ovis2():
    tokenizer = build.tokenizer(SENTENCES, vocab_size=400)
    tokenizer.add_tokens(["<IMG_ATOM>", *INDICATORS], special_tokens=True)
    config = Ovis2Config(
        vision_config=Ovis2VisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=TILE,
            patch_size=PATCH, hidden_stride=STRIDE, vocab_size=64, initializer_range=0.3,
        ),
        text_config=Qwen2Config(
            **text_config(len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
                          pad_token_id=tokenizer.pad_token_id)
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(list(INDICATORS)),
        vocab_size=len(tokenizer), hidden_size=32,
    )  # fmt: skip
    images = Ovis2ImageProcessor(size={"height": TILE, "width": TILE}, crop_to_patches=True, max_patches=6)
    processor = Ovis2Processor(images, tokenizer, chat_template=TEMPLATE, image_seq_length=SIDE**2)
    return Ovis2ForConditionalGeneration(config), processor


KINDS = {
    "ovis2": Kind(_ovis2, token_pixels=PATCH * STRIDE, thumbnail=SIDE**2, attention_outputs=(".attention.out_proj",)),
}
