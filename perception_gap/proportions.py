"""Shares of right answers, and their paired differences, with intervals that never claim certainty."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from perception_gap.statistics import Estimate, cluster_codes, mean_ci, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def proportion_ci(
    verdicts: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    independent: Literal["wilson", "bootstrap"] = "wilson",
) -> Estimate:
    """Share of true verdicts [n], 0..1: cluster bootstrap where clusters repeat, `independent` where none does.

    verdicts: as in `as_verdicts`. At 0 and at 1 no resample differs, and the interval is Wilson's over the
    clusters, each one trial (one cluster too): wider than over the rows, as one cluster may be one fact.
    """
    array = as_verdicts(verdicts)
    cluster = np.arange(len(array)) if clusters is None else np.asarray(clusters)
    keep = ~np.isnan(array)
    n, right, n_clusters = int(keep.sum()), int(array[keep].sum()), cluster_codes(cluster[keep])[1]
    if right in (0, n):
        bounds = wilson(n_clusters if right else 0, n_clusters, level)
        return Estimate(bounds.mean, bounds.low, bounds.high, n)
    if n_clusters == n and independent == "wilson":
        return wilson(right, n, level)
    return mean_ci(array, cluster, level, resamples, seed)


def paired_ci(
    differences: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean difference of paired verdicts, each −1, 0 or 1 [n]; NaN: dropped. Cluster bootstrap as in `mean_ci`.

    Where all clusters have one mean k and no resample differs, a score interval over the clusters: with
    u = z² / (n + z²), Wilson's upper bound of 0 in n, [k − (1 + k) u, k + (1 − k) u], which for k = 0 and ±1 is
    Tango's (1998). The bootstrap's [k, k] would call two models equal for certain.
    """
    array = np.asarray(differences, dtype=np.float64)
    cluster = np.arange(len(array)) if clusters is None else np.asarray(clusters)
    found = mean_ci(array, cluster, level, resamples, seed)
    if not found.high - found.low < 1e-12:  # NaN too
        return found
    k, u = found.mean, wilson(0, cluster_codes(cluster[~np.isnan(array)])[1], level).high
    return replace(found, low=k - (1 + k) * u, high=k + (1 - k) * u)


def as_verdicts(values: ArrayLike) -> np.ndarray:
    """Verdicts as float64 [n]: 1, 0, or NaN where missing (None, NaN, pandas.NA); anything else raises."""
    column = np.asarray(values, dtype=object)
    array = np.where(pd.isna(column), math.nan, column).astype(np.float64)
    wrong = array[~np.isin(array, (0, 1)) & ~np.isnan(array)]
    if wrong.size:
        raise ValueError(f"verdicts {np.unique(wrong)[:5].tolist()}: expected True or False, or NaN where undefined")
    return array
