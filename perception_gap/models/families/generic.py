"""A model type without an adapter of its own, whose image tokens turn out to be one plain grid.

What can be checked is checked on opening, by the processor itself on two blank pictures: the number of image tokens is
that of the grid. What cannot be seen without the model is assumed, and said (`assumed`): that the tokens run row by
row from the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from perception_gap.errors import GapcheckError, UnsupportedModelError, UsageError, one_line
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Placement, Size
from perception_gap.models.families.llava import place

PROBES: tuple[Size, ...] = ((240, 320), (300, 200))  # (height, width)


@dataclass(frozen=True)
class _Grid:
    """rows × cols tokens of `cell` (height, width) pixels of the canvas on which `placement` puts the picture."""

    rows: int
    cols: int
    cell: Size
    placement: Placement
    canvas: Size


class Generic(Family):
    """One grid over the whole picture: from `image_grid_thw`, or a square that every picture is resized to.

    Raises UnsupportedModelError on opening where the processor's tokens are no such grid.
    """

    def __init__(self, config: Any, processor: Any) -> None:
        super().__init__(config, processor)
        self._cell = 0
        shown = [self._probe(size) for size in PROBES]
        grids = " and ".join(f"{grid.rows} × {grid.cols}" for grid in shown)
        self.assumed = (
            f"model type {self.name!r} has no adapter here: its image tokens are taken for one grid ({grids} for "
            f"pictures of {' and '.join(f'{w} × {h}' for h, w in PROBES)}), row by row from the top left"
        )
        self._canvas = shown[0].canvas

    @property
    def image_token_id(self) -> int:
        for holder in (self.config, self.config.vision_config):
            for name in ("image_token_id", "image_token_index"):
                token_id = getattr(holder, name, None)
                if isinstance(token_id, int):
                    return token_id
        raise self._refusal("its configuration names no image token")

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        grid = self._grid(inputs, index, size)
        whole = Placement(0, 0, grid.cols * grid.cell[1], grid.rows * grid.cell[0])
        if grid.placement == whole:
            return TokenGeometry.grid(grid.rows, grid.cols, image=image)
        return grid.placement.raster(grid.rows, grid.cols, grid.cell, image=image)

    def largest_area(self) -> int:
        limits = self.pixel_limits
        return limits[1] if limits else self._canvas[0] * self._canvas[1]

    @property
    def pixel_limits(self) -> tuple[int, int] | None:
        size = getattr(self.processor.image_processor, "size", None) or {}
        low, high = size.get("shortest_edge"), size.get("longest_edge")
        return (low, high) if low and high else None

    def set_pixel_limits(self, min_pixels: int | None, max_pixels: int | None) -> None:
        if self.pixel_limits is None:
            return super().set_pixel_limits(min_pixels, max_pixels)
        raise UsageError(
            f"min_pixels and max_pixels: {self.name} has no adapter here, so what its limits mean is not known; "
            "drop them"
        )

    def _probe(self, size: Size) -> _Grid:
        """The grid of a blank picture, its token count checked."""
        blank = Image.fromarray(np.full((*size, 3), 128, np.uint8))
        try:
            inputs = self._process([[blank]], [self.render(1, "What?")])
            count = int(self.image_tokens(inputs["input_ids"]).sum())
            grid = self._grid(inputs, 0, size, count)
        except UnsupportedModelError:
            raise
        except (GapcheckError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._refusal(one_line(error)) from error
        if grid.rows * grid.cols != count:
            raise self._refusal(
                f"a picture of {size[1]} × {size[0]} has {count} image tokens, {grid.rows} × {grid.cols} in its "
                "processor's grid"
            )
        return grid

    def _grid(self, inputs: dict[str, Tensor], index: int, size: Size, count: int | None = None) -> _Grid:
        images = self.processor.image_processor
        if "image_grid_thw" in inputs:
            if self.pixel_limits is None or getattr(images, "do_pad", False):
                raise self._refusal(
                    "its processor pads, or has no limits of area: how much of a grid is picture is not known"
                )
            merge = int(getattr(images, "merge_size", None) or getattr(images, "spatial_merge_size", None) or 1)
            frames, height, width = inputs["image_grid_thw"][index].tolist()
            if frames != 1:
                raise self._refusal(f"its processor makes {frames} frames of a picture")
            rows, cols = height // merge, width // merge
            return _Grid(rows, cols, (1, 1), Placement(0, 0, cols, rows), (rows, cols))
        pixels = inputs.get("pixel_values")
        if pixels is None or pixels.ndim != 4:
            shape = None if pixels is None else tuple(pixels.shape)
            raise self._refusal(f"its processor gives pixel_values of shape {shape}, not one canvas a picture")
        height, width = pixels.shape[-2:]
        if count is not None:
            self._cell = self._patch(count, height, width)
        rows, cols = height // self._cell, width // self._cell
        return _Grid(rows, cols, (self._cell, self._cell), place(images, size), (height, width))

    def _patch(self, count: int, height: int, width: int) -> int:
        """Side of a token in canvas pixels: the patch of the vision tower, or a whole number of patches."""
        patch = self.config.vision_config.patch_size
        sides = [patch * merge for merge in range(1, 9) if height % (patch * merge) == width % (patch * merge) == 0]
        fitting = [side for side in sides if (height // side) * (width // side) == count]
        if not fitting:
            raise self._refusal(
                f"{count} image tokens for a canvas of {width} × {height} in patches of {patch} are no grid"
            )
        return int(fitting[0])

    def _refusal(self, reason: str) -> UnsupportedModelError:
        from perception_gap.models.families import unsupported

        return unsupported(self.config, reason)
