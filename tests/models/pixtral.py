"""Mistral 3, and LLaVA with a Pixtral tower."""

from __future__ import annotations

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralProcessor,
    PixtralVisionConfig,
)
from transformers.models.pixtral.image_processing_pixtral import PixtralImageProcessor

from tests.models.common import Kind, byte_level_tokenizer, text_config

# Those of the published checkpoints, without their assistant and tool branches (and without the long default system
# prompt of Mistral Small, which the template writes where there is no other).
PIXTRAL_TEMPLATE = (
    '{%- if messages[0]["role"] == "system" %}{%- set system_message = messages[0]["content"] %}'
    "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
    '{{- bos_token }}{%- for message in loop_messages %}{%- if message["role"] == "user" %}'
    '{%- if loop.last and system_message is defined %}{{- "[INST]" + system_message + "\n\n" }}'
    '{%- else %}{{- "[INST]" }}{%- endif %}{%- for chunk in message["content"] %}'
    '{%- if chunk["type"] == "text" %}{{- chunk["text"] }}{%- elif chunk["type"] == "image" %}{{- "[IMG]" }}'
    '{%- endif %}{%- endfor %}{{- "[/INST]" }}{%- endif %}{%- endfor %}'
)
MISTRAL3_TEMPLATE = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- if messages[0]['content'] is string %}"
    "{%- set system_message = messages[0]['content'] %}{%- else %}"
    "{%- set system_message = messages[0]['content'][0]['text'] %}{%- endif %}"
    "{%- set loop_messages = messages[1:] %}{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}"
    "{%- else %}{%- set loop_messages = messages %}{%- endif %}"
    "{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
    "{%- if message['content'] is string %}{{- '[INST]' + message['content'] + '[/INST]' }}{%- else %}{{- '[INST]' }}"
    "{%- for block in message['content'] %}{%- if block['type'] == 'text' %}{{- block['text'] }}"
    "{%- elif block['type'] in ['image', 'image_url'] %}{{- '[IMG]' }}{%- endif %}{%- endfor %}"
    "{{- '[/INST]' }}{%- endif %}{%- endif %}{%- endfor %}"
)
_SPECIALS = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")


def _parts(patch: int, merge: int, template: str):
    """(processor, configurations) of a picture whose longer side has at most 12 tokens."""
    tokenizer = byte_level_tokenizer(_SPECIALS, bos="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    images = PixtralImageProcessor(
        size={"longest_edge": 12 * patch * merge}, patch_size={"height": patch, "width": patch}
    )
    processor = PixtralProcessor(images, tokenizer, patch_size=patch, spatial_merge_size=merge, chat_template=template)
    text = MistralConfig(
        **text_config(len(tokenizer), pad_token_id=tokenizer.pad_token_id, head_dim=8, sliding_window=None,
                      bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    )  # fmt: skip
    vision = PixtralVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, patch_size=patch,
        image_size=12 * patch * merge, initializer_range=0.3,
    )  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("[IMG]")
    return processor, {"text_config": text, "vision_config": vision, "image_token_index": image}


def _mistral3():
    processor, parts = _parts(14, 2, MISTRAL3_TEMPLATE)
    config = Mistral3Config(**parts, spatial_merge_size=2, tie_word_embeddings=False)
    return Mistral3ForConditionalGeneration(config), processor


def _llava_pixtral():
    processor, parts = _parts(16, 1, PIXTRAL_TEMPLATE)
    config = LlavaConfig(**parts, vision_feature_layer=-1, vision_feature_select_strategy="full")
    return LlavaForConditionalGeneration(config), processor


_MIXES = (".attention.o_proj",)

KINDS = {
    "llava_pixtral": Kind(_llava_pixtral, token_pixels=16, attention_outputs=_MIXES),
    "mistral3": Kind(_mistral3, token_pixels=28, attention_outputs=_MIXES),
}
