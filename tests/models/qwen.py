"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5, and the mixtures of experts of the last two."""

from __future__ import annotations

import json
from functools import partial

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from scripts.embedded import build
from tests.models.common import SENTENCES, Kind, text_config

# That of the published checkpoints, without its video branches.
QWEN2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3_5_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
    "{% if 'image' in item or item.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in item %}{{ item.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}"
)


def _qwen(kind: str):
    tokenizer = build.tokenizer(SENTENCES, vocab_size=400)
    ids = dict(zip(build.SPECIALS, tokenizer.convert_tokens_to_ids(list(build.SPECIALS)), strict=True))
    tokens = {
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
    }  # fmt: skip
    ends = {"bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    text = text_config(len(tokenizer), rope_parameters=rope, **ends)
    patch = 16 if kind.startswith("qwen3") else 14
    vision = {"depth": 2, "num_heads": 2, "patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2,
              "initializer_range": 0.3}  # fmt: skip
    size = {"size": {"shortest_edge": (2 * patch) ** 2, "longest_edge": (2 * patch) ** 2 * 40}}
    shared = {**size, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    video = Qwen3VLVideoProcessor if kind.startswith("qwen3") else Qwen2VLVideoProcessor
    parts = {
        "image_processor": Qwen2VLImageProcessor(**shared), "video_processor": video(**shared),
        "tokenizer": tokenizer, "chat_template": QWEN2_TEMPLATE,
    }  # fmt: skip
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
        config = Qwen2VLConfig(text_config=text, vision_config=vision, **tokens)
        return Qwen2VLForConditionalGeneration(config), Qwen2VLProcessor(**parts)
    if kind == "qwen2_5_vl":
        # Windows of 2 × 2 merged tokens in the first block, so that the tower's window reordering is at work.
        vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "window_size": 4 * patch,
                   "fullatt_block_indexes": [1]}  # fmt: skip
        config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
        return Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor(**parts)
    vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "num_position_embeddings": 64}
    if kind.startswith("qwen3_5"):
        return _qwen3_5(kind, parts, text_config=_hybrid(text), vision_config=vision, **tokens)
    vision |= {"deepstack_visual_indexes": [0]}
    if kind == "qwen3_vl_moe":
        moe = Qwen3VLMoeConfig(text_config={**text, "head_dim": 8, **_EXPERTS}, vision_config=vision, **tokens)
        return Qwen3VLMoeForConditionalGeneration(moe), Qwen3VLProcessor(**parts)
    config = Qwen3VLConfig(text_config={**text, "head_dim": 8}, vision_config=vision, **tokens)
    return Qwen3VLForConditionalGeneration(config), Qwen3VLProcessor(**parts)


_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def _hybrid(text: dict) -> dict:
    """Two layers of full attention among four, positions on half of each head."""
    rope = {**text["rope_parameters"], "mrope_interleaved": True, "partial_rotary_factor": 0.5}
    return {
        **text, "num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2, "head_dim": 16,
        "rope_parameters": rope, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }  # fmt: skip


def _qwen3_5(kind: str, parts: dict, **options):
    model = json.loads(parts["tokenizer"].backend_tokenizer.to_str())["model"]
    tokenizer = Qwen3_5Tokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], eos_token="<|im_end|>",
        pad_token="<|endoftext|>", extra_special_tokens=list(build.SPECIALS[1:]), model_max_length=4096,
    )  # fmt: skip
    processor = Qwen3VLProcessor(**{**parts, "tokenizer": tokenizer, "chat_template": QWEN3_5_TEMPLATE})
    if kind == "qwen3_5_moe":
        options["text_config"] |= {**_EXPERTS, "shared_expert_intermediate_size": 16}
        return Qwen3_5MoeForConditionalGeneration(Qwen3_5MoeConfig(**options)), processor
    return Qwen3_5ForConditionalGeneration(Qwen3_5Config(**options)), processor


KINDS = {
    "qwen2_vl": Kind(partial(_qwen, "qwen2_vl"), token_pixels=28),
    "qwen2_5_vl": Kind(partial(_qwen, "qwen2_5_vl"), token_pixels=28),
    "qwen3_5": Kind(partial(_qwen, "qwen3_5"), token_pixels=32),
    "qwen3_5_moe": Kind(partial(_qwen, "qwen3_5_moe"), token_pixels=32),
    "qwen3_vl": Kind(partial(_qwen, "qwen3_vl"), token_pixels=32),
    "qwen3_vl_moe": Kind(partial(_qwen, "qwen3_vl_moe"), token_pixels=32),
}
