"""Aya Vision and Command A Vision."""

from __future__ import annotations

import json
from functools import partial

from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionProcessor,
    CohereTokenizer,
)
from transformers.models.cohere2_vision.image_processing_cohere2_vision import Cohere2VisionImageProcessor
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor

from scripts.embedded import build
from tests.models.common import SENTENCES, Kind, text_config
from tests.models.gemma3 import siglip

# That of the published Aya Vision checkpoints.
AYA_TEMPLATE = (
    "{{ bos_token }}{%- for message in messages -%}<|START_OF_TURN_TOKEN|>{{ message.role | replace('user', "
    "'<|USER_TOKEN|>') | replace('assistant', '<|CHATBOT_TOKEN|><|START_RESPONSE|>') | replace('system', "
    "'<|SYSTEM_TOKEN|>') }}{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for item in message.content | selectattr('type', 'equalto', 'image') -%}IMAGE{%- endfor -%}"
    "{%- for item in message.content | selectattr('type', 'equalto', 'text') -%}{{ item.text }}{%- endfor -%}"
    "{%- endif -%}{%- if message.role == 'assistant' -%}<|END_RESPONSE|>{%- endif -%}<|END_OF_TURN_TOKEN|>"
    "{%- endfor -%}{%- if add_generation_prompt -%}"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>{%- endif -%}"
)
_SPECIALS = (
    "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>",
    "<|END_RESPONSE|>", "<image>", "TILE", "TILE_GLOBAL",
)  # fmt: skip
_IMAGE_TOKENS = {
    "image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>",
    "img_line_break_token": "<|IMG_LINE_BREAK|>",
}  # fmt: skip
_TILE = {"height": 56, "width": 56}


def _tokenizer() -> CohereTokenizer:
    learned = json.loads(build.tokenizer(SENTENCES, vocab_size=400).backend_tokenizer.to_str())["model"]
    first = ("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>")
    vocab = {token: i for i, token in enumerate((*first, *learned["vocab"]))}
    tokenizer = CohereTokenizer(
        vocab=vocab, merges=[tuple(pair) for pair in learned["merges"]], model_max_length=4096,
        extra_special_tokens=_IMAGE_TOKENS,
    )  # fmt: skip
    tokenizer.add_special_tokens({"extra_special_tokens": list(_SPECIALS)}, replace_extra_special_tokens=False)
    return tokenizer


def _aya(kind: str):
    tokenizer = _tokenizer()
    # A window shorter than a prompt, so that the sliding layers differ from the others.
    text = Cohere2Config(
        **text_config(len(tokenizer)), sliding_window=48, eos_token_id=tokenizer.eos_token_id,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], logit_scale=1.0,
    )  # fmt: skip
    shared = {"text_config": text, "vision_config": siglip(image_size=56, patch_size=7), "downsample_factor": 2}
    patch_id = tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>")
    if kind == "aya_vision":
        config = AyaVisionConfig(**shared, image_token_index=patch_id)
        images = GotOcr2ImageProcessor(size=_TILE, max_patches=6)
        return AyaVisionForConditionalGeneration(config), AyaVisionProcessor(
            images, tokenizer, patch_size=7, img_size=56, downsample_factor=2,
            chat_template=AYA_TEMPLATE.replace("IMAGE", "<image>"),
        )  # fmt: skip
    config = Cohere2VisionConfig(**shared, image_token_id=patch_id, alignment_intermediate_size=64)
    images = Cohere2VisionImageProcessor(size=_TILE, max_patches=6, patch_size=4)
    # The turns of Command A Vision's template, without its preamble.
    template = AYA_TEMPLATE.replace("IMAGE", "<|IMG_PATCH|>")
    return Cohere2VisionForConditionalGeneration(config), Cohere2VisionProcessor(
        images, tokenizer, chat_template=template
    )


KINDS = {kind: Kind(partial(_aya, kind), token_pixels=14, thumbnail=-16) for kind in ("aya_vision", "cohere2_vision")}
