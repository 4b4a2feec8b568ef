"""GLM-4.1V, GLM-4.5V (a mixture of experts) and GLM-4.6V."""

from __future__ import annotations

from functools import partial

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm4vProcessor,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VProcessor,
)
from transformers.models.glm4v.image_processing_glm4v import Glm4vImageProcessor
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
from transformers.models.glm46v.image_processing_glm46v import Glm46VImageProcessor
from transformers.models.glm46v.video_processing_glm46v import Glm46VVideoProcessor

from tests.models.common import Kind, byte_level_tokenizer, text_config

# Those of the published checkpoints, without their video and tool branches.
GLM_4_1V_TEMPLATE = (
    "[gMASK]<sop>\n{%- for msg in messages %}\n{%- if msg.role == 'system' %}\n<|system|>\n{{ msg.content }}"
    "{%- elif msg.role == 'user' %}\n<|user|>{{ '\\n' }}\n{%- if msg.content is string %}\n{{ msg.content }}"
    "{%- else %}\n{%- for item in msg.content %}\n{%- if item.type == 'image' or 'image' in item %}\n"
    "<|begin_of_image|><|image|><|end_of_image|>\n{%- elif item.type == 'text' %}\n{{ item.text }}\n"
    "{%- endif %}\n{%- endfor %}\n{%- endif %}\n{%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n<|assistant|>\n{% endif -%}"
)
GLM_4_5V_TEMPLATE = (
    "[gMASK]<sop>\n{%- macro visible_text(content) -%}{%- if content is string -%}{{- content }}"
    "{%- elif content is iterable and content is not mapping -%}{%- for item in content -%}"
    "{%- if item is mapping and item.type == 'text' -%}{{- item.text }}"
    "{%- elif item is mapping and (item.type == 'image' or 'image' in item) -%}"
    "<|begin_of_image|><|image|><|end_of_image|>{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{%- for m in messages %}{%- if m.role == 'user' -%}<|user|>\n{{ visible_text(m.content) }}"
    "{{- '/nothink' if (enable_thinking is defined and not enable_thinking and "
    "not visible_text(m.content).endswith('/nothink')) else '' -}}"
    "{%- elif m.role == 'system' -%}<|system|>\n{{ visible_text(m.content) }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>"
    "{{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' -}}{%- endif -%}"
)
_SPECIALS = (
    "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|image|>", "<|video|>",
)  # fmt: skip


def _glm(kind: str):
    tokenizer = byte_level_tokenizer(_SPECIALS, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    named = {"image": "<|image|>", "video": "<|video|>", "image_start": "<|begin_of_image|>",
             "image_end": "<|end_of_image|>", "video_start": "<|begin_of_video|>",
             "video_end": "<|end_of_video|>"}  # fmt: skip
    tokens = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1], "partial_rotary_factor": 0.5}
    end = tokenizer.eos_token_id
    text = text_config(len(tokenizer), rope_parameters=rope, eos_token_id=end, pad_token_id=end)
    vision = {
        "depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 32, "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "image_size": 112, "initializer_range": 0.3,
    }  # fmt: skip
    # A picture counts as two frames: at least 28 × 28 and at most 40 tokens of 28 × 28.
    size = {"shortest_edge": 2 * 28**2, "longest_edge": 2 * 28**2 * 40}
    shared = {"size": size, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    if kind == "glm4v_moe":
        text |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        moe = Glm4vMoeConfig(text_config=text, vision_config=vision, **tokens)
        model, template = Glm4vMoeForConditionalGeneration(moe), GLM_4_5V_TEMPLATE
    elif kind == "glm46v":
        config = Glm46VConfig(
            text_config={"model_type": "glm4v_text", **text},
            vision_config={"model_type": "glm4v_vision", **vision}, **tokens,
        )  # fmt: skip
        parts = {"image_processor": Glm46VImageProcessor(**shared), "video_processor": Glm46VVideoProcessor(**shared)}
        processor = Glm46VProcessor(**parts, tokenizer=tokenizer, chat_template=GLM_4_5V_TEMPLATE)
        return Glm46VForConditionalGeneration(config), processor
    else:
        config = Glm4vConfig(text_config=text, vision_config=vision, **tokens)
        model, template = Glm4vForConditionalGeneration(config), GLM_4_1V_TEMPLATE
    parts = {"image_processor": Glm4vImageProcessor(**shared), "video_processor": Glm4vVideoProcessor(**shared)}
    return model, Glm4vProcessor(**parts, tokenizer=tokenizer, chat_template=template)


KINDS = {name: Kind(partial(_glm, name), token_pixels=28) for name in ("glm46v", "glm4v", "glm4v_moe")}
