"""LLaVA-OneVision: as LLaVA-NeXT, but a large raster is shrunk, and several images are not cut into tiles."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import numpy as np
from torch import Tensor

from perception_gap.errors import UnsupportedModelError
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Placement, Size
from perception_gap.models.families.llava_next import largest_canvas, picture_spans, raster_with_newlines
from perception_gap.models.families.tiles import Tile, raster

_SHRINKS_ABOVE = 1.1  # of the model's own code: a raster hardly larger than allowed stays as it is


class LlavaOnevision(Family):
    """One image in a prompt: base tile first (stretched to a square), then the tiles' patches as one raster.

    The raster of the padded canvas is cut back to the picture, shrunk by bilinear interpolation to at most
    max (`anyres_max_9`: 9) base tiles of tokens, and closed by a newline a row, which covers nothing. A shrunk token
    stands for its share of the raster; interpolation lets it see up to one patch beyond.
    Several images in a prompt, as in its training: each padded to a square, one tile, one newline at the end.
    The patches of a tile leave out a strip at its right and bottom where its side is no multiple of the patch's.
    """

    model_types: ClassVar[tuple[str, ...]] = ("llava_onevision",)
    nested_images: ClassVar[bool] = True

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        vision = self.config.vision_config
        tile = Tile.of_patches(vision.image_size, vision.patch_size)
        kept = self.processor.num_image_tokens - (self.processor.vision_feature_select_strategy == "default")
        if kept != tile.side**2:
            raise UnsupportedModelError(
                f"{self.name} with {kept} tokens a tile has no raster: expected {tile.side**2}, the patches without CLS"
            )
        counts = inputs["batch_num_images"]
        if int(counts.repeat_interleave(counts)[index]) == 1:
            tokens = [tile.grid(1, 1, image=image), self._tiles(size, tile, image)]
        else:
            tokens = [_squared(size, tile, image), TokenGeometry.nowhere(1, image=image)]
        return TokenGeometry.concatenate(tokens)

    def _tiles(self, size: Size, tile: Tile, image: int) -> TokenGeometry:
        pixels = self.config.vision_config.image_size
        xs, ys = picture_spans(self.processor.image_processor, size, tile, pixels)
        most = int(self.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = sqrt(len(ys) * len(xs) / (most * tile.side**2))
        if ratio > _SHRINKS_ABOVE:
            ys, xs = _shrunk(ys, int(len(ys) // ratio)), _shrunk(xs, int(len(xs) // ratio))
        return raster_with_newlines(xs, ys, image)

    def largest_area(self) -> int:
        return largest_canvas(self.processor.image_processor)


def _shrunk(spans: np.ndarray, n: int) -> np.ndarray:
    """[n, 2]: the spans [N, 2] of N tokens in a line, shared out evenly among n ≤ N."""
    # Rounded: an error in the last digit would carry a cut at a tile's edge across the strip to the next tile.
    cuts = np.round(np.arange(n + 1) * (len(spans) / n), 9)
    first = np.minimum(cuts[:-1].astype(int), len(spans) - 1)
    last = np.minimum(np.ceil(cuts[1:]).astype(int), len(spans)) - 1
    width = spans[0, 1] - spans[0, 0]
    starts = spans[first, 0] + (cuts[:-1] - first) * width
    return np.stack([starts, spans[last, 0] + (cuts[1:] - last) * width], axis=1)


def _squared(size: Size, tile: Tile, image: int) -> TokenGeometry:
    """An image centred on a square as wide as its longer side, which is scaled to one tile."""
    height, width = size
    longest = max(size)
    whole = Placement((longest - width) // 2, (longest - height) // 2, width, height)
    spans = tile.spans(1) * longest
    return raster((spans - whole.x) / whole.width, (spans - whole.y) / whole.height, image=image)
