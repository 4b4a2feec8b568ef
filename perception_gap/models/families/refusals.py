"""Why a model type without an adapter cannot be read, from transformers' mappings and the configuration itself."""

from __future__ import annotations

from typing import Any

_TEXT_MAPPINGS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
)
_OTHER_SENSES = ("MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES")
# Fields of a configuration, its text model's included → what they mean for the tokens of a picture.
_NO_PLACES = {
    ("cross_attention_layers", "cross_layer_interval"): (
        "its text reads the picture in cross-attention layers: there are no image tokens among its own"
    ),
    ("qformer_config", "perceiver_config", "resampler_config", "latent_query_num"): (
        "its image tokens are queries of a resampler (Q-Former, perceiver): none has a place of its own in the picture"
    ),
}
_WITHOUT_TOWER = {
    ("vq_config",): "its image tokens are codes of a quantised picture (VQ), not patches of a vision tower",
    (
        "patch_size",
    ): "its patches go into the language model without a vision tower, and how they lie is not known here",
}


def reason_against(config: Any) -> str | None:
    """One clause why `Generic` has no chance with a configuration; None where its processor must be asked."""
    from transformers.models.auto import configuration_auto, modeling_auto

    kind, tower = config.model_type, getattr(config, "vision_config", None) is not None
    known = kind in configuration_auto.CONFIG_MAPPING_NAMES
    if known and kind not in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        if _in_any(kind, _TEXT_MAPPINGS) and not tower and not _in_any(kind, _OTHER_SENSES):
            return "it is text-only: it has no image tokens to look at"
        return "transformers knows no model of this type that reads a picture and writes text"
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder: the picture is in the encoder, and the answer reaches it by cross-attention"
    for fields, reason in (_NO_PLACES if tower else _NO_PLACES | _WITHOUT_TOWER).items():
        holders = (config, config.get_text_config(decoder=True))
        if any(getattr(holder, name, None) not in (None, False) for holder in holders for name in fields):
            return reason
    return None if tower else "its configuration has no vision_config, so where its image tokens come from is not known"


def _in_any(model_type: str, mappings: tuple[str, ...]) -> bool:
    from transformers.models.auto import modeling_auto

    return any(model_type in getattr(modeling_auto, name) for name in mappings)
