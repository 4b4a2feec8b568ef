"""Gemma 3: a picture squeezed into one square; with pan and scan a long one also as two to four crops of it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Placement, Size

_PAN_AND_SCAN = (
    "do_pan_and_scan",
    "pan_and_scan_min_crop_size",
    "pan_and_scan_max_num_crops",
    "pan_and_scan_min_ratio_to_activate",
)


class Gemma3(Family):
    """Tokens in raster order, each the mean of a square of patches; the whole picture first, then the crops in order.

    Image tokens of one square see each other in both directions (`token_type_ids`), squares see earlier ones only.
    Sliding layers hide squares that lie farther back than their window: there they have no attention at all.
    """

    model_types: ClassVar[tuple[str, ...]] = ("gemma3",)
    nested_images: ClassVar[bool] = True

    def image_options(self) -> dict[str, Any]:
        # The processor tells its image processor do_pan_and_scan=False in every call, so that what the checkpoint's
        # preprocessor_config.json asks for would never happen.
        settings = {name: getattr(self.processor.image_processor, name, None) for name in _PAN_AND_SCAN}
        return {name: value for name, value in settings.items() if value is not None}

    def _crops(self, size: Size) -> list[tuple[float, ...]]:
        """The rectangles (xyxy fractions) that pan and scan cuts out of an image."""
        settings = {**self.processor.images_kwargs, **self.image_options()}
        if not settings["do_pan_and_scan"]:
            return []
        height, width = size
        # Asked of the image processor itself, with an image without pixels.
        crops = self.processor.image_processor.pan_and_scan_batched(
            torch.empty(1, 3, height, width, device="meta"), **{name: settings[name] for name in _PAN_AND_SCAN[1:]}
        )
        rectangles: list[tuple[float, ...]] = []
        x = y = 0
        for crop in crops:  # side by side in a wide image, one below the other in a high one
            high, wide = crop.shape[-2:]
            rectangles.append((x / width, y / height, (x + wide) / width, (y + high) / height))
            x, y = (x + wide, y) if high == height else (x, y + high)
        return rectangles

    def _square(self, within: tuple[float, ...], image: int) -> TokenGeometry:
        vision, canvas = self.config.vision_config, self.processor.image_processor.size
        side = int(self.config.mm_tokens_per_image**0.5)
        cell = vision.image_size // vision.patch_size // side * vision.patch_size
        # The square shows `within`: this is where the whole picture would lie on the same scale.
        x0, y0, x1, y1 = within
        wide, high = canvas["width"] / (x1 - x0), canvas["height"] / (y1 - y0)
        return Placement(-x0 * wide, -y0 * high, wide, high).raster(side, side, (cell, cell), image=image)

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        squares = [self._square(crop, image) for crop in ((0.0, 0.0, 1.0, 1.0), *self._crops(size))]
        if len(squares) > 1:
            return TokenGeometry.concatenate(squares)
        side = int(self.config.mm_tokens_per_image**0.5)
        return TokenGeometry(squares[0].boxes, squares[0].image, (side, side))

    def largest_area(self) -> int:
        settings = {**self.processor.images_kwargs, **self.image_options()}
        squares = settings["pan_and_scan_max_num_crops"] if settings["do_pan_and_scan"] else 1
        size = self.processor.image_processor.size
        return int(size["height"] * size["width"] * squares)
