"""LFM2-VL."""

from __future__ import annotations

from transformers import (
    Lfm2Config,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlProcessor,
    PreTrainedTokenizerFast,
    Siglip2VisionConfig,
)
from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor

from scripts.embedded import build
from tests.models.common import SENTENCES, Kind, text_config

# That of the published checkpoints, without its tools.
LFM2_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<image>' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SPECIALS = (
    "<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", "<|im_start|>",
    *(f"<|img_row_{row}_col_{col}|>" for row in range(1, 7) for col in range(1, 7)),
)  # fmt: skip


def _tokenizer() -> PreTrainedTokenizerFast:
    backend = build.tokenizer(SENTENCES, vocab_size=400).backend_tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|startoftext|>", eos_token="<|im_end|>", pad_token="<|pad|>",
        extra_special_tokens=list(_SPECIALS), model_max_length=4096,
    )  # fmt: skip


def _lfm2_vl():
    tokenizer = _tokenizer()
    images = Lfm2VlImageProcessor(
        encoder_patch_size=8, downsample_factor=2, tile_size=64, min_tiles=2, max_tiles=6, min_image_tokens=4,
        max_image_tokens=16, size={"height": 64, "width": 64},
    )  # fmt: skip
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    text = Lfm2Config(
        **text_config(len(tokenizer), num_hidden_layers=4, **ends), block_multiple_of=8,
        layer_types=["conv", "full_attention", "conv", "full_attention"],
    )  # fmt: skip
    vision = Siglip2VisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, patch_size=8,
        num_patches=64, vision_use_head=False,
    )  # fmt: skip
    config = Lfm2VlConfig(
        text_config=text, vision_config=vision, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        downsample_factor=2, projector_hidden_size=48,
    )  # fmt: skip
    return Lfm2VlForConditionalGeneration(config), Lfm2VlProcessor(images, tokenizer, chat_template=LFM2_TEMPLATE)


# A thumbnail has 15 or 16 tokens, after its picture's shape.
KINDS = {"lfm2_vl": Kind(_lfm2_vl, token_pixels=16, thumbnail=-16)}
