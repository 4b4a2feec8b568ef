"""GLM-4.1V, GLM-4.5V and GLM-4.6V: as Qwen2-VL, but a picture's limits are those of a film of two equal frames."""

from __future__ import annotations

from typing import ClassVar

from perception_gap.models.families.qwen import Qwen


class Glm(Qwen):
    """Tokens in raster order, h / merge rows of w / merge, from `image_grid_thw`.

    Images and video frames share one placeholder; images stand between <|begin_of_image|> and <|end_of_image|>,
    which are text.
    """

    model_types: ClassVar[tuple[str, ...]] = ("glm46v", "glm4v", "glm4v_moe")
    system_is_text: ClassVar[bool] = True

    @property
    def _pixels_counted(self) -> int:
        # Its smart_resize bounds frames × height × width, and gives a picture `temporal_patch_size` frames.
        return int(self.processor.image_processor.temporal_patch_size)
