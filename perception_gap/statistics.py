"""Means, differences and rank statistics with bootstrap intervals that respect clusters.

Questions about one image, and minimal pairs, are not independent: whole clusters are drawn with replacement,
never single rows, and the interval is the percentile interval of the resampled statistic. `clusters` [n]
holds any labels (None: every row its own cluster; a row whose own label is None or NaN likewise). A value of
NaN is undefined: its row is dropped and not counted in n. With fewer than two clusters the interval is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import binomtest, rankdata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Cells of a block of resamples (about six arrays of 8 bytes each), so that a bootstrap stays near 100 MB.
_BLOCK = 2 * 10**6


@dataclass(frozen=True)
class Estimate:
    """A statistic, its interval (NaN where undefined) and the number of rows that it rests on."""

    mean: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """{"mean": float | None, "ci": [low, high] | None, "n": int}, undefined as None, for JSON."""
        defined = not (math.isnan(self.low) or math.isnan(self.high))
        return {
            "mean": None if math.isnan(self.mean) else self.mean,
            "ci": [self.low, self.high] if defined else None,
            "n": self.n,
        }


def mean_ci(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean of values [n] with a cluster bootstrap interval; clusters may differ in size."""
    array, cluster = _columns(values, clusters)
    keep = ~np.isnan(array)
    array, (cluster, n_clusters) = array[keep], cluster_codes(cluster[keep])
    if not len(array):
        return Estimate(math.nan, math.nan, math.nan, 0)
    sums = np.stack([np.bincount(cluster, array, n_clusters), np.bincount(cluster, minlength=n_clusters)], axis=1)

    def mean(weights: np.ndarray) -> np.ndarray:
        return _ratio(*(weights @ sums).T)

    low, high = _interval(_bootstrap(mean, n_clusters, resamples, seed), level)
    return Estimate(float(array.mean()), low, high, len(array))


