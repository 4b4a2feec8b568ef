"""One question about one or more images: the unit that everything else measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

# What the numbers of a box may be in data: corners, or (xywh) a corner, width and height in pixels.
UNITS = ("pixels", "fractions", "thousandths", "xywh")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def prompt_text(question: str, options: Sequence[str] = (), instruction: str = "") -> str:
    """The question as a model reads it: lettered options below it, then an instruction, each on its own line."""
    lines = [question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))]
    return "\n".join([*lines, instruction] if instruction else lines)


@dataclass(frozen=True)
class Sample:
    """images: file paths; boxes: xyxy in ORIGINAL pixels; box_images: which image each box lies on (0, 1, ..).

    `pair` ties samples that must be judged together (minimal pairs); `options` are the possible answers, shown
    with letters. `boxes` may be empty: what needs them is then undefined for this sample. fractions: the boxes are
    in fractions of their image instead, as long as its size is not known (see `in_pixels`). fault: why nothing can
    be measured, where that is known from the data alone.
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
    fractions: bool = False
    fault: str | None = None

    def in_pixels(self, sizes: Sequence[tuple[int, int]]) -> Sample:
        """The same with its boxes in pixels; `sizes`: as for `unit_boxes`."""
        if not self.fractions:
            return self
        scales = [(sizes[image][1], sizes[image][0]) for image in self.box_images]
        boxes = tuple(
            (x0 * w, y0 * h, x1 * w, y1 * h) for (x0, y0, x1, y1), (w, h) in zip(self.boxes, scales, strict=True)
        )
        return replace(self, boxes=boxes, fractions=False)

    def box_fields(self) -> dict[str, list[Any]]:
        """The boxes as a row keeps them, flat and in pixels; none of fractions, whose pixels are not known."""
        boxes = [] if self.fractions else [float(v) for box in self.boxes for v in box]
        return {"boxes": boxes, "box_images": list(self.box_images) if boxes else []}

    def unit_boxes(self, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """The boxes as float64 [M, 4], xyxy in fractions of their own image, clipped to it.

        `sizes`: (height, width) in pixels of every image of the sample, after EXIF orientation, as `TokenGeometry`
        sees it.
        """
        boxes = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
        height_width = np.asarray([sizes[image] for image in self.box_images], dtype=np.float64).reshape(-1, 2)
        return np.clip(boxes / height_width[:, [1, 0, 1, 0]], 0.0, 1.0)
