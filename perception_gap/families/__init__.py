"""Model families: small adapters found by `config.model_type`."""

from __future__ import annotations

from typing import Any

from perception_gap.errors import UnsupportedModelError
from perception_gap.families.base import Family, locate_text
from perception_gap.families.encoded import Encoded, predicting
from perception_gap.families.llava import Llava
from perception_gap.families.llava_next import LlavaNext
from perception_gap.families.qwen import Qwen

FAMILIES: dict[str, type[Family]] = {
    "llava": Llava,
    "llava_next": LlavaNext,
    "qwen2_5_vl": Qwen,
    "qwen2_vl": Qwen,
    "qwen3_vl": Qwen,
}

__all__ = ["FAMILIES", "Encoded", "Family", "check_supported", "family_for", "locate_text", "predicting"]


def check_supported(config: Any) -> type[Family]:
    """The family of a configuration. Raises UnsupportedModelError naming the model type and the known ones."""
    family = FAMILIES.get(config.model_type)
    if family is not None:
        return family
    known = ", ".join(sorted(FAMILIES))
    if getattr(config, "vision_config", None) is None:
        raise UnsupportedModelError(
            f"model type {config.model_type!r} is text-only: it has no image tokens to look at; known families: {known}"
        )
    raise UnsupportedModelError(f"model type {config.model_type!r} has no family here; known families: {known}")


def family_for(config: Any, processor: Any) -> Family:
    """The adapter of a loaded model: its configuration decides, its processor renders and encodes.

    Raises UnsupportedModelError for a text-only model and for a family that is not in `FAMILIES`.
    """
    return check_supported(config)(config, processor)
