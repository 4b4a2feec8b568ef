"""What one model answers: a batch encoded once, generated from plainly, its answers as text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from perception_gap.errors import GapcheckError
from perception_gap.models.context import check_fits
from perception_gap.models.endings import as_ids
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel

UNDEFINED = "the model produced NaN or infinite values; load it with --dtype float32 or bfloat16, or fetch it again"


def encode(
    loaded: LoadedModel, pictures: Sequence[Sequence[Image.Image]], prompts: Sequence[str], system: str | None
) -> Encoded:
    """A batch on the model's device, with the latent tokens of a model that has any, its pixels seen once.

    The images' features stand in place of their pixels (`mm_encoder_outputs`), so that all forwards of the batch share
    one pass of the vision tower; pixels stay for models whose forward does not take features. GapcheckError for a
    prompt that is longer than the model's context.
    """
    latents = loaded.latents
    if latents is not None and system is None:
        system = latents.system
    encoded = loaded.family.encode(pictures, prompts, system).to(loaded.device, loaded.dtype)
    check_fits(loaded.model.config, encoded.inputs["attention_mask"], "the prompt is too long")
    seen = vision(loaded, encoded)
    if seen is not None:
        inputs: dict[str, Any] = {name: value for name, value in encoded.inputs.items() if name != "pixel_values"}
        encoded = replace(encoded, inputs=inputs | {"mm_encoder_outputs": {"image": seen}})
    return encoded if latents is None else latents.extend(encoded)


@torch.inference_mode()
def vision(loaded: LoadedModel, encoded: Encoded) -> Any | None:
    """What the vision side gives for the images of a batch; None without images or where the forward takes none."""
    model: Any = loaded.model
    base = model.base_model
    takes = all("mm_encoder_outputs" in inspect.signature(part.forward).parameters for part in (model, base))
    if not takes or "pixel_values" not in encoded.inputs:
        return None
    accepted = inspect.signature(base.get_image_features).parameters
    return base.get_image_features(**{k: v for k, v in encoded.inputs.items() if k in accepted}, return_dict=True)


@torch.inference_mode()
def generate(loaded: LoadedModel, encoded: Encoded, max_new_tokens: int) -> list[list[int]]:
    """Answers as token ids, without special tokens and what follows the first end of text.

    No sampling, one beam; a repetition penalty that the checkpoint ships stays, as it does for its users.
    """
    model: Any = loaded.model
    config, pad = model.generation_config, pad_id(loaded)
    greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
    options = {"max_new_tokens": max_new_tokens, "pad_token_id": pad, "logits_processor": [refuse_undefined]}
    with loaded.reading(encoded):
        produced = model.generate(**encoded.inputs, **greedy, **options)
    new = produced[:, encoded.inputs["input_ids"].shape[1] :].tolist()
    ends = as_ids(config.eos_token_id)
    tokenizer = loaded.processor.tokenizer
    # Latent tokens that were added the plain way are special without being among `all_special_ids`.
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | {*tokenizer.all_special_ids}
    answers = []
    for row in new:
        cut = next((i for i, token in enumerate(row) if token in ends), len(row))
        answers.append([token for token in row[:cut] if token not in special])
    return answers


def refuse_undefined(ids: Tensor, scores: Tensor) -> Tensor:
    """A logits processor: GapcheckError for NaN and +inf, whose "answer" would be whatever token comes first."""
    if scores.isnan().any() or scores.isposinf().any():
        raise GapcheckError(UNDEFINED)
    return scores


def pad_id(loaded: LoadedModel) -> int:
    tokenizer = loaded.processor.tokenizer
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)


def encode_text(loaded: LoadedModel, text: str) -> list[int]:
    """A text as a model would write it: names of special tokens in it ("<|im_end|>") are letters, never control."""
    return list(loaded.processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)


def decode_answer(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """The text of an answer's tokens, without special tokens and outer blanks."""
    decode = loaded.processor.tokenizer.decode
    return str(decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
