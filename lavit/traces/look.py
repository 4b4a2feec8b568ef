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

from perception_gap.attention.capture import AttentionCapture
from perception_gap.errors import GapcheckError
from perception_gap.gaze import forward
from perception_gap.geometry import TokenGeometry
from perception_gap.models.context import check_fits
from perception_gap.models.families.encoded import predicting
from perception_gap.models.loading import LoadedModel
from perception_gap.sample import Sample, prompt_text


@dataclass(frozen=True)
class Look:
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


@torch.inference_mode()
def look(
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
) -> list[Look]:
    """pooling: "mean" over the image tokens, or "gaze", weighted by the normalised map.

    GapcheckError when the model gives NaN, the processor refuses an image, or the text exceeds the model's context.
    """
    prompts = [prompt_text(s.question, s.options, instruction) for s in samples]
    encoded = forward.encode(loaded, pictures, prompts, system)
    ids = forward.generate(loaded, encoded, max_new_tokens)
    whole, answer = encoded.with_answers(ids, forward.pad_id(loaded))
    check_fits(loaded.model.config, whole.inputs["attention_mask"], "prompt and answer are too long together")
    capture = AttentionCapture(loaded.model, predicting(answer), whole.image, layers)
    with loaded.reading(encoded), capture:
        output = loaded.model.base_model(**whole.inputs, use_cache=False)
    decode = loaded.processor.tokenizer.decode
    found = []
    for b, (rows, geometry) in enumerate(zip(capture.attention, encoded.geometry, strict=True)):
        states = output.last_hidden_state[b]
        states = states[whole.image[b].to(states.device)].float()
        attention = rows.float().mean(0) if len(rows) else None
        if not (torch.isfinite(rows).all() and torch.isfinite(states).all()):
            raise GapcheckError("the model produced NaN or infinite values; load it with --dtype float32 or bfloat16")
        v_sem = pool(states, attention, pooling)
        found.append(
            Look(
                answer=decode(ids[b], skip_special_tokens=True, clean_up_tokenization_spaces=False).strip(),
                geometry=geometry,
                attention=None if attention is None else attention.cpu().numpy(),
                mass=float(rows.float().sum(1).mean()) if len(rows) else float("nan"),
                v_sem=None if v_sem is None else v_sem.cpu().numpy(),
                features=states.cpu().numpy() if features else None,
            )
        )
    return found


def pool(states: Tensor, attention: Tensor | None, pooling: str) -> Tensor | None:
    """[N, D] → [D]: "mean", or "gaze": Σ_j a_j h_j / Σ_j a_j. None without image tokens, or without a gaze."""
    if not len(states):
        return None
    if pooling == "mean":
        return states.mean(0)
    if attention is None or attention.sum() <= 0:
        return None
    weights = (attention / attention.max()).to(states.device)
    return weights @ states / weights.sum()
