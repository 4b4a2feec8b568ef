"""Idefics3 and SmolVLM."""

from __future__ import annotations

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMProcessor,
)
from transformers.models.idefics3.image_processing_idefics3 import Idefics3ImageProcessor
from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

from tests.models.common import Kind, byte_level_tokenizer, text_config

# That of the published checkpoints; Idefics3 begins with Llama 3's token, SmolVLM with its own.
TEMPLATE = (
    "{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SPECIALS = (
    "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>",
    *(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)),
)  # fmt: skip
# SmolVLM2-2.2B and the first SmolVLM: 384 pixels in patches of 14 leave a strip that no patch covers, here as well.
SIZES = {"idefics3": {"tile": 56, "patch": 14, "scale": 2}, "smolvlm": {"tile": 46, "patch": 7, "scale": 3}}


def _configs(tokenizer, kind: str, vision_type: str) -> dict:
    tile, patch, scale = SIZES[kind].values()
    return {
        "vision_config": {
            "model_type": vision_type, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 2, "image_size": tile, "patch_size": patch, "initializer_range": 0.3,
        },
        "text_config": LlamaConfig(
            **text_config(len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                          pad_token_id=tokenizer.pad_token_id)
        ),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "scale_factor": scale,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip


def _sizes(kind: str, tiles: int) -> tuple[dict, int]:
    """Image processor's sizes, for a longest edge of so many tiles, and tokens a tile."""
    tile, patch, scale = SIZES[kind].values()
    return {"size": {"longest_edge": tiles * tile}, "max_image_size": {"longest_edge": tile}}, (
        tile // patch // scale
    ) ** 2


def _idefics3():
    ends = {"eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>"}
    tokenizer = byte_level_tokenizer(SPECIALS, bos="<|begin_of_text|>", **ends)
    sizes, tokens = _sizes("idefics3", tiles=3)
    template = "<|begin_of_text|>" + TEMPLATE
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**sizes), tokenizer, image_seq_len=tokens, chat_template=template
    )
    model = Idefics3ForConditionalGeneration(Idefics3Config(**_configs(tokenizer, "idefics3", "idefics3_vision")))
    return model, processor


def _smolvlm():
    ends = {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"}
    tokenizer = byte_level_tokenizer(SPECIALS, **ends)
    sizes, tokens = _sizes("smolvlm", tiles=4)
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes), tokenizer, SmolVLMVideoProcessor(**sizes), image_seq_len=tokens,
        chat_template="<|im_start|>" + TEMPLATE,
    )  # fmt: skip
    model = SmolVLMForConditionalGeneration(SmolVLMConfig(**_configs(tokenizer, "smolvlm", "smolvlm_vision")))
    return model, processor


KINDS = {
    "idefics3": Kind(_idefics3, token_pixels=28, thumbnail=-4, resampling=6),
    "smolvlm": Kind(_smolvlm, token_pixels=21, thumbnail=-4, crops=True, resampling=6),
}
