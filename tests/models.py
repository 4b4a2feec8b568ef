"""Tiny random checkpoints of the real classes, with their real processors and chat templates; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from perception_gap.tiny import build

KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next")
SENTENCES = (
    "what colour is the small star above the large circle",
    "the small star is red and the big square is green",
    "which of the two marked points is closer to the camera",
    "where does the triangle lie, left or right of the blue ring?",
)
# The templates below are those of the published checkpoints, without their video branches.
QWEN2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAVA_NEXT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}{% elif message['role'] == 'user' %}"
    "{{ '[INST] ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{' [/INST]'}}{% endif %}{% endfor %}"
)


def checkpoint(kind: str, folder: Path) -> Path:
    """Build and save the checkpoint of one kind of `KINDS` into `folder`; the same weights every time."""
    torch.manual_seed(0)
    builders = {"qwen2_vl": _qwen, "qwen2_5_vl": _qwen, "qwen3_vl": _qwen, "llava": _llava, "llava_next": _llava_next}
    model, processor = builders[kind](kind)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _text(vocab_size: int, **more) -> dict:
    # Wide initial weights: attention must be far from uniform for a comparison of maps to mean anything.
    return {
        "vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "initializer_range": 0.3, **more,
    }  # fmt: skip


def _qwen(kind: str):
    tokenizer = build.tokenizer(SENTENCES, vocab_size=400)
    ids = dict(zip(build.SPECIALS, tokenizer.convert_tokens_to_ids(list(build.SPECIALS)), strict=True))
    tokens = {
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
    }  # fmt: skip
    ends = {"bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    text = _text(len(tokenizer), rope_parameters=rope, **ends)
    patch = 16 if kind == "qwen3_vl" else 14
    vision = {"depth": 2, "num_heads": 2, "patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2,
              "initializer_range": 0.3}  # fmt: skip
    size = {"size": {"shortest_edge": (2 * patch) ** 2, "longest_edge": (2 * patch) ** 2 * 40}}
    shared = {**size, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    video = Qwen3VLVideoProcessor if kind == "qwen3_vl" else Qwen2VLVideoProcessor
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
    vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "num_position_embeddings": 64,
               "deepstack_visual_indexes": [0]}  # fmt: skip
    config = Qwen3VLConfig(text_config={**text, "head_dim": 8}, vision_config=vision, **tokens)
    return Qwen3VLForConditionalGeneration(config), Qwen3VLProcessor(**parts)


def llama_tokenizer() -> LlamaTokenizer:
    """SentencePiece-like: word starts are ▁, unknown characters fall back to bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=list("▁abcdefghijklmnopqrstuvwxyz?,.:"),
        show_progress=False,
    )
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    return LlamaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        pad_token="<pad>",
        extra_special_tokens=["<image>"],
        model_max_length=4096,
    )


def _clip_and_llama(tokenizer: LlamaTokenizer, tile: int) -> dict:
    return {
        "vision_config": CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=tile,
            patch_size=14, projection_dim=32, initializer_range=0.3,
        ),
        "text_config": LlamaConfig(**_text(len(tokenizer), pad_token_id=tokenizer.pad_token_id)),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }  # fmt: skip


_PROCESSOR = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


def _llava(_: str):
    tokenizer, side = llama_tokenizer(), 84
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    model = LlavaForConditionalGeneration(LlavaConfig(**_clip_and_llama(tokenizer, side)))
    return model, LlavaProcessor(images, tokenizer, chat_template=LLAVA_TEMPLATE, **_PROCESSOR)


def _llava_next(_: str):
    tokenizer, tile = llama_tokenizer(), 56
    pinpoints = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
    images = LlavaNextImageProcessor(
        size={"shortest_edge": tile}, crop_size={"height": tile, "width": tile}, image_grid_pinpoints=pinpoints
    )
    config = LlavaNextConfig(**_clip_and_llama(tokenizer, tile), image_grid_pinpoints=pinpoints)
    model = LlavaNextForConditionalGeneration(config)
    return model, LlavaNextProcessor(images, tokenizer, chat_template=LLAVA_NEXT_TEMPLATE, **_PROCESSOR)
