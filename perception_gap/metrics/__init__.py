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
from perception_gap.metrics.saliency import correlation_coefficient, similarity
from perception_gap.metrics.transport import coarsened, earth_movers_distance

__all__ = [
    "align",
    "aligned_cosine_distance",
    "coarsened",
    "coefficient_of_variation",
    "correlation_coefficient",
    "cosine_distance",
    "earth_movers_distance",
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
    "similarity",
    "text_image_mass",
    "top_k_overlap",
]
