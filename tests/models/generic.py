"""Model types without an adapter: VipLLaVA (a fixed square) and PaddleOCR-VL (a raster of merged patches)."""

from __future__ import annotations

from transformers import (
    LlavaProcessor,
    PaddleOCRVLConfig,
    PaddleOCRVLForConditionalGeneration,
    PaddleOCRVLProcessor,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.paddleocr_vl.image_processing_paddleocr_vl import PaddleOCRVLImageProcessor

from tests.models.common import Kind, byte_level_tokenizer, llama_tokenizer, text_config
from tests.models.llava import _PROCESSOR, LLAVA_TEMPLATE, _clip_and_llama


def _vipllava():
    tokenizer, side = llama_tokenizer(), 84
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    parts = _clip_and_llama(tokenizer, side)
    parts = {name: parts[name] for name in ("vision_config", "text_config")}
    config = VipLlavaConfig(
        **parts, image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layers=[-2, 1]
    )
    processor = LlavaProcessor(images, tokenizer, chat_template=LLAVA_TEMPLATE, **_PROCESSOR)
    return VipLlavaForConditionalGeneration(config), processor


def _paddleocr_vl():
    tokenizer = byte_level_tokenizer(
        ("<image>", "<s>", "</s>"), eos_token="</s>", pad_token="<pad>", image_token="<image>"
    )
    text = text_config(
        len(tokenizer), head_dim=8, pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
    )  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 84, "patch_size": 14, "initializer_range": 0.3}  # fmt: skip
    config = PaddleOCRVLConfig(
        text_config=text, vision_config=vision, image_token_id=tokenizer.convert_tokens_to_ids("<image>")
    )
    images = PaddleOCRVLImageProcessor(size={"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 40})
    processor = PaddleOCRVLProcessor(images, tokenizer, chat_template=LLAVA_TEMPLATE)
    return PaddleOCRVLForConditionalGeneration(config), processor


KINDS = {
    "vipllava": Kind(_vipllava, token_pixels=14, crops=True),
    "paddleocr_vl": Kind(_paddleocr_vl, token_pixels=28),
}
