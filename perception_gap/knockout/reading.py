"""How probable an answer is, teacher-forced, and whether greedy decoding would write just this one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perception_gap.attention.capture import find_decoder
from perception_gap.errors import GapcheckError, UnsupportedModelError
from perception_gap.gaze.answer import pad_id
from perception_gap.models.endings import as_ids
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel

# What `generate` does to logits or to the text beyond taking the largest, by name in the generation config: neutral at
# 1, at 0, and None.
_FACTORS = "repetition_penalty encoder_repetition_penalty guidance_scale"
_COUNTS = "no_repeat_ngram_size encoder_no_repeat_ngram_size min_length min_new_tokens"
_ABSENT = (
    "bad_words_ids suppress_tokens begin_suppress_tokens forced_bos_token_id forced_eos_token_id sequence_bias "
    "exponential_decay_length_penalty stop_strings watermarking_config max_time"
)
_NEUTRAL: dict[str, float | None] = {
    **dict.fromkeys(_FACTORS.split(), 1.0),
    **dict.fromkeys(_COUNTS.split(), 0),
    **dict.fromkeys(_ABSENT.split()),
}


@dataclass(frozen=True)
class Reading:
    """Of B given answers. log_probability: float64 [B], nats, the sum over the answer's tokens; NaN for an empty one.

    greedy: bool [B], whether each token and the end behind them is the most probable one, by a lead that rounding
    cannot turn.
    """

    log_probability: np.ndarray
    greedy: np.ndarray


@torch.inference_mode()
def read(loaded: LoadedModel, encoded: Encoded, answers: Sequence[Sequence[int]], max_new_tokens: int) -> Reading:
    """One forward of prompts and answers; logits of the positions that predict an answer's token or end, no others.

    GapcheckError for logits of NaN or +inf, UnsupportedModelError where a model cannot leave logits out.
    """
    model: Any = loaded.model
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModelError(
            f"{type(model).__name__} gives the logits of all positions at once, which is more than memory holds: "
            "leave --knockout out"
        )
    whole, _ = encoded.with_answers(answers, pad_id(loaded))
    start, stop = encoded.image.shape[1], whole.image.shape[1]
    keep = torch.arange(start - 1, stop, device=whole.image.device)
    with loaded.reading(encoded):
        logits = model(**whole.inputs, use_cache=False, logits_to_keep=keep).logits
    ends = as_ids(model.generation_config.eos_token_id)
    sums, greedy = [], []
    for b, ids in enumerate(answers):
        read_answer = _of_answer(logits[b, : len(ids) + 1], list(ids), [] if len(ids) >= max_new_tokens else ends)
        sums.append(read_answer[0])
        greedy.append(read_answer[1])
    return Reading(np.array(sums), np.array(greedy))


def _of_answer(logits: Tensor, ids: list[int], ends: list[int]) -> tuple[float, bool]:
    """logits: [T + 1, V] of an answer of T tokens; ends: ids that end it, [] where the limit did."""
    lead = 1e-3 if logits.dtype == torch.float32 else 0.25  # half precision: two steps of a logit near 16
    values = logits.float()
    if values.isnan().any() or values.isposinf().any():  # a model may forbid tokens by -inf
        raise GapcheckError(
            "the model produced NaN or infinite logits; load it with --dtype float32 or bfloat16, or fetch it again"
        )
    targets = torch.as_tensor(ids, device=values.device, dtype=torch.long)
    chosen = values[: len(ids)].gather(1, targets[:, None])[:, 0] - values[: len(ids)].logsumexp(1)
    best, token = values.topk(2, dim=1)
    sure = best[:, 0] - best[:, 1] > lead
    decided = len(ids) + bool(ends)
    greedy = bool(sure[:decided].all()) and token[: len(ids), 0].tolist() == ids
    if ends:
        greedy = greedy and int(token[-1, 0]) in ends
    return (float(chosen.double().sum()) if ids else float("nan")), greedy


def plain_greedy(loaded: LoadedModel) -> bool:
    """Whether `generate` writes the most probable token each time: no penalty, no forbidden or forced one."""
    config: Any = loaded.model.generation_config
    return all(getattr(config, name, None) in (None, neutral) for name, neutral in _NEUTRAL.items())


@contextmanager
def remembering(loaded: LoadedModel, length: int) -> Iterator[None]:
    """While open, generation of up to `length` positions gives every layer all keys, as a Gate needs them.

    The cache of a layer with a sliding window forgets the keys before it; such models generate without a cache.
    """
    config: Any = getattr(find_decoder(loaded.model), "config", None)
    kinds = getattr(config, "layer_types", None) or ()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    slides = any(kind.startswith(("sliding", "chunked")) for kind in kinds) if kinds else any(windows)
    generation: Any = loaded.model.generation_config
    before = generation.use_cache
    if slides and length > min((w for w in windows if w), default=0):
        generation.use_cache = False
    try:
        yield
    finally:
        generation.use_cache = before
