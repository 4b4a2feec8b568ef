"""How far two attention maps over the SAME tokens (or the same raster, flattened) lie apart.

p is the teacher's map, q the student's: [N] each, non-negative, normalised here to sum 1. All return a Python
float, NaN where either map is undefined (no mass; a negative, NaN or infinite weight). Maps of different
length raise ValueError: bring them to one raster with `TokenGeometry.rasterize` first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import rel_entr

from perception_gap.metrics._arrays import as_pair

if TYPE_CHECKING:
    from perception_gap.metrics._arrays import Values

# Share of the uniform distribution mixed into the student's map: KL stays finite where the student is blind.
KL_MIX = 1e-6


def kl_divergence(p: Values, q: Values) -> float:
    """KL(p ‖ q) = Σ p_j ln(p_j / q'_j) in nats, q' = (1 − 1e-6) q + 1e-6 / N; 0..ln N + 6 ln 10.

    Direction: teacher ‖ student, large where the student ignores what the teacher looks at (paper fig. 3).
    """
    pair = as_pair(p, q)
    if pair is None:
        return math.nan
    teacher, student = pair
    mixed = (1 - KL_MIX) * student + KL_MIX / len(student)
    # Rounding leaves about -1e-16 where the maps agree.
    return max(0.0, float(rel_entr(teacher, mixed).sum()))


def js_divergence(p: Values, q: Values) -> float:
    """Jensen–Shannon divergence in nats, 0..ln 2, symmetric: mean KL of both maps to their average."""
    pair = as_pair(p, q)
    if pair is None:
        return math.nan
    middle = (pair[0] + pair[1]) / 2
    value = (rel_entr(pair[0], middle).sum() + rel_entr(pair[1], middle).sum()) / 2
    return float(np.clip(value, 0.0, math.log(2)))


def top_k_overlap(p: Values, q: Values, k: int = 8) -> float:
    """|A ∩ B| / k, 0..1: A, B the k tokens with the largest weight in p and in q (paper: k = 8).

    k is capped at N. Of equal weights the lower token index comes first.
    """
    if k < 1:
        raise ValueError(f"k = {k}: expected at least 1")
    pair = as_pair(p, q)
    if pair is None:
        return math.nan
    k = min(k, len(pair[0]))
    first, second = (np.argsort(-weights, kind="stable")[:k] for weights in pair)
    return len(np.intersect1d(first, second)) / k
