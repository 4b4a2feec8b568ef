"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: the image is resized whole; one token covers merge × merge patches."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from perception_gap.errors import UsageError, one_line
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size

_QWEN_3 = ("qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe")


class Qwen(Family):
    """Tokens in raster order, h / merge rows of w / merge, from `image_grid_thw`.

    The patches themselves are stored block by block so that a merged token's patches follow each other, and the
    window attention of Qwen2.5-VL reorders blocks inside the tower only: neither changes the tokens' order.
    Qwen3.5's linear-attention layers have no maps: "all" layers are its full-attention ones.
    """

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl", "qwen2_5_vl", *_QWEN_3)
    # Qwen3.5 and GLM-4.5V think aloud unless told not to; the answer is what is measured here.
    template_options: ClassVar[dict[str, Any]] = {"enable_thinking": False}

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        merge = self.processor.image_processor.merge_size
        frames, height, width = inputs["image_grid_thw"][index].tolist()
        raster = TokenGeometry.grid(height // merge, width // merge, image=image)
        return TokenGeometry.concatenate([raster] * frames)

    def check_processor(self, name: str) -> None:
        vision = self.config.vision_config
        expected = {
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "merge_size": vision.spatial_merge_size,
        }
        for setting, value in expected.items():
            own = getattr(self.processor.image_processor, setting, None)
            if own != value:
                raise UsageError(
                    f"model {name!r}: its image processor has {setting} {one_line(repr(own), 40)}, its config.json "
                    f"{one_line(repr(value), 40)}: copy the processor's files from the base checkpoint"
                )

    def set_pixel_limits(self, min_pixels: int | None, max_pixels: int | None) -> None:
        low, high = self.pixel_limits
        low, high = low if min_pixels is None else min_pixels, high if max_pixels is None else max_pixels
        if not 0 < low <= high:
            raise UsageError(f"min_pixels {low} and max_pixels {high}: expected 0 < min_pixels <= max_pixels")
        times = self._pixels_counted
        self.processor.image_processor.size = {"shortest_edge": low * times, "longest_edge": high * times}

    @property
    def pixel_limits(self) -> tuple[int, int]:
        size, times = self.processor.image_processor.size, self._pixels_counted
        # Rounded inwards, so that what is read and set again is never wider than the processor's own.
        return -(-size["shortest_edge"] // times), size["longest_edge"] // times

    def largest_area(self) -> int:
        return self.pixel_limits[1]

    @property
    def _pixels_counted(self) -> int:
        """How often the image processor counts every pixel of a picture against its limits."""
        return 1
