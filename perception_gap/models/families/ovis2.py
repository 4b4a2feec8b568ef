"""Ovis2: the whole image first as a thumbnail, then its tiles row by row, unless there is only one tile."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size
from perception_gap.models.families.tiles import Tile


class Ovis2(Family):
    """The image is stretched over the tiles; indicator tokens between them say how many, and are no image tokens.

    transformers' processor swaps rows and columns of the grid that it chooses (a wide image becomes a column of
    tiles): the prompt tells what it did, so the rectangles are those that the model sees.
    """

    model_types: ClassVar[tuple[str, ...]] = ("ovis2",)

    def __init__(self, config: Any, processor: Any) -> None:
        super().__init__(config, processor)
        # "<image>" is expanded before tokenizing and no token: the processor would take the tokenizer's unknown token
        # for it, which may be the padding, and refuse padded batches over their "image" tokens.
        if processor.image_token not in self.tokenizer.get_vocab():
            processor.image_token_id = None

    def placeholders(self) -> set[str]:
        indicators = self.tokenizer.convert_ids_to_tokens(list(self.config.visual_indicator_token_ids))
        return super().placeholders() | set(indicators)

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        start, _, next_col, next_row, end = self.config.visual_indicator_token_ids
        ids = inputs["input_ids"].flatten()
        own = ids[int((ids == start).nonzero()[index]) : int((ids == end).nonzero()[index])]
        rows = 1 + int((own == next_row).sum())
        cols = 1 + int((own == next_col).sum()) // rows
        tile = self._tile()
        thumbnail = tile.grid(1, 1, image=image)
        if rows * cols == 1:
            return thumbnail
        return TokenGeometry.concatenate([thumbnail, tile.grid(rows, cols, image=image)])

    def _tile(self) -> Tile:
        vision = self.config.vision_config
        return Tile.of_patches(self.processor.image_processor.size["height"], vision.patch_size, vision.hidden_stride)

    def largest_area(self) -> int:
        images = self.processor.image_processor
        return int((images.max_patches if images.crop_to_patches else 1) * images.size["height"] * images.size["width"])
