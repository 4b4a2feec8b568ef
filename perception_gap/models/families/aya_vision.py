"""Aya Vision and Command A Vision: the picture stretched over a raster of square tiles, then once more as a whole."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from transformers.models.cohere2_vision import image_processing_cohere2_vision
from transformers.models.got_ocr2 import image_processing_got_ocr2

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size
from perception_gap.models.families.tiles import Tile


class AyaVision(Family):
    """Tiles row by row, each with its tokens in raster order, the whole picture (thumbnail) last.

    A picture that fits one tile has no thumbnail. Marks between the tiles (TILE_1, line breaks) are ordinary tokens.
    Its raster of tiles is the one whose shape is nearest to the picture's.
    """

    model_types: ClassVar[tuple[str, ...]] = ("aya_vision",)

    @staticmethod
    def _canvas(size: Size, tile: Size, fewest: int, most: int) -> tuple[int, int]:
        """(columns, rows) of tiles for an image of `size` (height, width), by the image processor's own function."""
        return image_processing_got_ocr2.get_optimal_tiled_canvas(size, tile, fewest, most)

    def _most_tiles(self) -> int:
        images = self.processor.image_processor
        settings = getattr(self.processor, "images_kwargs", {})  # what the processor tells it in every call
        return int(images.max_patches) if settings.get("crop_to_patches", images.crop_to_patches) else 1

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        images, vision, most = self.processor.image_processor, self.config.vision_config, self._most_tiles()
        tile = Tile.of_patches(int(vision.image_size), int(vision.patch_size), int(self.config.downsample_factor))
        cols, rows = 1, 1
        if most > 1:
            cols, rows = self._canvas(size, (images.size["height"], images.size["width"]), images.min_patches, most)
        return tile.grid_and_whole(rows, cols, image=image)

    def largest_area(self) -> int:
        size = self.processor.image_processor.size
        return int(size["height"] * size["width"] * self._most_tiles())


class CommandAVision(AyaVision):
    """The same tiles; its raster is the one that needs the least enlarging, or the least shrinking if all shrink."""

    model_types: ClassVar[tuple[str, ...]] = ("cohere2_vision",)

    @staticmethod
    def _canvas(size: Size, tile: Size, fewest: int, most: int) -> tuple[int, int]:
        return image_processing_cohere2_vision.get_optimal_tiled_canvas(size, tile, fewest, most)
