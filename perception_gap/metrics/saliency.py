"""Agreement of two maps as saliency benchmarks measure it (Bylinskii et al. 2019, arXiv 1604.03605).

p is the teacher's map, q the student's: [N] each over the SAME tokens (or the same raster, flattened), non-negative,
scaled here to sum 1. Both are symmetric and return a Python float, NaN where either map is undefined (no mass; a
negative, NaN or infinite weight). Maps of different length raise ValueError.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from perception_gap.metrics._arrays import as_pair

if TYPE_CHECKING:
    from perception_gap.metrics._arrays import Values

# A spread below this share of the mean weight is the rounding of a uniform map in float32, not a pattern.
_FLAT = 1e-7


def correlation_coefficient(p: Values, q: Values) -> float:
    """CC: Pearson's correlation of the weights, −1..1; 1: equal up to scale and offset, 0: no linear relation.

    NaN also where a map is uniform (nothing varies), so for a single token.
    """
    pair = as_pair(p, q)
    if pair is None:
        return math.nan
    first, second = (weights - weights.mean() for weights in pair)
    spread = np.linalg.norm(first), np.linalg.norm(second)
    if min(spread) <= _FLAT / math.sqrt(len(first)):
        return math.nan
    return float(np.clip(first @ second / (spread[0] * spread[1]), -1.0, 1.0))


def similarity(p: Values, q: Values) -> float:
    """SIM = Σ_j min(p_j, q_j), 0..1: the mass that both maps put in the same places; 1 − total variation distance."""
    pair = as_pair(p, q)
    return math.nan if pair is None else min(1.0, float(np.minimum(*pair).sum()))
