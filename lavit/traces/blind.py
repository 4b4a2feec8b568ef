"""Who answers without seeing: the teacher itself, another vision-language model, or a plain language model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from perception_gap.errors import UnsupportedModelError, UsageError, one_line
from perception_gap.gaze.answer import decode_answer, encode, generate
from perception_gap.models import loading
from perception_gap.models.context import check_fits
from perception_gap.models.endings import end_ids
from perception_gap.models.families.base import refuse_control_tokens
from perception_gap.models.files import locate
from perception_gap.models.loading import LoadedModel
from perception_gap.models.placement import choose_device, choose_dtype, on_cpu, quantized
from perception_gap.models.weights import shapes

Ask = Callable[[list[str]], list[str]]


def without_image(loaded: LoadedModel, system: str | None, max_new_tokens: int) -> Ask:
    """prompts → answers of a vision-language model whose prompts hold no image."""

    def ask(prompts: list[str]) -> list[str]:
        encoded = encode(loaded, [[] for _ in prompts], prompts, system)
        return [decode_answer(loaded, ids) for ids in generate(loaded, encoded, max_new_tokens)]

    return ask


def open_text_model(name: str, system: str | None, max_new_tokens: int, load: dict[str, Any]) -> tuple[Ask, str]:
    """(prompts → answers, revision) of a model that `perception_gap.load` opens or of a plain causal language model.

    load: the options of `perception_gap.load`; pixel limits and revision are the teacher's and do not count here.
    UsageError for what neither opens, and for a language model without a chat template.
    """
    options = {k: v for k, v in load.items() if k not in ("revision", "min_pixels", "max_pixels")}
    try:
        loading.require_supported(name, trust_remote_code=options.get("trust_remote_code", False))
    except UnsupportedModelError:  # no vision-language model: then a language model
        return _language_model(name, system, max_new_tokens, **options)
    loaded = loading.load(name, **options)
    return without_image(loaded, system, max_new_tokens), loaded.revision


def check_text_model(name: str, load: dict[str, Any]) -> None:
    """UsageError for what `open_text_model` would refuse before it reads weights; hours before it is needed."""
    trust = load.get("trust_remote_code", False)
    try:
        loading.require_supported(name, trust_remote_code=trust)
    except UnsupportedModelError:
        _tokenizer(name, locate(name, None), trust)


def _tokenizer(name: str, place: Any, trust_remote_code: bool) -> Any:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            place.source, trust_remote_code=trust_remote_code, **place.options
        )
    except Exception as error:  # what a damaged tokenizer.json raises
        raise UsageError(f"--text-model {name!r}: its tokenizer does not load: {one_line(error)}") from error
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(f"--text-model {name!r} has no chat template: use an instruction-tuned model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _language_model(
    name: str,
    system: str | None,
    max_new_tokens: int,
    device: str = "auto",
    dtype: str = "auto",
    device_map: Any = None,
    attn: str = "sdpa",
    quantization: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Ask, str]:
    wanted = choose_device(device)
    place = locate(name, None)
    tokenizer = _tokenizer(name, place, trust_remote_code)
    options: dict[str, Any] = {
        "dtype": choose_dtype(dtype, on_cpu(wanted, device_map)),
        "attn_implementation": attn,
        "device_map": device_map if device_map is not None else {"": wanted},
        "trust_remote_code": trust_remote_code,
        **place.options,
    }
    if quantization is not None:
        options["quantization_config"] = quantized(quantization)
    if os.path.isdir(place.source):
        shapes(Path(place.source))
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(place.source, use_safetensors=True, **options).eval()
    except (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"--text-model {name!r} does not load: {one_line(error)}") from error
    model.generation_config.eos_token_id = end_ids(model, tokenizer) or None
    before = [{"role": "system", "content": system}] if system is not None else []

    @torch.inference_mode()
    def ask(prompts: list[str]) -> list[str]:
        for text in (*prompts, *([system] if system is not None else [])):
            refuse_control_tokens(tokenizer, "prompt", text, name)
        texts = [
            tokenizer.apply_chat_template(
                [*before, {"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
            for prompt in prompts
        ]
        # The template wrote the special tokens already.
        padding = {"padding": True, "padding_side": "left"}
        options = {"return_tensors": "pt", "add_special_tokens": False, "return_token_type_ids": False}
        inputs = tokenizer(texts, **padding, **options).to(model.device)
        check_fits(model.config, inputs["attention_mask"], "the prompt is too long")
        greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
        pad_id = tokenizer.pad_token_id
        produced = model.generate(**inputs, max_new_tokens=max_new_tokens, **greedy, pad_token_id=pad_id)
        new = produced[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]

    return ask, loading.revision_of(name) or str(getattr(model.config, "_commit_hash", None))
