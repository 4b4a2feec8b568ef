"""LLaVA-NeXT: the whole image once, then its tiles as one raster, cut back to the picture, a newline after each row."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from perception_gap.errors import UnsupportedModelError
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Placement, Size
from perception_gap.models.families.llava import Llava
from perception_gap.models.families.tiles import Tile, raster


class LlavaNext(Llava):
    """Base tile first (stretched to a square), then the tiles' patches merged into one raster of the padded canvas.

    Rows and columns of pure padding are dropped; newline tokens carry the image id and cover nothing.
    """

    model_types: ClassVar[tuple[str, ...]] = ("llava_next",)

    def _render_without_template(self, n_images: int, text: str, system: str | None) -> str:
        # Its checkpoints stand on several language models, each with a format of its own: LLaVA-1.5's is no fallback.
        return Family._render_without_template(self, n_images, text, system)

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        if self._leading() != 0:
            raise UnsupportedModelError(
                f"{self.name} that keeps the CLS token of every tile has no raster: expected "
                'vision_feature_select_strategy "default" with a CLS token or "full" without'
            )
        pixels = int(inputs["pixel_values"][index].shape[-1])
        tile = Tile.of_patches(pixels, int(self.processor.patch_size))
        xs, ys = picture_spans(self.processor.image_processor, size, tile, pixels)
        return TokenGeometry.concatenate([tile.grid(1, 1, image=image), raster_with_newlines(xs, ys, image)])

    def largest_area(self) -> int:
        return largest_canvas(self.processor.image_processor)


def largest_canvas(processor: Any) -> int:
    """Pixels of the largest canvas that an image processor with `image_grid_pinpoints` cuts into tiles."""
    return int(max(height * width for height, width in processor.image_grid_pinpoints))


def picture_spans(processor: Any, size: Size, tile: Tile, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns [C, 2] and rows [R, 2] of the tiles' patches as one raster, cut back to the picture; fractions of it.

    tile: one tile's tokens; pixels: its side.
    """
    canvas = select_best_resolution(size, processor.image_grid_pinpoints)
    ys, xs = (tile.spans(length // pixels) * pixels for length in canvas)
    cut_rows, cut_cols = _unpadding(size, len(ys), len(xs))
    ys, xs = ys[cut_rows : len(ys) - cut_rows], xs[cut_cols : len(xs) - cut_cols]
    whole = _placement(size, canvas)
    return (xs - whole.x) / whole.width, (ys - whole.y) / whole.height


def raster_with_newlines(xs: np.ndarray, ys: np.ndarray, image: int) -> TokenGeometry:
    """Tokens row by row, each row closed by a newline token that covers nothing."""
    boxes = raster(xs, ys).boxes.reshape(len(ys), len(xs), 4)
    closed = np.concatenate([boxes, np.zeros((len(ys), 1, 4))], axis=1).reshape(-1, 4)
    return TokenGeometry(closed, np.full(len(closed), image))


def _placement(size: Size, canvas: Size) -> Placement:
    """The image keeps its aspect ratio, fills the canvas one way and is centred the other way."""
    height, width = size
    scale_h, scale_w = canvas[0] / height, canvas[1] / width
    if scale_w < scale_h:
        new_h, new_w = min(int(np.ceil(height * scale_w)), canvas[0]), canvas[1]
    else:
        new_h, new_w = canvas[0], min(int(np.ceil(width * scale_h)), canvas[1])
    return Placement((canvas[1] - new_w) // 2, (canvas[0] - new_h) // 2, new_w, new_h)


def _unpadding(size: Size, rows: int, cols: int) -> tuple[int, int]:
    """Rows cut at top and bottom, and columns cut at left and right, as the model does it (on the token raster)."""
    height, width = size
    if width / height > cols / rows:
        return (rows - int(round(height * (cols / width), 7))) // 2, 0
    return 0, (cols - int(round(width * (rows / height), 7))) // 2
