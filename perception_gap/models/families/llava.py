"""LLaVA-1.5: one fixed square of patches, after a resize and centre crop (or padding to a square)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from perception_gap.errors import UnsupportedModelError, UsageError
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Placement, Size
from perception_gap.models.families.pixtral import Pixtral


class Llava(Family):
    """Tokens in raster order over the canvas that the vision tower sees; a CLS token that is kept covers nothing."""

    model_types: ClassVar[tuple[str, ...]] = ("llava",)

    @classmethod
    def variant(cls, config: Any) -> type[Family]:
        return Pixtral if config.vision_config.model_type == "pixtral" else cls

    def __init__(self, config: Any, processor: Any) -> None:
        super().__init__(config, processor)
        _complete(processor, config)

    def _render_without_template(self, n_images: int, text: str, system: str | None) -> str:
        # The format LLaVA-1.5 was trained on; its first checkpoints came without a template.
        opening = f"{system} " if system else ""
        return opening + "USER: " + "<image>\n" * n_images + f"{text} ASSISTANT:"

    def _leading(self) -> int:
        """Tokens before the patches that cover nothing (CLS, unless the feature selection drops it)."""
        dropped = self.processor.vision_feature_select_strategy == "default"
        return int(self.processor.num_additional_image_tokens) - int(dropped)

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        height, width = inputs["pixel_values"][index].shape[-2:]
        patch = int(self.processor.patch_size)
        patches = place(self.processor.image_processor, size).raster(
            height // patch, width // patch, (patch, patch), image=image
        )
        leading = self._leading()
        return (
            TokenGeometry.concatenate([TokenGeometry.nowhere(leading, image=image), patches])
            if leading > 0
            else patches
        )

    def largest_area(self) -> int:
        images = self.processor.image_processor
        canvas = images.crop_size if images.do_center_crop else images.size
        short = canvas.get("shortest_edge")
        return int(short**2 if short else canvas["height"] * canvas["width"])


def _complete(processor: Any, config: Any) -> None:
    """Checkpoints older than these fields lack them, and their processor would count on None; the config knows."""
    if getattr(processor, "patch_size", None) is None:
        if getattr(config.vision_config, "patch_size", None) is None:
            raise UsageError(f"{config.model_type}: patch_size is missing: add it to processor_config.json")
        processor.patch_size = config.vision_config.patch_size
    if getattr(processor, "vision_feature_select_strategy", None) is None:
        processor.vision_feature_select_strategy = config.vision_feature_select_strategy
        processor.num_additional_image_tokens = int(config.vision_config.model_type == "clip_vision_model")


def place(processor: Any, size: Size) -> Placement:
    """Where an image processor of the CLIP kind puts an image: it may pad to a square, resize, and crop."""
    height, width = size
    x = y = 0.0
    canvas_h, canvas_w = height, width
    if getattr(processor, "do_pad", False):
        if not hasattr(processor, "pad_to_square"):
            raise UnsupportedModelError(f"{type(processor).__name__} pads in an unknown way: set do_pad to false")
        canvas_h = canvas_w = max(size)
        x, y = (canvas_w - width) // 2, (canvas_h - height) // 2
    scale_x = scale_y = 1.0
    if processor.do_resize:
        resized_h, resized_w = _resized(processor.size, canvas_h, canvas_w)
        scale_x, scale_y = resized_w / canvas_w, resized_h / canvas_h
        canvas_h, canvas_w = resized_h, resized_w
    x, y = x * scale_x, y * scale_y
    if getattr(processor, "do_center_crop", False):
        x += _crop_offset(canvas_w, processor.crop_size["width"])
        y += _crop_offset(canvas_h, processor.crop_size["height"])
    return Placement(x, y, width * scale_x, height * scale_y)


def _resized(size: Any, height: int, width: int) -> Size:
    if size.get("height") and size.get("width"):
        return size["height"], size["width"]
    short = size.get("shortest_edge")
    if not short or size.get("longest_edge"):
        raise UnsupportedModelError(f"image size {dict(size)}: expected a shortest_edge, or height and width")
    long = int(short * max(height, width) / min(height, width))
    return (short, long) if height <= width else (long, short)


def _crop_offset(length: int, crop: int) -> int:
    """How far a centre crop moves the image: negative where it cuts, positive where it pads a smaller image."""
    return (crop - length) // 2 if crop >= length else -((length - crop) // 2)
