"""How a model is asked: what stands around a question, how large a picture may be, how long an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompting:
    """instruction: a line after every question. system: the system prompt, None for the model's own.

    most_pixels: a larger picture is shrunk to so many pixels before the model's own processor sees it.
    """

    instruction: str = ""
    system: str | None = None
    most_pixels: int | None = None
    max_new_tokens: int = 32