def difference_ci(
    values: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """mean(values | label true) − mean(values | label false), within strata.

    labels: bool [n] (NaN: dropped). strata: [n], e.g. the task: the differences within each are averaged with
    weights n₁n₀ / (n₁ + n₀), the inverse of their variance under equal spread (the coefficient of the label
    in a least-squares fit with one intercept per stratum). Strata with one label only have weight 0; n counts
    the rows of the others. NaN where no stratum has both labels; resamples without both are left out of the
    interval.
    """
    rows = _labelled(values, labels, clusters, strata)
    array, label, cluster, n_clusters, stratum, n_strata = rows
    columns = stratum * 2 + label
    shape = (n_clusters, 2 * n_strata)
    sums = csr_array((array, (cluster, columns)), shape=shape)
    counts = csr_array((np.ones(len(array)), (cluster, columns)), shape=shape)

    def difference(weights: np.ndarray) -> np.ndarray:
        s0, s1 = _by_label(weights @ sums)
        n0, n1 = _by_label(weights @ counts)
        pooled = np.maximum(n0 + n1, 1)
        # weight × difference = (n0 s1 − n1 s0) / (n0 + n1): nothing to divide by where a label is missing.
        return _ratio(((n0 * s1 - n1 * s0) / pooled).sum(axis=1), (n0 * n1 / pooled).sum(axis=1))

    low, high = _interval(_bootstrap(difference, n_clusters, resamples, seed), level)
    return Estimate(float(difference(np.ones((1, n_clusters)))[0]), low, high, rows.n_comparable)


def auroc(values: ArrayLike, labels: ArrayLike, strata: ArrayLike | None = None) -> float:
    """P(value of a true row > value of a false row), ties half, 0..1; 0.5 is chance (Mann–Whitney U / n₁n₀).

    labels: bool [n]. strata: only pairs within one stratum count (the mean over strata weighted by their
    pairs). NaN rows are dropped; NaN where no stratum has both labels.
    """
    array, label, _, _, stratum, n_strata = _labelled(values, labels, None, strata)
    favourable = pairs = 0.0
    for i in range(n_strata):
        ranks, positive = rankdata(array[stratum == i]), label[stratum == i] == 1
        n1, n0 = int(positive.sum()), int((~positive).sum())
        favourable += float(ranks[positive].sum()) - n1 * (n1 + 1) / 2
        pairs += n1 * n0
    return favourable / pairs if pairs else math.nan


def auroc_ci(
    values: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    """`auroc` with a cluster bootstrap interval; n counts the rows of strata with both labels."""
    table = _labelled(values, labels, clusters, strata)
    array, label, cluster, n_clusters, stratum, n_strata = table
    order = np.argsort(array, kind="stable")
    parts = []
    for i in range(n_strata):
        rows = order[stratum[order] == i]
        starts = np.flatnonzero(np.append(True, array[rows[1:]] != array[rows[:-1]]))
        parts.append((cluster[rows], label[rows] == 1, starts))

    def area(weights: np.ndarray) -> np.ndarray:
        favourable, pairs = np.zeros((2, len(weights)))
        for members, positive, starts in parts:
            weight = weights[:, members]
            # Weight per distinct value, ascending: [resamples, values].
            ones = np.add.reduceat(weight * positive, starts, axis=1)
            zeros = np.add.reduceat(weight * ~positive, starts, axis=1)
            below = np.cumsum(zeros, axis=1) - zeros / 2
            favourable += (ones * below).sum(axis=1)
            pairs += ones.sum(axis=1) * zeros.sum(axis=1)
        return _ratio(favourable, pairs)

    low, high = _interval(_bootstrap(area, n_clusters, resamples, seed, width=len(array)), level)
    return Estimate(auroc(values, labels, strata), low, high, table.n_comparable)


def accuracy_by_threshold(
    focus: ArrayLike,
    correct: ArrayLike,
    thresholds: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy among the samples with focus >= threshold (paper figure 2).

    focus: [n], 0..1; correct: bool [n]; rows with NaN in either are dropped. thresholds: default 0 and
    the 5 %, 10 %, .. 95 % quantiles of the focus, each once. Returns columns threshold, accuracy, low, high
    (fractions 0–1, NaN where n = 0) and n. One bootstrap over all clusters serves every threshold: how many
    samples pass it is random too. Where all that pass are right, or all wrong, no resample differs: the interval is
    Wilson's over their clusters, as in `proportions.proportion_ci`.
    """
    array, label, cluster, n_clusters, _, _ = _labelled(focus, correct, clusters, None)
    if thresholds is None:
        quantiles = np.quantile(array, np.arange(1, 20) / 20) if len(array) else []
        levels = np.unique(np.concatenate([[0.0], np.maximum(quantiles, 0.0)]))
    else:
        levels = np.asarray(thresholds, dtype=np.float64).reshape(-1)
    above = array[:, None] >= levels
    by_cluster = csr_array((np.ones(len(array)), (cluster, np.arange(len(array)))), shape=(n_clusters, len(array)))
    counts, right = by_cluster @ above.astype(np.float64), by_cluster @ (above * (label[:, None] == 1))

    def accuracy(weights: np.ndarray) -> np.ndarray:
        return _ratio(weights @ right, weights @ counts)

    drawn = _bootstrap(accuracy, n_clusters, resamples, seed)
    passing = (counts > 0).sum(axis=0)
    drawn[:, passing < 2] = np.nan
    shares = _ratio(right.sum(axis=0), counts.sum(axis=0))
    bounds = []
    for share, clusters_there, column in zip(shares, passing, drawn.T, strict=True):
        alike = share in (0, 1)
        score = wilson(clusters_there if share else 0, clusters_there, level) if alike else None
        bounds.append((score.low, score.high) if score else _interval(column, level))
    return pd.DataFrame(
        {
            "threshold": levels,
            "accuracy": shares,
            "low": [low for low, _ in bounds],
            "high": [high for _, high in bounds],
            "n": above.sum(axis=0),
        }
    )


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Proportion with Wilson's score interval, for independent trials; NaN for n = 0."""
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    interval = binomtest(int(successes), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), int(n))


def cluster_codes(labels: ArrayLike) -> tuple[np.ndarray, int]:
    """Labels [n] as 0..k − 1 in order of appearance, and k; a missing label becomes a code of its own."""
    codes, names = pd.factorize(np.asarray(labels))
    alone = codes < 0
    codes[alone] = len(names) + np.arange(alone.sum())
    return codes, len(names) + int(alone.sum())


def _columns(values: ArrayLike, *others: ArrayLike | None) -> list[np.ndarray]:
    """values as float64 [n] and the other columns as arrays [n]; None becomes one number per row."""
    array = np.asarray(values, dtype=np.float64)
    columns = [array, *(np.arange(array.size) if other is None else np.asarray(other) for other in others)]
    if any(column.shape != (array.size,) for column in columns):
        raise ValueError(f"columns of shapes {[c.shape for c in columns]}: expected one value per row in each, [n]")
    return columns


class _Rows(NamedTuple):
    """Rows whose value and label are defined: labels 0/1, clusters and strata as codes from 0."""

    values: np.ndarray
    label: np.ndarray
    cluster: np.ndarray
    n_clusters: int
    stratum: np.ndarray
    n_strata: int

    @property
    def n_comparable(self) -> int:
        """Rows of the strata that have both labels."""
        counts = np.bincount(self.stratum * 2 + self.label, minlength=2 * self.n_strata).reshape(-1, 2)
        return int(counts[(counts > 0).all(axis=1)].sum())


def _labelled(values: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None, strata: ArrayLike | None) -> _Rows:
    array, label, cluster, stratum = _columns(
        values,
        np.asarray(labels, dtype=np.float64),
        clusters,
        np.zeros(np.size(values)) if strata is None else strata,
    )
    keep = ~np.isnan(array) & ~np.isnan(label)
    if not np.isin(label[keep], (0, 1)).all():
        raise ValueError(f"labels {np.unique(label[keep])[:5].tolist()}: expected booleans")
    return _Rows(
        array[keep], label[keep].astype(np.int64), *cluster_codes(cluster[keep]), *cluster_codes(stratum[keep])
    )


def _bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], n_clusters: int, resamples: int, seed: int, width: int = 0
) -> np.ndarray:
    """[resamples, ..]: the statistic of blocks of weights [r, n_clusters]; one row of NaN below two clusters.

    width: columns of the statistic's largest intermediate, if wider than the clusters.
    """
    if n_clusters < 2:
        return np.full_like(statistic(np.ones((1, n_clusters))), np.nan)
    return np.concatenate([statistic(w) for w in _draws(n_clusters, resamples, seed, width)])


def _draws(n_clusters: int, resamples: int, seed: int, width: int) -> Iterator[np.ndarray]:
    """Blocks [r, n_clusters] of bootstrap weights: how often each cluster was drawn (multinomial counts)."""
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(n_clusters, width))
    for start in range(0, resamples, step):
        r = min(step, resamples - start)
        drawn = generator.integers(n_clusters, size=(r, n_clusters)) + np.arange(r)[:, None] * n_clusters
        counts = np.bincount(drawn.ravel(), minlength=r * n_clusters)
        yield counts.reshape(r, n_clusters).astype(np.float64)


def _interval(statistics: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval over the resamples in which the statistic is defined."""
    defined = statistics[~np.isnan(statistics)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _by_label(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[r, 2 strata] -> [r, strata] of label false and of label true."""
    return sums[:, 0::2], sums[:, 1::2]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
