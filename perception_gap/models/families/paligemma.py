"""PaliGemma 1 and 2: a picture squeezed into one square, before a prompt that is read in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from perception_gap.errors import GapcheckError, one_line
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family, Size
from perception_gap.models.families.llava import place


class PaliGemma(Family):
    """Tokens in raster order over the square that the vision tower sees.

    Image and prompt are a prefix in which every token sees every other one (`token_type_ids` 0): a question's row
    looks at tokens behind it as well. What is written after it is read causally (1), latent tokens too.
    """

    model_types: ClassVar[tuple[str, ...]] = ("paligemma",)
    appended_type: ClassVar[int] = 1

    def render(self, n_images: int, text: str, system: str | None = None) -> str:
        """`<image>` for every image, the beginning of sequence, the text and the newline that ends a prompt."""
        prompt, mark = super().render(n_images, text, system), self.processor.image_token
        after = prompt.rfind(mark) + len(mark) if mark in prompt else 0
        return f"{prompt[:after]}{self.tokenizer.bos_token}{prompt[after:]}\n"

    def _render_without_template(self, n_images: int, text: str, system: str | None) -> str:
        # It has no turns, so a system prompt is a part of the question.
        return str(self.processor.image_token) * n_images + (f"{system} {text}" if system else text)

    def _process(self, images: Sequence[Sequence[Image.Image]], prompts: list[str]) -> dict[str, Tensor]:
        # Not the processor's own call: without an image it raises, and in a batch with images it cuts a prompt
        # without one after its sixth character to put the beginning of sequence there.
        pictures = [p if p.mode == "RGB" else p.convert("RGB") for own in images for p in own]
        processor, mark = self.processor, self.processor.image_token
        texts = [prompt.replace(mark, mark * int(processor.image_seq_length)) for prompt in prompts]
        options = {"padding": True, "padding_side": "left", "add_special_tokens": False}
        written = self.tokenizer(texts, return_tensors="pt", **options)
        ids: Tensor = written["input_ids"]
        inputs = {
            "input_ids": ids,
            "token_type_ids": torch.zeros_like(ids),
            "attention_mask": written["attention_mask"],
        }
        if not pictures:
            return inputs
        try:
            seen: Any = processor.image_processor(pictures, return_tensors="pt")
        except ValueError as error:
            sizes = [(p.width, p.height) for p in pictures]
            raise GapcheckError(
                f"the processor of {self.name} refuses images of (width, height) {sizes}: {one_line(error)}"
            ) from error
        return inputs | {"pixel_values": seen["pixel_values"]}

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        height, width = inputs["pixel_values"][index].shape[-2:]
        patch = int(self.config.vision_config.patch_size)
        placement = place(self.processor.image_processor, size)
        rows, cols = height // patch, width // patch
        raster = placement.raster(rows, cols, (patch, patch), image=image)
        return TokenGeometry(raster.boxes, raster.image, (rows, cols))

    def largest_area(self) -> int:
        size = self.processor.image_processor.size
        return int(size["height"] * size["width"])
