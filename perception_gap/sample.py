"""One question about one or more images: the unit that everything else measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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

    def unit_boxes(self, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """The boxes as float64 [M, 4], xyxy in fractions of their own image, clipped to it.

        `sizes`: (height, width) in pixels of every image of the sample, after EXIF orientation, as `TokenGeometry`
        sees it.
        """
        boxes = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
        height_width = np.asarray([sizes[image] for image in self.box_images], dtype=np.float64).reshape(-1, 2)
        return np.clip(boxes / height_width[:, [1, 0, 1, 0]], 0.0, 1.0)
