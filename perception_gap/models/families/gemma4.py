"""Gemma 4: the image is resized whole to a budget of patches; one token is the mean of pool × pool of them."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size


class Gemma4(Family):
    """Tokens in raster order of the pooled grid, from `image_position_ids` [patches, (x, y)], −1 where padding is.

    Every picture is scaled up or down to the budget, each side to whole tokens, so its sides may scale differently.
    Larger models let image tokens see each other both ways in their sliding layers; layers that share keys and values
    have maps of their own, from their own queries.
    """

    model_types: ClassVar[tuple[str, ...]] = ("gemma4",)
    nested_images: ClassVar[bool] = True

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        pool = self.processor.image_processor.pooling_kernel_size
        cols, rows = ((inputs["image_position_ids"][index].amax(0) + 1) // pool).tolist()
        return TokenGeometry.grid(rows, cols, image=image)

    def largest_area(self) -> int:
        images = self.processor.image_processor
        return int(images.max_soft_tokens * (images.pooling_kernel_size * images.patch_size) ** 2)
