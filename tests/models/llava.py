"""LLaVA-1.5 and LLaVA-NeXT."""

from __future__ import annotations

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
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor

from tests.models.common import Kind, llama_tokenizer, text_config

# Those of the published checkpoints, without their video branches.
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


def _clip_and_llama(tokenizer: LlamaTokenizer, tile: int) -> dict:
    return {
        "vision_config": CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=tile,
            patch_size=14, projection_dim=32, initializer_range=0.3,
        ),
        "text_config": LlamaConfig(**text_config(len(tokenizer), pad_token_id=tokenizer.pad_token_id)),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }  # fmt: skip


_PROCESSOR = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


def _llava():
    tokenizer, side = llama_tokenizer(), 84
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    model = LlavaForConditionalGeneration(LlavaConfig(**_clip_and_llama(tokenizer, side)))
    return model, LlavaProcessor(images, tokenizer, chat_template=LLAVA_TEMPLATE, **_PROCESSOR)


def _llava_next():
    tokenizer, tile = llama_tokenizer(), 56
    pinpoints = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
    images = LlavaNextImageProcessor(
        size={"shortest_edge": tile}, crop_size={"height": tile, "width": tile}, image_grid_pinpoints=pinpoints
    )
    config = LlavaNextConfig(**_clip_and_llama(tokenizer, tile), image_grid_pinpoints=pinpoints)
    model = LlavaNextForConditionalGeneration(config)
    return model, LlavaNextProcessor(images, tokenizer, chat_template=LLAVA_NEXT_TEMPLATE, **_PROCESSOR)


KINDS = {
    "llava": Kind(_llava, token_pixels=14, crops=True),
    "llava_next": Kind(_llava_next, token_pixels=14, thumbnail=16),
}
