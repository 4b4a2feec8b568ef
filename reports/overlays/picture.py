"""The pictures of a sample as figures show them; a file that is gone or damaged is a picture without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from skimage.transform import resize

from perception_gap.runs.run import Run
from reports.pictures import PictureError, open_pictures

LONG_SIDE = 336  # pixels of a painted picture: finer than a panel of two inches shows at 150 dpi
ASPECT = 6.0  # a picture longer than this is stretched to it: a true one would be a line


@dataclass(frozen=True)
class Picture:
    """One picture of a sample: float RGB [rows, cols, 3], or None and why it is `lost`; reference boxes in pixels."""

    name: str
    pixels: np.ndarray | None
    width: float
    height: float
    boxes: np.ndarray
    lost: str = ""

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
    shape, lost = raster_shape(sample), ""
    pixels: list[np.ndarray | None] = [None] * len(sample["images"])
    try:
        pixels = [rgb(picture, shape) for picture in shown_pictures(run, sample["sample_id"])]
    except PictureError as error:
        lost = str(error)
    sizes = zip(sample["images"], sample["heights"], sample["widths"], pixels, strict=True)
    return [
        Picture(Path(name).name, array, float(w), float(h), boxes[owners == i], lost)
        for i, (name, h, w, array) in enumerate(sizes)
    ]


def shown_pictures(run: Run, sample_id: str) -> list[Image.Image]:
    """The sample's pictures; PictureError where they are not to be shown."""
    return open_pictures(run.image_paths(sample_id), run.row(sample_id)["image_hash"], run.picture_folders())


def rgb(picture: Image.Image, shape: tuple[int, int]) -> np.ndarray:
    """The picture as float RGB [rows, cols, 3] in 0..1."""
    small = picture
    small.thumbnail((4 * LONG_SIDE, 4 * LONG_SIDE))  # a photograph of 100 megapixels is 2.4 GB as floats
    return resize(np.asarray(small, dtype=np.float64) / 255, shape, anti_aliasing=True).clip(0, 1)
