"""Whether two quantities go together over a few models: Pearson's r and Spearman's ρ with intervals by Fisher's z."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import pearsonr, spearmanr

FEWEST = 4  # points for a correlation: the interval of Fisher's z needs n > 3


class Correlation(NamedTuple):
    """Of n points; low and high are NaN where the value has no interval."""

    name: str
    value: float
    low: float
    high: float
    n: int


def correlations(x: Sequence[float], y: Sequence[float]) -> list[Correlation]:
    """Pearson's r and Spearman's ρ with 95 % intervals by Fisher's z; [] below FEWEST points.

    Standard error of z: 1 / √(n − 3) for r, √((1 + ρ²/2) / (n − 3)) for ρ (Bonett and Wright 2000, Psychometrika 65).
    NaN where x or y is constant. ±1 has no finite z: its bounds are NaN, for the four points of a line or a ranking
    are no certainty.
    """
    if (n := len(x)) < FEWEST:
        return []
    both = []
    for name, of in (("Pearson r", pearsonr), ("Spearman ρ", spearmanr)):
        value = math.nan if np.ptp(x) == 0 or np.ptp(y) == 0 else float(of(x, y)[0])
        error = math.sqrt((1 + (value**2 / 2 if of is spearmanr else 0)) / (n - 3))
        # Sums of float64 leave a line's r within a few 1e-16 of 1.
        z = math.nan if abs(value) > 1 - 1e-12 else math.atanh(value)
        both.append(Correlation(name, value, math.tanh(z - 1.96 * error), math.tanh(z + 1.96 * error), n))
    return both
