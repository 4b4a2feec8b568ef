"""One question about one or more images: the unit that everything else measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def prompt_text(question: str, options: Sequence[str] = (), instruction: str = "") -> str:
    """The question as a model reads it: lettered options below it, then an instruction, each on its own line."""
    lines = [question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))]
    return "\n".join([*lines, instruction] if instruction else lines)


@dataclass(frozen=True)
class Sample:
    """images: file paths; boxes: xyxy in ORIGINAL pixels; box_images: which image each box lies on (0, 1, ..).

    `pair` ties samples that must be judged together (minimal pairs); `options` are the possible answers, shown
    with letters. `boxes` may be empty: what needs them is then undefined for this sample.
    """

    id: str
    images: tuple[Path, ...]
    question: str
    answer: str
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    box_images: tuple[int, ...] = ()
    options: tuple[str, ...] = ()
    task: str = "default"
    pair: str | None = None
