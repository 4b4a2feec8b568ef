"""PaliGemma 1 (Gemma) and 2 (Gemma 2: sliding layers, capped scores)."""

from __future__ import annotations

from functools import partial

from transformers import (
    Gemma2Config,
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
)
from transformers.models.siglip.image_processing_siglip import SiglipImageProcessor

from tests.models.common import Kind, text_config
from tests.models.gemma3 import gemma_tokenizer, siglip

_SIDE = 84


def paligemma(version: int):
    images = SiglipImageProcessor(size={"height": _SIDE, "width": _SIDE}, image_seq_length=36)
    processor = PaliGemmaProcessor(images, gemma_tokenizer())  # adds <image>, the places and the segments
    tokenizer = processor.tokenizer
    shared = text_config(len(tokenizer), head_dim=8)
    if version == 1:
        text = GemmaConfig(**shared)
    else:
        text = Gemma2Config(**shared, query_pre_attn_scalar=8, sliding_window=48, attn_logit_softcapping=5.0)
    config = PaliGemmaConfig(
        text_config=text, vision_config=siglip(image_size=_SIDE, patch_size=14), projection_dim=32, hidden_size=32,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vocab_size=len(tokenizer),
    )  # fmt: skip
    return PaliGemmaForConditionalGeneration(config), processor


KINDS = {
    "paligemma": Kind(partial(paligemma, 1), token_pixels=14),
    "paligemma2": Kind(partial(paligemma, 2), token_pixels=14),
}
