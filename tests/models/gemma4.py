"""Gemma 4: a small one (per-layer embeddings, shared keys and values) and a large one (images seen both ways)."""

from __future__ import annotations

import json
from functools import partial

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Gemma4Config, Gemma4ForConditionalGeneration, Gemma4Processor, GemmaTokenizer
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor
from transformers.models.gemma4.video_processing_gemma4 import Gemma4VideoProcessor

from tests.models.common import SENTENCES, Kind, text_config

# That of the published checkpoints, without its tool, audio and video branches.
GEMMA4_TEMPLATE = (
    "{{- bos_token -}}{%- if (enable_thinking is defined and enable_thinking) or messages[0]['role'] == 'system' -%}"
    "{{- '<|turn>system\n' -}}{%- if enable_thinking is defined and enable_thinking -%}{{- '<|think|>\n' -}}"
    "{%- endif -%}{%- if messages[0]['role'] == 'system' -%}{%- if messages[0]['content'] is string -%}"
    "{{- messages[0]['content'] | trim -}}{%- else -%}{%- for item in messages[0]['content'] -%}"
    "{{- item['text'] | trim -}}{%- endfor -%}{%- endif -%}{%- endif -%}{{- '<turn|>\n' -}}{%- endif -%}"
    "{%- for message in messages -%}{%- if message['role'] != 'system' -%}{{- '<|turn>' + message['role'] + '\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] | trim -}}{%- else -%}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'text' -%}{{- item['text'] | trim -}}"
    "{%- elif item['type'] == 'image' -%}{{- '<|image|>' -}}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<turn|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|turn>model\n' -}}{%- endif -%}"
)
_NAMED = {
    "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>",
    "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
}  # fmt: skip


def _tokenizer() -> GemmaTokenizer:
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[
            "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n", *(f"<0x{byte:02X}>" for byte in range(256))
        ],
        initial_alphabet=list("▁abcdefghijklmnopqrstuvwxyz?,.:"),
        show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    return GemmaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        extra_special_tokens={**_NAMED, "start_token": "<|turn>", "end_token": "<turn|>"},
        model_max_length=4096,
    )


def _gemma4(large: bool):
    tokenizer = _tokenizer()
    images = Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70, pooling_kernel_size=3)
    video = Gemma4VideoProcessor(patch_size=4, max_soft_tokens=70, pooling_kernel_size=3)
    processor = Gemma4Processor(Gemma4AudioFeatureExtractor(), images, tokenizer, video, chat_template=GEMMA4_TEMPLATE)
    text = {
        **text_config(len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=2), "head_dim": 8,
        "global_head_dim": 16, "sliding_window": 64, "final_logit_softcapping": 30.0,
    }  # fmt: skip
    if large:  # keys that are values too in the global layers, experts, and no per-layer embeddings
        text |= {
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "attention_k_eq_v": True,
            "num_global_key_value_heads": 1, "use_bidirectional_attention": "vision", "hidden_size_per_layer_input": 0,
            "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16,
        }  # fmt: skip
    else:
        text |= {
            "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": len(tokenizer),
        }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "pooling_kernel_size": 3,
        "position_embedding_size": 256, "initializer_range": 0.3,
    }  # fmt: skip
    tokens = {f"{name}_id": tokenizer.convert_tokens_to_ids(_NAMED[name])
              for name in ("image_token", "boi_token", "eoi_token", "audio_token", "boa_token")}  # fmt: skip
    config = Gemma4Config(
        text_config=text, vision_config=vision, audio_config=None, video_token_id=processor.video_token_id,
        eoa_token_index=tokenizer.convert_tokens_to_ids(_NAMED["eoa_token"]), **tokens,
    )  # fmt: skip
    return Gemma4ForConditionalGeneration(config), processor


_MIXES = (".self_attn.o_proj.linear",)

KINDS = {
    "gemma4": Kind(partial(_gemma4, large=False), token_pixels=12, attention_outputs=_MIXES),
    "gemma4_large": Kind(partial(_gemma4, large=True), token_pixels=12, attention_outputs=_MIXES),
}
