"""The reason why a model type cannot be read is the true one, by the configurations of transformers."""

import pytest
from transformers import CONFIG_MAPPING
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from perception_gap.errors import UnsupportedModelError
from perception_gap.models.families import FAMILIES, check_supported
from perception_gap.models.families.refusals import reason_against

REASONS = {
    "chameleon": "codes of a quantised picture",
    "emu3": "codes of a quantised picture",
    "fuyu": "without a vision tower",
    "udop": "encoder-decoder",
    "pix2struct": "encoder-decoder",
    "florence2": "encoder-decoder",
    "vision-encoder-decoder": "encoder-decoder",
    "mllama": "cross-attention",
    "idefics": "cross-attention",
    "blip-2": "queries of a resampler",
    "instructblip": "queries of a resampler",
    "idefics2": "queries of a resampler",
    "kosmos-2": "queries of a resampler",
    "llama": "text-only",
    "t5": "text-only",
    "bert": "text-only",
    "vit": "no model of this type that reads a picture and writes text",
    "clip": "no model of this type that reads a picture and writes text",
    "whisper": "no model of this type that reads a picture and writes text",
}


@pytest.mark.parametrize(("model_type", "reason"), [(k, v) for k, v in REASONS.items() if k in CONFIG_MAPPING_NAMES])
def test_reason(model_type, reason):
    with pytest.raises(UnsupportedModelError, match=rf"{model_type!r} has no adapter here, and .*{reason}"):
        check_supported(CONFIG_MAPPING[model_type]())


@pytest.mark.parametrize("model_type", sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.keys() - FAMILIES.keys()))
def test_no_model_that_reads_pictures_is_called_text_only(model_type):
    reason = reason_against(CONFIG_MAPPING[model_type]())
    assert reason is None or "text-only" not in reason
