"""What every model family gives: the prompt, the role of each token, and where each image token lies."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor

from perception_gap.errors import GapcheckError, UsageError, one_line
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.encoded import Encoded

Size = tuple[int, int]  # (height, width) of an original image, pixels
_UNDECODED = "\ufffd"  # what decoding gives for the first bytes of an unfinished character
_SENTINEL = "gapcheck question"


@dataclass(frozen=True)
class Placement:
    """Where the whole original image lies on a processor's canvas: left, top, width, height in canvas pixels.

    A crop makes it stick out of the canvas, padding makes it smaller than the canvas.
    """

    x: float
    y: float
    width: float
    height: float

    def raster(self, rows: int, cols: int, cell: Size, *, image: int = 0) -> TokenGeometry:
        """A raster of `cell` (height, width) canvas pixels a token from the canvas's top left corner.

        Tokens that see padding alone cover nothing.
        """
        xs = (np.arange(cols + 1) * cell[1] - self.x) / self.width
        ys = (np.arange(rows + 1) * cell[0] - self.y) / self.height
        boxes = np.stack(
            [
                np.tile(xs[:-1], rows),
                np.repeat(ys[:-1], cols),
                np.tile(xs[1:], rows),
                np.repeat(ys[1:], cols),
            ],
            axis=1,
        )
        return TokenGeometry(boxes, np.full(rows * cols, image))


class Family:
    """One model family. Subclasses set `model_types` and define `image_geometry`.

    config: the model's configuration; processor: its processor (image processor, tokenizer, chat template).
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    # The processor wants one list of images a prompt: it counts them against the placeholders of that prompt.
    nested_images: ClassVar[bool] = False
    # The template prints the content of a system message as it is, so that a list would come out as Python's notation.
    system_is_text: ClassVar[bool] = False
    # Variables for chat templates that know them.
    template_options: ClassVar[dict[str, Any]] = {}
    # What `token_type_ids` say of a token behind the prompt: what generation gives the tokens that it writes.
    appended_type: ClassVar[int] = 0

    # What is taken for granted of a model that has no adapter of its own; None where nothing is.
    assumed: str | None = None

    @classmethod
    def variant(cls, config: Any) -> type[Family]:
        """The class that describes this configuration, where one model type stands for several kinds of model."""
        return cls

    def __init__(self, config: Any, processor: Any) -> None:
        self.config = config
        self.processor = processor
        self.tokenizer = processor.tokenizer

    @property
    def name(self) -> str:
        return str(self.config.model_type)

    @property
    def image_token_id(self) -> int:
        return int(self.config.image_token_id)

    def render(self, n_images: int, text: str, system: str | None = None) -> str:
        """The model's own chat template with the generation prompt; images come before the text.

        Raises UsageError if the processor has no chat template, or one that is broken.
        """
        if not getattr(self.processor, "chat_template", None):
            return self._render_without_template(n_images, text, system)
        content = [*({"type": "image"} for _ in range(n_images)), {"type": "text", "text": text}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system is not None:
            content_of_system = system if self.system_is_text else [{"type": "text", "text": system}]
            messages.insert(0, {"role": "system", "content": content_of_system})
        known = {k: v for k, v in self.template_options.items() if k in str(self.processor.chat_template)}
        try:
            prompt = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **known)
            return str(prompt)
        except TemplateError as error:
            reason = one_line(error)
            raise UsageError(f"the chat template of {self.name} does not render ({reason}): fetch it again") from error

    def _render_without_template(self, n_images: int, text: str, system: str | None) -> str:
        raise UsageError(
            f"the processor of {self.name} has no chat template, so its prompt format is unknown: add "
            "chat_template.jinja to the checkpoint's folder, or use the instruction-tuned checkpoint"
        )

    def placeholders(self) -> set[str]:
        """What a prompt must not hold as text: the token of a piece of an image, and what the processor expands."""
        written = getattr(self.processor, "image_token", None)
        return {self.tokenizer.convert_ids_to_tokens(self.image_token_id), *([written] if written else [])}

    def image_options(self) -> dict[str, Any]:
        """What the processor must be told beside the images: settings of its image processor that it would overrule."""
        return {}

    def image_tokens(self, input_ids: Tensor) -> Tensor:
        """bool, the shape of `input_ids`: the positions that stand for a piece of an image."""
        return input_ids == self.image_token_id

    def image_geometry(self, inputs: dict[str, Tensor], index: int, size: Size, image: int) -> TokenGeometry:
        """Tokens of one image: `index` counts over the whole batch, `image` within the sample."""
        raise NotImplementedError

    def check_processor(self, name: str) -> None:
        """UsageError where settings of the processor of `name` contradict the configuration."""

    def set_pixel_limits(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Smallest and largest area of a resized image in pixels, None keeps the processor's own.

        Raises UsageError where the family's image size is fixed, and for limits that leave no size.
        """
        raise UsageError(f"min_pixels and max_pixels mean nothing to {self.name}: its image size is fixed; drop them")

    @property
    def pixel_limits(self) -> tuple[int, int] | None:
        """(smallest, largest) area of a resized image in pixels; None where the image size is fixed."""
        return None

    def largest_area(self) -> int:
        """Pixels (width × height) of the largest picture that this model sees without its being shrunk.

        What `gapcheck compare` takes for a budget: two models see the same picture only if it fits both.
        """
        raise NotImplementedError

    def geometry(self, inputs: dict[str, Tensor], sizes: Sequence[Sequence[Size]]) -> list[TokenGeometry]:
        """One TokenGeometry per sample; sizes: (height, width) of its original images, in prompt order."""
        result, index = [], 0
        for sample in sizes:
            parts = []
            for image, size in enumerate(sample):
                parts.append(self.image_geometry(inputs, index, size, image))
                index += 1
            result.append(TokenGeometry.concatenate(parts) if parts else TokenGeometry.nowhere(0))
        return result

    def encode(
        self, images: Sequence[Sequence[Image.Image]], texts: Sequence[str], system: str | None = None
    ) -> Encoded:
        """B prompts, left-padded: `images[b]` before `texts[b]`; a sample without images is a text-only prompt.

        Raises GapcheckError when the processor refuses an image, a text holds an image placeholder or a special token
        of the model (which it would read as control: the end of a turn, a latent token), or the number of image tokens
        is not what the geometry says; UsageError without a chat template.
        """
        if len(images) != len(texts) or not texts:
            raise ValueError(f"{len(images)} lists of images for {len(texts)} texts: expected one each, at least one")
        for text in texts:
            self._refuse_control_tokens("question", text)
        if system is not None:
            self._refuse_control_tokens("system prompt", system)
        prompts = [self.render(len(own), text, system) for own, text in zip(images, texts, strict=True)]
        sizes = [[(picture.height, picture.width) for picture in own] for own in images]
        inputs = self._process(images, prompts)
        image = self.image_tokens(inputs["input_ids"])
        geometry = self.geometry(inputs, sizes)
        for count, places, own_sizes in zip(image.sum(1).tolist(), geometry, sizes, strict=True):
            if count != len(places):
                raise GapcheckError(
                    f"{self.name}: the prompt has {count} image tokens and the geometry {len(places)} for images of "
                    f"(height, width) {own_sizes}: the processor is not the one this family describes; report it"
                )
        question = self._question_tokens(inputs, image, texts, system)
        return Encoded(inputs, image, question, geometry, appended_type=self.appended_type)

    def _refuse_control_tokens(self, what: str, text: str) -> None:
        """GapcheckError for a text that would not reach the model as text."""
        placeholder = next((p for p in sorted(self.placeholders()) if p in text), None)
        if placeholder is not None:
            raise GapcheckError(
                f"the {what} {text[:60]!r} holds {placeholder}, which {self.name} reads as an image: remove it"
            )
        refuse_control_tokens(self.tokenizer, what, text, self.name)

    def _process(self, images: Sequence[Sequence[Image.Image]], prompts: list[str]) -> dict[str, Tensor]:
        bos = self.tokenizer.bos_token
        options: dict[str, Any] = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        if bos and prompts[0].startswith(bos):  # the template wrote it; the tokenizer would write it again
            options["add_special_tokens"] = False
        nested = [[p if p.mode == "RGB" else p.convert("RGB") for p in own] for own in images]
        pictures = [p for own in nested for p in own]
        if pictures:
            options["images"] = nested if self.nested_images else pictures
            options |= self.image_options()
        try:
            return dict(self.processor(text=prompts, **options))
        except ValueError as error:  # image processors refuse shapes, such as an aspect ratio above 200
            sizes = [(p.width, p.height) for p in pictures]
            reason = one_line(error)
            raise GapcheckError(
                f"the processor of {self.name} refuses images of (width, height) {sizes}: {reason}"
            ) from error

    def _question_tokens(
        self, inputs: dict[str, Tensor], image: Tensor, texts: Sequence[str], system: str | None
    ) -> Tensor:
        question = torch.zeros_like(image)
        rendered = self.render(0, _SENTINEL, system)
        closing = len(rendered) - rendered.rfind(_SENTINEL) - len(_SENTINEL)
        for b, text in enumerate(texts):
            visible = inputs["attention_mask"][b].nonzero().flatten().tolist()
            placed = image[b].nonzero().flatten().tolist()
            start = placed[-1] + 1 if placed else visible[0]
            inside = locate_text(self.tokenizer, inputs["input_ids"][b, start:].tolist(), text, closing)
            question[b, start:] = torch.tensor(inside, dtype=torch.bool)
        return question


def refuse_control_tokens(tokenizer: Any, what: str, text: str, name: str) -> None:
    """GapcheckError for a text that holds a special token of the tokenizer; `what` it is and the model's name: words.

    The unknown token stands for any text, and one of a character or two is a tokenizer's padding by a letter.
    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special = {token for token in added | {*tokenizer.all_special_tokens} if len(token) > 2} - {tokenizer.unk_token}
    control = next((token for token in sorted(special, key=len, reverse=True) if token in text), None)
    if control is not None:
        raise GapcheckError(
            f"the {what} {text[:60]!r} holds {control}, a special token of {name}, which reads it as control: remove "
            "or respell it"
        )


def locate_text(tokenizer: Any, ids: Sequence[int], text: str, closing: int) -> list[bool]:
    """Which of the tokens hold a part of `text`: tokens are decoded with growing prefixes, never assumed.

    closing: characters that the template puts after the text; of several occurrences the one that ends nearest to
    there counts. Raises GapcheckError if the decoded tokens do not contain the text.
    """
    if not text.strip():
        return [False] * len(ids)
    ends, length = [], 0
    for stop in range(1, len(ids) + 1):
        # A trailing replacement character is an unfinished one: its token shares the finished character's place.
        length = max(length, len(tokenizer.decode(ids[:stop]).rstrip(_UNDECODED)))
        ends.append(length)
    whole = tokenizer.decode(ids)
    for candidate in (
        text,
        text.strip(),
        *(unicodedata.normalize(form, text.strip()) for form in ("NFC", "NFKC")),
    ):
        starts = [i for i in range(len(whole)) if whole.startswith(candidate, i)]
        if starts:
            begin = min(starts, key=lambda i: abs(len(whole) - closing - i - len(candidate)))
            return _touching(ends, begin, begin + len(candidate))
    raise GapcheckError(
        f"the question {text[:60]!r} is not in the tokenized prompt {whole[:120]!r}: rephrase its unusual characters"
    )


def _touching(ends: Sequence[int], begin: int, end: int) -> list[bool]:
    """Tokens whose characters meet [begin, end), given the decoded length after each token."""
    inside, before = [], 0
    for i, after in enumerate(ends):
        reach = next((later for later in ends[i:] if later > before), before)
        inside.append(before < end and reach > begin and reach > before)
        before = after
    return inside
