"""A checkpoint's processor: opened, and tried on a blank picture before weights are read."""

from __future__ import annotations

from typing import Any

from PIL import Image
from transformers import AutoProcessor

from perception_gap.errors import GapcheckError, UsageError, one_line
from perception_gap.models.families.base import Family
from perception_gap.models.files import ModelFiles, file_of

_BLANK = (64, 48)  # width, height
# A setting of another type or size fails wherever it is used first.
_WRONG_SETTING = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


def open_processor(files: ModelFiles, name: str, trust_remote_code: bool, config: Any) -> Any:
    """The processor of a model, of an adapter without one its base's. UsageError where it is not whole."""
    if files.base is not None:
        own = any(file_of(files, f"{kind}_config.json") for kind in ("preprocessor", "processor"))
        files, name = (files, name) if own else (files.base, files.base.source)
    try:
        processor = AutoProcessor.from_pretrained(files.source, trust_remote_code=trust_remote_code, **files.options)
    # Each incomplete folder fails in its own way inside transformers, the remedy is the same; a damaged tokenizer.json
    # raises Exception itself.
    except Exception as error:
        raise UsageError(_incomplete(name) + f" ({one_line(error)})") from error
    # Without an image processor AutoProcessor falls back to the tokenizer alone.
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise UsageError(_incomplete(name))
    # Without tokenizer files transformers makes a tokenizer of nothing but special tokens.
    image_token = getattr(config, "image_token_id", None)
    if isinstance(image_token, int) and image_token >= len(processor.tokenizer):
        raise UsageError(_incomplete(name) + f" (its tokenizer has only {len(processor.tokenizer)} tokens)")
    return processor


def check_reads(family: Family, name: str) -> None:
    """UsageError where the processor makes nothing of a picture, or something that the model cannot take.

    A model without a chat template is not tried: what is asked of it says what it lacks.
    """
    family.check_processor(name)
    if not getattr(family.processor, "chat_template", None):
        return
    try:
        family.encode([[Image.new("RGB", _BLANK)]], ["What?"])
    except UsageError:
        raise
    except (GapcheckError, *_WRONG_SETTING) as error:
        raise UsageError(
            f"model {name!r}: its processor cannot read a picture ({one_line(error, 120)}): copy the processor's "
            "files from the base checkpoint"
        ) from error


def _incomplete(name: str) -> str:
    return (
        f"model {name!r} has no complete processor: expected tokenizer files and preprocessor_config.json (or "
        "processor_config.json) beside config.json; copy them from the base checkpoint"
    )
