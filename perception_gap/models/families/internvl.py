"""InternVL: tiles row by row, then the whole image once more as a thumbnail, unless there is only one tile."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size
from perception_gap.models.families.tiles import Tile


class InternVL(Family):
    """The image is stretched to the tiles whose shape fits it best; pixel shuffle merges patches into tokens."""

    model_types: ClassVar[tuple[str, ...]] = ("internvl",)

    def placeholders(self) -> set[str]:
        # The processor looks for a video at <video>, and what counts the tiles here is what stands in <img>…</img>.
        processor = self.processor
        return super().placeholders() | {
            processor.video_token,
            processor.start_image_token,
            processor.end_image_token,
        }

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        images, cols, rows = self.processor.image_processor, 1, 1
        if self._count_tiles(inputs["input_ids"], index) > 1:
            side = images.size["height"], images.size["width"]
            cols, rows = get_optimal_tiled_canvas(size, side, images.min_patches, images.max_patches)
        return self._tile().grid_and_whole(rows, cols, image=image)

    def _tile(self) -> Tile:
        patch = self.config.vision_config.patch_size[0]
        return Tile.of_patches(
            self.processor.image_processor.size["height"], patch, round(1 / self.config.downsample_ratio)
        )

    def _count_tiles(self, input_ids: Tensor, index: int) -> int:
        """Tiles of an image, thumbnail included, from its tokens: whether to cut it, several settings decide."""
        ids = input_ids.flatten()
        start = (ids == self.processor.start_image_token_id).nonzero()[index]
        end = (ids == self.processor.end_image_token_id).nonzero()[index]
        return int(end - start - 1) // int(self.processor.image_seq_length)

    def largest_area(self) -> int:
        images = self.processor.image_processor
        crops = getattr(self.processor, "images_kwargs", {}).get("crop_to_patches", images.crop_to_patches)
        return int((images.max_patches if crops else 1) * images.size["height"] * images.size["width"])
