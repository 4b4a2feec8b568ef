"""What one model does with one batch: answer, then show where it looked while saying one given text.

Generation runs plainly; attention is read from one teacher-forced forward afterwards (DESIGN, decision 4).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perception_gap.attention.capture import AttentionCapture
from perception_gap.attention.heads import HeadCapture
from perception_gap.attention.sinks import SinkFinder
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.gaze.answer import UNDEFINED, pad_id
from perception_gap.models.context import check_fits
from perception_gap.models.families.encoded import Encoded, predicting
from perception_gap.models.loading import LoadedModel
from perception_gap.text.categories import Word, token_spans, tokens_of_words, words

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
    image_states: float32 [N, D], last hidden states (after the final norm) at the image tokens; None where not asked
    for.
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
    image_states: Tensor | None = None


def check_rows(rows: str, latents: bool = True) -> None:
    """UsageError unless `rows` is known and the model can have them; `latents`: whether it inserts latent tokens."""
    if rows not in ROWS:
        raise UsageError(f"rows {rows!r}: expected one of {', '.join(ROWS)}")
    if rows == "latent" and not latents:
        raise UsageError('rows "latent": this model has no latent tokens; use "answer", "question" or "response"')


@torch.inference_mode()
def look(
    loaded: LoadedModel,
    encoded: Encoded,
    answers: list[list[int]] | None,
    layers: str,
    rows: str = "answer",
    *,
    sinks: bool = False,
    per_head: bool = False,
    image_states: bool = False,
    by_word: bool = True,
) -> list[Gaze]:
    """One capture of a batch: of the answers' tokens (each by the query that predicts it), or of the questions'.

    answers None: the rows are those of the question's own tokens, which nothing predicts.
    rows: what the map averages, where there are answers: "answer", "latent" or "response" (both); words are always
    the answer's.
    sinks, per_head, image_states: whether to find the sinks, to keep the layers and heads of the map apart, and to keep
    the states at the image tokens, in the same forward. by_word: whether to tell the words apart and keep the states at
    them, which takes time for long texts; without it there are none (W = 0).
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
    gazes = []
    for b, (tokens, attention) in enumerate(zip(ids, capture.attention, strict=True)):
        of_text, of_latents, of_map = (mask[b][queries[b]].cpu().numpy() for mask in (text, latent, mapped))
        raw = _finite(attention)
        hidden = _finite(states[b][text[b].to(states.device)]) if by_word else None
        gaze = _gaze(tokenizer, tokens, raw[of_text], raw[of_map], raw[of_latents], hidden)
        if image_states:
            gaze = replace(gaze, image_states=_of_image(states[b], whole.image[b]))
        gazes.append(gaze)
    if finder is not None:
        gazes = [replace(gaze, sinks=mask) for gaze, mask in zip(gazes, finder.sinks, strict=True)]
    if heads is not None:
        gazes = [replace(gaze, heads=maps) for gaze, maps in zip(gazes, heads.heads, strict=True)]
    return gazes


def _of_image(states: Tensor, image: Tensor) -> Tensor:
    """[S, D], bool [S] → float32 [N, D], off the accelerator: those of a whole batch would fill it."""
    chosen = states[image.to(states.device)].float()
    if not torch.isfinite(chosen).all():
        raise GapcheckError(UNDEFINED)
    return chosen.cpu()


def _finite(values: Tensor) -> np.ndarray:
    array = values.float().cpu().numpy()
    if not np.isfinite(array).all():
        raise GapcheckError(UNDEFINED)
    return array


def _gaze(
    tokenizer: Any, ids: list[int], raw: np.ndarray, mapped: np.ndarray, latents: np.ndarray, hidden: np.ndarray | None
) -> Gaze:
    """raw, mapped, latents: rows [T, N] of the text, of what the map averages, of the latent tokens.

    hidden: [T, D]; None: no words are told apart.
    """
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    spoken: list[Word] = []
    word_maps, states = np.zeros((0, raw.shape[1]), np.float32), np.zeros((0, 0), np.float16)
    if hidden is not None:
        spoken, states = words(text), np.zeros((0, hidden.shape[1]), np.float16)
        groups = tokens_of_words(spoken, token_spans(tokenizer, ids))
        if groups:
            word_maps = np.stack([mean_rows(raw, group) for group in groups])
            states = np.stack([mean_rows(hidden, group) for group in groups]).astype(np.float16)
    return Gaze(
        text=text,
        words=spoken,
        map=mean_rows(mapped, list(range(len(mapped)))),
        word_maps=word_maps,
        hidden=states,
        mass=float(mapped.sum(1).mean()) if len(mapped) else float("nan"),
        latent_maps=latents,
    )


def mean_rows(values: np.ndarray, index: list[int]) -> np.ndarray:
    """Mean of the chosen rows; NaN where none is chosen (a word whose characters belong to another word's token)."""
    return values[index].mean(0) if index else np.full(values.shape[1], np.nan, values.dtype)
