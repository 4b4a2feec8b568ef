"""InternVL."""

from __future__ import annotations

import json

from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    Qwen2Config,
    Qwen2Tokenizer,
)
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

from scripts.embedded import build
from tests.models.common import SENTENCES, Kind, text_config

# That of the published checkpoints, without its video branch.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
TILE, PATCH, SIDE = 84, 14, 3


def _tokenizer() -> Qwen2Tokenizer:
    """Its image tokens have names: the processor asks the tokenizer for them."""
    trained = json.loads(build.tokenizer(SENTENCES, vocab_size=400).backend_tokenizer.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        model_max_length=4096,
    )  # fmt: skip
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    return tokenizer


def _internvl():
    tokenizer = _tokenizer()
    size = {"height": TILE, "width": TILE}
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=TILE,
            patch_size=PATCH, initializer_range=0.3,
        ),
        text_config=Qwen2Config(
            **text_config(len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
                          pad_token_id=tokenizer.pad_token_id)
        ),
        image_token_id=tokenizer.context_image_token_id, image_seq_length=SIDE**2,
    )  # fmt: skip
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, max_patches=6),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=SIDE**2,
        chat_template=TEMPLATE,
    )
    return InternVLForConditionalGeneration(config), processor


KINDS = {
    "internvl": Kind(
        _internvl, token_pixels=2 * PATCH, thumbnail=-(SIDE**2), attention_outputs=(".attention.projection_layer",)
    ),
}
