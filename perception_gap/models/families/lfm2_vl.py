"""LFM2-VL: a small picture in its own shape; a large one stretched over square tiles, then once more as a whole."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size
from perception_gap.models.families.tiles import Tile


class Lfm2Vl(Family):
    """Tiles row by row, each with its tokens in raster order, the whole picture (thumbnail) last.

    The decoder mixes convolution and attention layers: only the latter have maps.
    """

    model_types: ClassVar[tuple[str, ...]] = ("lfm2_vl",)
    nested_images: ClassVar[bool] = True

    def _settings(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self.processor.image_processor, name) for name in names}

    def _cell(self) -> int:
        """Pixels of the resized image along one side of a token."""
        images = self.processor.image_processor
        return int(images.encoder_patch_size * images.downsample_factor)

    def _is_split(self, size: Size) -> bool:
        images = self.processor.image_processor
        if not images.do_image_splitting or images.min_tiles == images.max_tiles == 1:
            return False
        shared = self._settings("max_image_tokens", "encoder_patch_size", "downsample_factor", "max_pixels_tolerance")
        return bool(images._is_image_too_large(*size, **shared))

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        images, cell = self.processor.image_processor, self._cell()
        width, height = images.smart_resize(
            *size, **self._settings("downsample_factor", "min_image_tokens", "max_image_tokens", "encoder_patch_size")
        )
        whole = TokenGeometry.grid(height // cell, width // cell, image=image)
        if not self._is_split(size):
            return whole
        cols, rows, *_ = images._get_grid_layout(*size, **self._settings("min_tiles", "max_tiles", "tile_size"))
        tile = Tile.of_patches(images.tile_size, images.encoder_patch_size, images.downsample_factor)
        parts = [tile.grid(rows, cols, image=image), *([whole] if images.use_thumbnail else [])]
        return TokenGeometry.concatenate(parts)

    def largest_area(self) -> int:
        images = self.processor.image_processor
        if images.do_image_splitting and images.max_tiles > 1:
            return int(images.max_tiles * images.tile_size**2)
        return int(images.max_image_tokens * self._cell() ** 2)
