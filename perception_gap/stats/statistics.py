"""Means, differences within strata, and rank statistics: each with an interval, and a test where something is claimed.

Intervals are closed formulas over clusters, without resampling: which were chosen, and how often they cover and the
tests reject, is simulated by `python -m scripts.calibration` (docs/measures.md). An interval without width would
claim certainty: where all values are alike it is undefined, with the reason.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import rankdata, t

from perception_gap.stats.estimates import (
    LEVEL,
    Estimate,
    Labelled,
    cluster_codes,
    columns,
    defined,
    labelled,
    undefined,
)
from perception_gap.stats.permutation import ARRANGEMENTS, TOO_FEW, label_test, sign_test
from perception_gap.stats.proportions import paired_ci, proportion_ci

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FEWEST = 5  # clusters: of fewer no interval of a mean covers what it says
FEW = f"fewer than {FEWEST} independent samples"
ALIKE = "all values are alike"


def mean_ci(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = ARRANGEMENTS,
    seed: int = 0,
    null: float | None = None,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Mean of values [n] with an interval over clusters, which may differ in size.

    Student's t over the clusters, widened to Hall's (1992) where that reaches further: it follows the skewness, for
    which t is too short on the long side. Values that are all 0 or 1 are a proportion (`proportion_ci`). null: the
    mean without an effect, 0 for paired differences; p is then that of flipped signs (`sign_test`; resamples, seed),
    and differences that are all −1, 0 or 1 are those of verdicts (`paired_ci`). within: the range of the values, beyond
    which no end goes. Undefined below FEWEST clusters.
    """
    array, cluster, n_clusters = defined(values, clusters)
    n = len(array)
    if not n:
        return undefined()
    if null is None and np.isin(array, (0, 1)).all():
        return proportion_ci(array, cluster, level)
    if null == 0 and np.isin(array, (-1, 0, 1)).all():
        return paired_ci(array, cluster, level)
    mean = float(array.mean())
    p, few = math.nan, ""
    if null is not None:
        test = sign_test(np.bincount(cluster, array - null, n_clusters), resamples, seed)
        p, few = test.p, test.reason
    if n_clusters < FEWEST:
        return Estimate(mean, math.nan, math.nan, n, p, few or FEW)
    parts = np.bincount(cluster, array - mean, n_clusters) / n
    variance = n_clusters / (n_clusters - 1) * float((parts**2).sum())
    if variance <= (1e-12 * max(abs(mean), 1e-300)) ** 2:
        return Estimate(mean, math.nan, math.nan, n, p, few or ALIKE)
    low, high = _skewed(mean, variance, _third_moment(parts), n_clusters - 1, level)
    return Estimate(mean, max(low, within[0]), min(high, within[1]), n, p, few)


def difference_ci(
    values: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = ARRANGEMENTS,
    seed: int = 0,
) -> Estimate:
    """mean(values | label true) − mean(values | label false), within strata; p of re-arranged labels (`label_test`).

    labels: bool [n] (NaN: dropped). strata: [n], e.g. the task: the differences within each are averaged with
    weights n₁n₀ / (n₁ + n₀), the inverse of their variance under equal spread (the coefficient of the label
    in a least-squares fit with one intercept per stratum). Strata with one label only have weight 0; n counts
    the rows of the others. NaN where no stratum has both labels. The interval is Welch's with Satterthwaite's degrees
    of freedom, over clusters and widened as in `mean_ci`; see `_cell_spread` for the fewer of right and wrong.
    Undefined below FEWEST clusters, and where one cluster holds all that is true, or all that is false.
    """
    rows = labelled(values, labels, clusters, strata)
    if not rows.n:
        return undefined(reason="no task has right and wrong answers")
    counts = np.bincount(rows.cells(), minlength=2 * rows.n_strata).astype(float)
    n0, n1 = counts[0::2], counts[1::2]
    weights = n0 * n1 / (n0 + n1)
    weights = weights / weights.sum()
    means = np.bincount(rows.cells(), rows.values) / counts
    estimate = float((weights * (means[1::2] - means[0::2])).sum())
    p, least = label_test(rows.values, rows, resamples, seed)
    few = TOO_FEW if least > LEVEL else ""
    spread = _cell_spread(rows.values - means[rows.cells()], rows, np.repeat(weights, 2))
    if spread is None or rows.n_clusters < FEWEST or min(rows.clusters_of(0), rows.clusters_of(1)) < 2:
        return Estimate(estimate, math.nan, math.nan, rows.n, p, few or FEW)
    variance, third, freedom = spread
    if variance <= (1e-12 * max(float(np.abs(rows.values).max()), 1e-300)) ** 2:
        return Estimate(estimate, math.nan, math.nan, rows.n, p, few or ALIKE)
    low, high = _skewed(estimate, variance, third, freedom, level)
    return Estimate(estimate, low, high, rows.n, p, few)


