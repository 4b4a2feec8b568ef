"""One teacher on one batch: its answer, where it looked while saying it, and its states at the image tokens.

One processing of the images, one pass of the vision tower, one generation and one capture forward a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from perception_gap.gaze.answer import decode_answer, encode, generate
from perception_gap.gaze.look import look
from perception_gap.geometry import TokenGeometry
from perception_gap.models.loading import LoadedModel
from perception_gap.sample import Sample, prompt_text


@dataclass(frozen=True)
class TeacherLook:
    """What a teacher did with one sample of N image tokens, at hidden width D.

    attention: float32 [N], raw, averaged over heads, layers and answer tokens; None when the answer is empty.
    mass: mean share of an answer token's attention that goes to the image, NaN when the answer is empty.
    v_sem: float32 [D], last hidden states (after the final norm) at the image tokens, pooled; None where undefined.
    features: float32 [N, D], the same before pooling, if asked for.
    """

    answer: str
    geometry: TokenGeometry
    attention: np.ndarray | None
    mass: float
    v_sem: np.ndarray | None
    features: np.ndarray | None = None


def teacher_looks(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    pictures: Sequence[Sequence[Image.Image]],
    *,
    pooling: str = "mean",
    layers: str = "all",
    instruction: str = "",
    system: str | None = None,
    max_new_tokens: int = 32,
    features: bool = False,
) -> list[TeacherLook]:
    """pooling: "mean" over the image tokens, or "gaze", weighted by the normalised map.

    GapcheckError when the model gives NaN, the processor refuses an image, or the text exceeds the model's context.
    """
    prompts = [prompt_text(s.question, s.options, instruction) for s in samples]
    encoded = encode(loaded, pictures, prompts, system)
    ids = generate(loaded, encoded, max_new_tokens)
    gazes = look(loaded, encoded, ids, layers, image_states=True, by_word=False)
    looks = []
    for answer, geometry, gaze in zip(ids, encoded.geometry, gazes, strict=True):
        assert gaze.image_states is not None
        attention = gaze.map if answer else None
        v_sem = pool(gaze.image_states, attention, pooling)
        looks.append(
            TeacherLook(
                answer=decode_answer(loaded, answer),
                geometry=geometry,
                attention=attention,
                mass=gaze.mass,
                v_sem=None if v_sem is None else v_sem.cpu().numpy(),
                features=gaze.image_states.cpu().numpy() if features else None,
            )
        )
    return looks


def pool(states: Tensor, attention: np.ndarray | Tensor | None, pooling: str) -> Tensor | None:
    """[N, D] → [D]: "mean", or "gaze": Σ_j a_j h_j / Σ_j a_j. None without image tokens, or without a gaze."""
    if not len(states):
        return None
    if pooling == "mean":
        return states.mean(0)
    if attention is None or attention.sum() <= 0:
        return None
    weights = torch.as_tensor(attention / attention.max()).to(states)
    return weights @ states / weights.sum()
