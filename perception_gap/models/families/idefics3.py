"""Idefics3 and SmolVLM: tiles row by row, markers between them, then the whole image once more."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import torch
from torch import Tensor
from transformers.models.idefics3.image_processing_idefics3 import MAX_IMAGE_SIZE, get_resize_output_image_size

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size
from perception_gap.models.families.tiles import Tile


class Idefics3(Family):
    """The longest edge is scaled to a fixed length, up or down, then the image is stretched to whole tiles.

    Markers such as <row_1_col_2> and <global-img> are no image tokens. An image that fits one tile is that tile alone.
    """

    model_types: ClassVar[tuple[str, ...]] = ("idefics3", "smolvlm")
    nested_images: ClassVar[bool] = True

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        side = self._side()
        tile = Tile.of_patches(side, self.config.vision_config.patch_size, self.config.scale_factor)
        return tile.grid_and_whole(*self._tiles(size, side), image=image)

    def _side(self) -> int:
        return int(self.processor.image_processor.max_image_size["longest_edge"])

    def _tiles(self, size: Size, side: int) -> tuple[int, int]:
        """Rows and columns. `get_number_of_image_patches` is wrong where the longest edge is no multiple of a tile."""
        if not self.processor.image_processor.do_image_splitting:
            return 1, 1
        height, width = self._resized(size)
        if width >= height:
            cols = ceil(width / side)
            return ceil(int(cols * side / (width / height)) / side), cols
        rows = ceil(height / side)
        return rows, ceil(int(rows * side * (width / height)) / side)

    def _resized(self, size: Size) -> Size:
        """Height and width after the first resize."""
        images = self.processor.image_processor
        if not images.do_resize:
            return size
        if images.size.get("longest_edge"):
            shape = torch.empty(size, device="meta")
            return get_resize_output_image_size(shape, resolution_max_side=images.size["longest_edge"])
        return images.size["height"], images.size["width"]

    def largest_area(self) -> int:
        if not self.processor.image_processor.do_image_splitting:
            return self._side() ** 2
        height, width = self._resized((MAX_IMAGE_SIZE, MAX_IMAGE_SIZE))
        return height * width
