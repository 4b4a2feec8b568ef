"""What one model does with one batch: answer, then show where it looked while saying one given text.

Generation runs plainly; attention is read from one teacher-forced forward afterwards (DESIGN, decision 4).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from perception_gap.attention.capture import AttentionCapture
from perception_gap.attention.heads import HeadCapture
from perception_gap.attention.sinks import SinkFinder
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.models.context import check_fits
from perception_gap.models.endings import as_ids
from perception_gap.models.families.encoded import Encoded, predicting
from perception_gap.models.loading import LoadedModel
from perception_gap.text.categories import Word, token_spans, tokens_of_words, words

_UNDEFINED = "the model produced NaN or infinite values; load it with --dtype float32 or bfloat16, or fetch it again"
ROWS = ("answer", "question", "latent", "response")


@dataclass(frozen=True)
class Gaze:
    """Where a model looked while reading or saying one text of T tokens and W words, over N image tokens.

    map: float32 [N], raw rows averaged over heads, layers and tokens (not normalised); NaN when the text is empty.
    word_maps: float32 [W, N], the same per word. hidden: float16 [W, D], last hidden states
    at the positions of the rows.
    mass: mean share of a text token's attention that goes to the image at all, 0..1.
    latent_maps: float32 [K, N], the raw rows of the latent tokens before the text (K = 0 without them).
    sinks: bool [N], the image tokens that are attention sinks; None where undefined or not asked for (see `sinks`).
    heads: float32 [L, H, N], as `map` with layers and heads apart; None where not asked for.
    """

    text: str
    words: list[Word]
    map: np.ndarray
    word_maps: np.ndarray
    hidden: np.ndarray
    mass: float
    latent_maps: np.ndarray
    sinks: np.ndarray | None = None
    heads: np.ndarray | None = None


def check_rows(rows: str, latents: bool = True) -> None:
    """UsageError unless `rows` is known and the model can have them; `latents`: whether it inserts latent tokens."""
    if rows not in ROWS:
        raise UsageError(f"rows {rows!r}: expected one of {', '.join(ROWS)}")
    if rows == "latent" and not latents:
        raise UsageError('rows "latent": this model has no latent tokens; use "answer", "question" or "response"')


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
    with loaded.reading(encoded):
        produced = model.generate(
            **encoded.inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, pad_token_id=pad,
            temperature=None, top_p=None, top_k=None, logits_processor=[refuse_undefined],
        )  # fmt: skip
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
        raise GapcheckError(_UNDEFINED)
    return scores


def pad_id(loaded: LoadedModel) -> int:
    tokenizer = loaded.processor.tokenizer
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)


def encode_text(loaded: LoadedModel, text: str) -> list[int]:
    """A text as a model would write it: names of special tokens in it ("<|im_end|>") are letters, never control."""
    return list(loaded.processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)


@torch.inference_mode()
def gaze(
    loaded: LoadedModel, encoded: Encoded, answers: list[list[int]] | None, layers: str, rows: str = "answer",
    *, sinks: bool = False, per_head: bool = False,
) -> list[Gaze]:  # fmt: skip
    """One capture of a batch: of the answers' tokens (each by the query that predicts it), or of the questions'.

    answers None: the rows are those of the question's own tokens, which nothing predicts.
    rows: what the map averages, where there are answers: "answer", "latent" or "response" (both); words are always
    the answer's.
    sinks, per_head: whether to find the sinks, and to keep the layers and heads of the map apart, in the same forward.
    """
    if answers is None:
        whole, text = encoded, encoded.question
        ids = [row[mask].tolist() for row, mask in zip(whole.inputs["input_ids"], text, strict=True)]
    else:
        whole, answer = encoded.with_answers(answers, pad_id(loaded))
        text, ids = predicting(answer), answers
    check_fits(loaded.model.config, whole.inputs["attention_mask"], "prompt and text are too long together")
    latent = torch.zeros_like(text) if whole.latent is None else whole.latent
    queries = text | latent
    mapped = text if answers is None else {"answer": text, "latent": latent, "response": queries}[rows]
    capture = AttentionCapture(loaded.model, queries, whole.image, layers)
    heads = HeadCapture(loaded.model, mapped, whole.image, layers) if per_head else None
    visible = whole.inputs["attention_mask"].bool()
    finder = SinkFinder(loaded.model, visible, whole.image, layers) if sinks else None
    with loaded.reading(encoded), ExitStack() as watching:
        for watcher in (capture, heads, finder):
            if watcher is not None:
                watching.enter_context(watcher)
        # The base model: no vocabulary-sized logits for positions whose attention is all we want.
        output = loaded.model.base_model(**whole.inputs, use_cache=False)
    tokenizer, states = loaded.processor.tokenizer, output.last_hidden_state
    found = []
    for b, (tokens, attention) in enumerate(zip(ids, capture.attention, strict=True)):
        of_text, of_latents, of_map = (mask[b][queries[b]].cpu().numpy() for mask in (text, latent, mapped))
        raw = _finite(attention)
        hidden = _finite(states[b][text[b].to(states.device)])
        found.append(_gaze(tokenizer, tokens, raw[of_text], raw[of_map], raw[of_latents], hidden))
    if finder is not None:
        found = [replace(one, sinks=mask) for one, mask in zip(found, finder.sinks, strict=True)]
    if heads is not None:
        found = [replace(one, heads=maps) for one, maps in zip(found, heads.heads, strict=True)]
    return found


def _finite(values: Tensor) -> np.ndarray:
    array = values.float().cpu().numpy()
    if not np.isfinite(array).all():
        raise GapcheckError(_UNDEFINED)
    return array


def _gaze(
    tokenizer, ids: list[int], raw: np.ndarray, mapped: np.ndarray, latents: np.ndarray, hidden: np.ndarray
) -> Gaze:
    """raw, mapped, latents: rows [T, N] of the text, of what the map averages, of the latent tokens."""
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    found = words(text)
    groups = tokens_of_words(found, token_spans(tokenizer, ids))
    return Gaze(
        text=text,
        words=found,
        map=_mean(mapped, list(range(len(mapped)))),
        word_maps=np.stack([_mean(raw, g) for g in groups]) if groups else np.zeros((0, raw.shape[1]), np.float32),
        hidden=np.stack([_mean(hidden, g) for g in groups]).astype(np.float16)
        if groups
        else np.zeros((0, hidden.shape[1]), np.float16),
        mass=float(mapped.sum(1).mean()) if len(mapped) else float("nan"),
        latent_maps=latents,
    )


def _mean(values: np.ndarray, index: list[int]) -> np.ndarray:
    """Mean of the chosen rows; NaN where none is chosen (a word whose characters belong to another word's token)."""
    return values[index].mean(0) if index else np.full(values.shape[1], np.nan, values.dtype)
