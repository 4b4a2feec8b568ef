"""Whose attention is cut, as masks over the positions of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from perception_gap.models.families.encoded import Encoded


def rows_of(rows: str, encoded: Encoded, start: int) -> Tensor:
    """bool [B, S], the positions whose attention is cut; `encoded`: prompts, alone or followed by answers.

    "answer": the queries that predict the answer's tokens and its end, from `start` − 1, the last position of the
    prompt, on. "question": tokens of the question's text. "text": every position behind the last image token (question,
    template, latents, answer); none without an image.
    """
    visible = encoded.inputs["attention_mask"].bool()
    if rows == "question":
        return encoded.question & visible
    if rows == "answer":
        return visible & (torch.arange(visible.shape[1], device=visible.device) >= start - 1)
    image = encoded.image
    behind = (image.cumsum(1) == image.sum(1, keepdim=True)) & ~image & image.any(1, keepdim=True)
    return behind & visible


def written_under(rows: str) -> bool:
    """Whether the tokens that the model writes are cut as well, each while it predicts the next."""
    return rows != "question"
