"""Model families: small adapters found by `config.model_type`."""

from __future__ import annotations

from typing import Any

from perception_gap.errors import UnsupportedModelError
from perception_gap.models.families.aya_vision import AyaVision, CommandAVision
from perception_gap.models.families.base import Family, locate_text
from perception_gap.models.families.encoded import Encoded, predicting
from perception_gap.models.families.gemma3 import Gemma3
from perception_gap.models.families.gemma4 import Gemma4
from perception_gap.models.families.generic import Generic
from perception_gap.models.families.glm import Glm
from perception_gap.models.families.idefics3 import Idefics3
from perception_gap.models.families.internvl import InternVL
from perception_gap.models.families.lfm2_vl import Lfm2Vl
from perception_gap.models.families.llava import Llava
from perception_gap.models.families.llava_next import LlavaNext
from perception_gap.models.families.llava_onevision import LlavaOnevision
from perception_gap.models.families.ovis2 import Ovis2
from perception_gap.models.families.paligemma import PaliGemma
from perception_gap.models.families.pixtral import Pixtral
from perception_gap.models.families.qwen import Qwen
from perception_gap.models.families.refusals import reason_against

_TILED = (AyaVision, CommandAVision, Gemma3, Idefics3, InternVL, Lfm2Vl, LlavaNext, LlavaOnevision, Ovis2)
_WHOLE = (Gemma4, Glm, Llava, PaliGemma, Pixtral, Qwen)
FAMILIES: dict[str, type[Family]] = {kind: family for family in (*_TILED, *_WHOLE) for kind in family.model_types}

__all__ = ["FAMILIES", "Encoded", "Family", "check_supported", "family_for", "locate_text", "predicting"]


def check_supported(config: Any) -> type[Family]:
    """The family of a configuration; `Generic`, which looks at the processor first, for an unknown model type.

    Raises UnsupportedModelError naming the model type, the known ones and why, for a model whose image tokens have no
    place in the picture, or that has none.
    """
    family = FAMILIES.get(config.model_type)
    if family is not None:
        return family.variant(config)
    reason = reason_against(config)
    if reason is not None:
        raise unsupported(config, reason)
    return Generic


def unsupported(config: Any, reason: str) -> UnsupportedModelError:
    """The error for a model that cannot be read, with the known families and where to add one."""
    return UnsupportedModelError(
        f"model type {config.model_type!r} has no adapter here, and {reason}; known families: "
        f"{', '.join(sorted(FAMILIES))}; docs/families.md says how to add one (one file)"
    )


def family_for(config: Any, processor: Any) -> Family:
    """The adapter of a loaded model: its configuration decides, its processor renders and encodes.

    Raises UnsupportedModelError for a text-only model, and for one that is neither in `FAMILIES` nor a plain grid.
    """
    return check_supported(config)(config, processor)