def auroc(values: ArrayLike, labels: ArrayLike, strata: ArrayLike | None = None) -> float:
    """P(value of a true row > value of a false row), ties half, 0..1; 0.5 is chance (Mann–Whitney U / n₁n₀).

    labels: bool [n]. strata: only pairs within one stratum count (the mean over strata weighted by their
    pairs). NaN rows are dropped; NaN where no stratum has both labels.
    """
    rows = labelled(values, labels, None, strata)
    return _area(rows)[0] if rows.n else math.nan


def auroc_ci(
    values: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = ARRANGEMENTS,
    seed: int = 0,
) -> Estimate:
    """`auroc` with a score interval, real also where the labels are separated; n counts the rows of comparable strata.

    Newcombe's method 5 (2006): every area θ with |area − θ| <= t √V(θ), V by Hanley and McNeil (1982) with the mean of
    both numbers of rows; over strata V is summed. Where the clustered variance of the data (DeLong et al. 1988,
    Obuchowski 1997) is larger than V at the area, V is scaled up to it. p of re-arranged labels (`label_test`) over
    ranks: without clusters and strata the Mann–Whitney test, exact.
    """
    rows = labelled(values, labels, clusters, strata)
    if not rows.n:
        return undefined(reason="no task has right and wrong answers")
    area, ranks, placements = _area(rows)
    p, least = label_test(ranks, rows, resamples, seed)
    few = TOO_FEW if least > LEVEL else ""
    if rows.n_clusters < FEWEST:
        return Estimate(area, math.nan, math.nan, rows.n, p, few or FEW)
    counts = np.bincount(rows.cells(), minlength=2 * rows.n_strata).astype(float)
    n0, n1 = counts[0::2], counts[1::2]
    weights = n0 * n1 / (n0 * n1).sum()

    def variance(theta: float) -> float:
        shape = (1 - theta) / (2 - theta) + theta / (1 + theta)
        of_strata = theta * (1 - theta) * (1 + ((n0 + n1) / 2 - 1) * shape) / (n0 * n1)
        return float((weights**2 * of_strata).sum())

    spread = _cell_spread(placements, rows, np.repeat(weights, 2))
    scale = 1.0 if spread is None or not variance(area) else max(1.0, spread[0] / variance(area))
    quantile = float(t.ppf((1 + level) / 2, rows.n_clusters - 1))

    def beyond(theta: float) -> float:
        return abs(area - theta) - quantile * math.sqrt(scale * variance(theta))

    # At an area of 0 or 1 `beyond` is 0 there too, which is not the end that is looked for.
    low = 0.0 if area == 0 else float(brentq(beyond, 0.0, area - 1e-9))
    high = 1.0 if area == 1 else float(brentq(beyond, area + 1e-9, 1.0))
    return Estimate(area, low, high, rows.n, p, few)


