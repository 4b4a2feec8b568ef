"""The pictures of a sample as figures show them; a file that is gone or damaged is a picture without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.transform import resize

from perception_gap.datasets.images import open_image
from perception_gap.errors import GapcheckError
from perception_gap.store import Run

LONG_SIDE = 336  # pixels of a painted picture: finer than a panel of two inches shows at 150 dpi
ASPECT = 6.0  # a picture longer than this is stretched to it: a true one would be a line


@dataclass(frozen=True)
class Picture:
    """One picture of a sample: float RGB [rows, cols, 3] or None where its file is gone; reference boxes in pixels."""

    name: str
    pixels: np.ndarray | None
    width: float
    height: float
    boxes: np.ndarray

    @property
    def aspect(self) -> float:
        """Height over width, as it is shown."""
        return float(np.clip(self.height / self.width, 1 / ASPECT, ASPECT))


def raster_shape(sample: pd.Series) -> tuple[int, int]:
    """(rows, cols) of the painted pictures of a sample: the first picture's aspect, its long side `LONG_SIDE`."""
    height, width = float(sample["heights"][0]), float(sample["widths"][0])
    scale = LONG_SIDE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def pictures_of(run: Run, sample: pd.Series) -> list[Picture]:
    """The sample's pictures in the order of the prompt; `run` is the one that the row is from."""
    boxes = np.asarray(list(sample["boxes"]), dtype=float).reshape(-1, 4)
    owners = np.asarray(list(sample["box_images"]), dtype=int)
    shape = raster_shape(sample)
    return [
        Picture(Path(name).name, read_picture(run.path / name, shape), float(w), float(h), boxes[owners == i])
        for i, (name, h, w) in enumerate(zip(sample["images"], sample["heights"], sample["widths"], strict=True))
    ]


def read_picture(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The picture as float RGB [rows, cols, 3] in 0..1, or None when the file is gone or cannot be read."""
    try:
        small = open_image(path)
    except GapcheckError:
        return None
    small.thumbnail((4 * LONG_SIDE, 4 * LONG_SIDE))  # a photograph of 100 megapixels is 2.4 GB as floats
    return resize(np.asarray(small, dtype=np.float64) / 255, shape, anti_aliasing=True).clip(0, 1)
