"""Shares of right answers, and their paired differences: one interval for each, that never claims certainty.

Score intervals over the effective number of rows: where clusters repeat, n is divided by the design effect (how much
larger the clustered variance is than that of independent rows; at least 1) and Student's t of the clusters takes the
normal quantile's place (Korn and Graubard 1998; Dean and Pagano 2015). Where all rows are alike a cluster is one trial.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import binom, norm, t

from perception_gap.stats.estimates import Estimate, defined, undefined

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def wilson(successes: float, n: float, level: float = 0.95, quantile: float | None = None) -> Estimate:
    """Proportion with Wilson's score interval (1927), for n independent trials; NaN for n = 0.

    quantile: in place of the normal one of `level`. n and successes may be effective numbers, not whole.
    """
    if n == 0:
        return undefined()
    z = float(norm.ppf((1 + level) / 2)) if quantile is None else quantile
    share, u = successes / n, z * z / n
    centre, half = (share + u / 2) / (1 + u), math.sqrt(u * share * (1 - share) + u * u / 4) / (1 + u)
    # At 0 and 1 the end is exact; rounding would put it a hair beyond.
    low, high = 0.0 if share == 0 else max(0.0, centre - half), 1.0 if share == 1 else min(1.0, centre + half)
    return Estimate(share, low, high, round(n))


def proportion_ci(verdicts: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Share of true verdicts [n], 0..1, with Wilson's interval over the effective number of rows.

    verdicts: as in `as_verdicts`. Where no cluster repeats, that is n itself.
    """
    array, codes, n_clusters = defined(as_verdicts(verdicts), clusters)
    n = len(array)
    if not n:
        return undefined()
    share = float(array.mean())
    n_effective, quantile = _effective(array - share, share * (1 - share), codes, n_clusters, level)
    bounds = wilson(share * n_effective, n_effective, level, quantile)
    return Estimate(share, bounds.low, bounds.high, n)


def paired_ci(differences: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Mean difference of paired verdicts, each −1, 0 or 1 [n]; NaN: dropped. p of `sign_flips` (McNemar's, exact).

    Bonett and Price's interval (2012) over the effective number of rows: one discordant pair of each kind is added,
    so that two models that never differ are not called equal for certain.
    """
    array, codes, n_clusters = defined(differences, clusters)
    if wrong := set(np.unique(array).tolist()) - {-1.0, 0.0, 1.0}:
        raise ValueError(f"differences of verdicts {sorted(wrong)[:5]}: expected −1, 0 or 1")
    n = len(array)
    if not n:
        return undefined()
    mean = float(array.mean())
    variance = float((array**2).mean() - mean**2)
    n_effective, quantile = _effective(array - mean, variance, codes, n_clusters, level)
    scale = n_effective / (n_effective + 2)
    more, less = (((array == side).mean() + 1 / n_effective) * scale for side in (1, -1))
    centre = more - less
    half = quantile * math.sqrt((more + less - centre**2) / (n_effective + 2))
    p = sign_flips(np.bincount(codes, array, n_clusters))
    return Estimate(mean, max(-1.0, centre - half), min(1.0, centre + half), n, p)


def _effective(
    residuals: np.ndarray, variance: float, codes: np.ndarray, n_clusters: int, level: float
) -> tuple[float, float]:
    """(effective number of rows, quantile) of a mean with residuals [n] of this variance (divided by n)."""
    n, normal = len(residuals), float(norm.ppf((1 + level) / 2))
    if n_clusters == n:
        return float(n), normal
    if variance <= 0 or n_clusters < 2:
        return float(n_clusters), normal
    sums = np.bincount(codes, residuals, n_clusters)
    clustered = n_clusters / (n_clusters - 1) * float((sums**2).sum()) / n
    # At most as if all rows of a cluster were one.
    most = float((np.bincount(codes, minlength=n_clusters) ** 2).sum()) / n
    effect = min(max(1.0, clustered / variance), most)
    return n / effect, float(t.ppf((1 + level) / 2, n_clusters - 1))


def sign_flips(sums: np.ndarray) -> float:
    """P(|Σ ± sums| >= |Σ sums|) over all signs, each as likely; sums: whole numbers [clusters]. NaN for none.

    Exact. With one row a cluster it is McNemar's test; a single cluster gives 1.
    """
    if not len(sums):
        return math.nan
    sizes, counts = np.unique(np.abs(sums[sums != 0]).round().astype(int), return_counts=True)
    law = np.ones(1)  # of the sum of the positive parts, 0..Σ|sums|
    for size, count in zip(sizes, counts, strict=True):
        step = np.zeros(size * count + 1)
        step[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        law = np.convolve(law, step)
    total = 2 * np.arange(len(law)) - int((sizes * counts).sum())
    return min(1.0, float(law[np.abs(total) >= abs(round(float(sums.sum())))].sum()))


def as_verdicts(values: ArrayLike) -> np.ndarray:
    """Verdicts as float64 [n]: 1, 0, or NaN where missing (None, NaN, pandas.NA); anything else raises."""
    column = np.asarray(values, dtype=object)
    array = np.where(pd.isna(column), math.nan, column).astype(np.float64)
    wrong = array[~np.isin(array, (0, 1)) & ~np.isnan(array)]
    if wrong.size:
        raise ValueError(f"verdicts {np.unique(wrong)[:5].tolist()}: expected True or False, or NaN where undefined")
    return array