def accuracy_by_threshold(
    focus: ArrayLike,
    correct: ArrayLike,
    thresholds: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Accuracy among the samples with focus >= threshold (paper figure 2).

    focus: [n], 0..1; correct: bool [n]; rows with NaN in either are dropped. thresholds: default 0 and
    the 5 %, 10 %, .. 95 % quantiles of the focus, each once. Returns columns threshold, accuracy, low, high
    (fractions 0–1, NaN where n = 0; `proportion_ci`) and n.
    """
    array, label, cluster = columns(focus, np.asarray(correct, dtype=np.float64), clusters)
    keep = ~np.isnan(array) & ~np.isnan(label)
    array, label, (cluster, _) = array[keep], label[keep], cluster_codes(cluster[keep])
    if thresholds is None:
        quantiles = np.quantile(array, np.arange(1, 20) / 20) if len(array) else []
        levels = np.unique(np.concatenate([[0.0], np.maximum(quantiles, 0.0)]))
    else:
        levels = np.asarray(thresholds, dtype=np.float64).reshape(-1)
    shares = [proportion_ci(label[array >= threshold], cluster[array >= threshold], level) for threshold in levels]
    return pd.DataFrame(
        {
            "threshold": levels,
            "accuracy": [share.mean for share in shares],
            "low": [share.low for share in shares],
            "high": [share.high for share in shares],
            "n": [share.n for share in shares],
        }
    )


def spread_ci(values: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> dict[str, Estimate]:
    """std (ddof 0), cv (std / mean), min and max of values [n]; NaN: dropped. cv is NaN unless the mean is above 0.

    Intervals of std and cv as in `mean_ci`, of their logarithms, linearised (delta method). Smallest and largest have
    none: a sample does not reach beyond them.
    """
    array, cluster, n_clusters = defined(values, clusters)
    n = len(array)
    if not n:
        return dict.fromkeys(("std", "cv", "min", "max"), undefined())
    mean, std = float(array.mean()), float(array.std())
    ends = {"min": array.min(), "max": array.max()}
    estimates = {name: Estimate(float(value), math.nan, math.nan, n) for name, value in ends.items()}
    cv = std / mean if mean > 0 else math.nan
    if n_clusters < FEWEST or std <= 1e-12 * abs(mean):
        reason = FEW if n_clusters < FEWEST else ALIKE
        return estimates | {
            name: Estimate(value, math.nan, math.nan, n, reason=reason) for name, value in (("std", std), ("cv", cv))
        }
    of_std = ((array - mean) ** 2 / std**2 - 1) / (2 * n)
    of_mean = (array - mean) / (mean * n) if mean > 0 else np.zeros(n)
    for name, value, parts in (("std", std, of_std), ("cv", cv, of_std - of_mean)):
        if math.isnan(value):
            estimates[name] = undefined(n, "the mean is not above 0")
            continue
        sums = np.bincount(cluster, parts, n_clusters)
        variance = n_clusters / (n_clusters - 1) * float((sums**2).sum())
        if variance <= 1e-24:  # of a logarithm: two values, each as often, have one deviation
            estimates[name] = Estimate(value, math.nan, math.nan, n, reason="all deviations are alike")
            continue
        low, high = _skewed(math.log(value), variance, _third_moment(sums), n_clusters - 1, level)
        estimates[name] = Estimate(value, math.exp(low), math.exp(high), n)
    return estimates


def _area(rows: Labelled) -> tuple[float, np.ndarray, np.ndarray]:
    """(area, ranks within strata [n], placements [n]).

    A placement is the share of the other label's rows of the stratum that a row beats, less the stratum's mean of it.
    """
    ranks, placements = np.empty(rows.n), np.empty(rows.n)
    favourable = pairs = 0.0
    for i in range(rows.n_strata):
        here = rows.stratum == i
        positive = rows.label[here] == 1
        ranks[here] = everything = rankdata(rows.values[here])
        n1, n0 = int(positive.sum()), int((~positive).sum())
        beaten = np.empty(n1 + n0)
        for side, others in ((positive, n0), (~positive, n1)):
            beaten[side] = (everything[side] - rankdata(rows.values[here][side])) / others
            beaten[side] -= beaten[side].mean()
        placements[here] = beaten
        favourable += float(everything[positive].sum()) - n1 * (n1 + 1) / 2
        pairs += n1 * n0
    return favourable / pairs, ranks, placements


def _cell_spread(residuals: np.ndarray, rows: Labelled, weights: np.ndarray) -> tuple[float, float, float] | None:
    """(variance, third moment, degrees of freedom) of Σ ± weight × mean(cell); None where nothing scatters.

    residuals [n]: of the cell's mean. weights [cells], a cell being a stratum and label. A cell of k clusters that is
    smaller than its stratum's other one is taken to scatter at least as that one does: two or three wrong answers do
    not tell.
    """
    cells, n_cells = rows.cells(), 2 * rows.n_strata
    counts = np.bincount(cells, minlength=n_cells)
    side = np.where(np.arange(n_cells) % 2, 1.0, -1.0)
    # One row a (cluster, cell): its part of the cell's mean.
    keys, index = np.unique(rows.cluster * n_cells + cells, return_inverse=True)
    parts = np.bincount(index, residuals / counts[cells])
    cell, cluster = keys % n_cells, keys // n_cells
    k = np.bincount(cell, minlength=n_cells).astype(float)
    if not (k > 1).any():
        return None
    # Variance and third moment of ONE cluster of each cell, from its own clusters.
    own = np.where(k > 1, k**2 / np.maximum(k - 1, 1) * np.bincount(cell, parts**2, n_cells), np.nan)
    cubed = k**4 / np.maximum((k - 1) * (k - 2), 1) * np.bincount(cell, parts**3, n_cells)
    third = np.where(k > 2, cubed * (1 + 3 / k), 0.0)
    partner = np.arange(n_cells) ^ 1
    smaller = k < k[partner]
    lent = np.where(np.isnan(own[partner]), np.nanmean(own), own[partner])
    variance = np.where(np.isnan(own), lent, np.where(smaller, np.fmax(own, lent), own))
    third = np.where(k > 2, third, 0.0)
    sums = np.bincount(cluster, parts * (side * weights * np.sqrt(k / np.maximum(k - 1, 1)))[cell], rows.n_clusters)
    of_cells = weights**2 * variance / k
    together = float((sums**2).sum() + (weights**2 * (variance - np.nan_to_num(own)) / k).sum())
    borrowed = k < FEWEST
    known = np.where(borrowed, k + k[partner] - 2, k - 1)
    freedom = float(of_cells.sum()) ** 2 / float((of_cells**2 / np.maximum(known, 1)).sum()) if of_cells.any() else 1.0
    return together, float((side * weights**3 * third / k**2).sum()), max(freedom, 1.0)


def _third_moment(parts: np.ndarray) -> float:
    """Of a sum of independent parts [k] of mean 0; a little more than estimated, as few show too little skewness."""
    k = len(parts)
    return k**2 / ((k - 1) * (k - 2)) * (1 + 3 / k) * float((parts**3).sum())


def _skewed(estimate: float, variance: float, third: float, freedom: float, level: float) -> tuple[float, float]:
    """The wider, at each end, of Student's t interval and of Hall's (1992) from his monotone cubic."""
    error, quantile = math.sqrt(variance), float(t.ppf((1 + level) / 2, freedom))
    skewness = third / variance**1.5
    ends = []
    for standard in (quantile, -quantile):
        hall = standard
        if abs(skewness) > 1e-6:
            hall = 3 / skewness * (float(np.cbrt(1 + skewness * (standard - skewness / 6))) - 1)
        ends.append(estimate - error * (max if standard > 0 else min)(standard, hall))
    return ends[0], ends[1]
