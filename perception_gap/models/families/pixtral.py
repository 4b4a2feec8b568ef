"""Mistral 3, and LLaVA with a Pixtral tower: the image is resized whole to full patches; row breaks are text tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from perception_gap.errors import GapcheckError, UnsupportedModelError
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size


class Pixtral(Family):
    """Tokens in raster order, one for merge × merge patches; [IMG_BREAK] and [IMG_END] have ids of their own.

    A batch is padded to its largest picture at the right and bottom; `image_sizes` says how much is picture, and the
    tower cuts the rest away again.
    """

    model_types: ClassVar[tuple[str, ...]] = ("mistral3",)
    system_is_text: ClassVar[bool] = True

    def __init__(self, config: Any, processor: Any) -> None:
        super().__init__(config, processor)
        if getattr(config, "vision_feature_select_strategy", "full") != "full":
            raise UnsupportedModelError(
                f"{self.name} with a pixtral tower that drops a token (vision_feature_select_strategy "
                f'{config.vision_feature_select_strategy!r}) has no raster: expected "full"'
            )
        for name in ("patch_size", "spatial_merge_size"):
            of_model = getattr(config.vision_config if name == "patch_size" else config, name, 1)
            if getattr(processor, name) != of_model:
                raise UnsupportedModelError(
                    f"{self.name}: the processor's {name} is {getattr(processor, name)}, the model's {of_model}: "
                    "copy the processor from the base checkpoint"
                )

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        token = self.processor.patch_size * self.processor.spatial_merge_size
        height, width = inputs["image_sizes"][index].tolist()
        if self.name == "mistral3" and height == width == token:
            # transformers 5.23 squeezes a lone feature [1, D] to [D] before it splits it by image.
            raise GapcheckError(
                f"{self.name} fails on pictures of one image token, as this of (width, height) {size[::-1]} is: "
                f"enlarge it beyond {token} pixels"
            )
        return TokenGeometry.grid(height // token, width // token, image=image)

    def largest_area(self) -> int:
        size = self.processor.image_processor.size
        longest = size.get("longest_edge")
        return int(longest**2 if longest else size["height"] * size["width"])
