"""What is measured: of one attention map, of two, and of hidden states. Undefined is NaN, never 0."""

from perception_gap.metrics.divergence import js_divergence, kl_divergence, top_k_overlap
from perception_gap.metrics.hidden import align, aligned_cosine_distance, cosine_distance
from perception_gap.metrics.maps import (
    coefficient_of_variation,
    entropy,
    focus_chance,
    focus_lift,
    focus_score,
    pointing_game,
    relative_entropy,
    salient_region_count,
    salient_region_fraction,
    text_image_mass,
)

__all__ = [
    "align",
    "aligned_cosine_distance",
    "coefficient_of_variation",
    "cosine_distance",
    "entropy",
    "focus_chance",
    "focus_lift",
    "focus_score",
    "js_divergence",
    "kl_divergence",
    "pointing_game",
    "relative_entropy",
    "salient_region_count",
    "salient_region_fraction",
    "text_image_mass",
    "top_k_overlap",
]
