"""What a statistic is reported as, and the columns that all statistics take.

`clusters` [n] holds any labels (None: every row its own cluster; a row whose own label is None or NaN likewise):
questions about one image, and minimal pairs, are not independent. A value of NaN is undefined: its row is dropped and
not counted in n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LEVEL = 0.05  # at which a difference is claimed


@dataclass(frozen=True)
class Estimate:
    """A statistic, its interval (NaN where undefined) and the number of rows that it rests on.

    p: of the test that the statistic is what it would be without any effect, two-sided; NaN where none was made.
    reason: why there is no interval, or no test, in a few words.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = math.nan
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """{"mean": float | None, "ci": [low, high] | None, "n": int}, undefined as None, for JSON.

        "p" where a test was made, "reason" where something is undefined.
        """
        defined = not (math.isnan(self.low) or math.isnan(self.high))
        fields: dict[str, Any] = {
            "mean": None if math.isnan(self.mean) else self.mean,
            "ci": [self.low, self.high] if defined else None,
            "n": self.n,
        }
        if not math.isnan(self.p):
            fields["p"] = self.p
        return fields | ({"reason": self.reason} if self.reason else {})


def side(metric: Mapping[str, Any] | None, null: float = 0.0) -> int:
    """+1 or −1 where a metric {mean, ci, n, p} is established above or below `null`, else 0: every claim rests on it.

    Its interval excludes `null`, and its test, corrected where the same was asked of several (p_holm), rejects.
    """
    if metric is None or metric["mean"] is None or not metric["ci"]:
        return 0
    p = metric["p_holm"] if "p_holm" in metric else metric.get("p", 0.0)
    if p is None or p > LEVEL:
        return 0
    low, high = metric["ci"]
    return 1 if low > null else -1 if high < null else 0


def undefined(n: int = 0, reason: str = "no value") -> Estimate:
    """An estimate without a value."""
    return Estimate(math.nan, math.nan, math.nan, n, reason=reason)


def cluster_codes(labels: ArrayLike) -> tuple[np.ndarray, int]:
    """Labels [n] as 0..k − 1 in order of appearance, and k; a missing label becomes a code of its own."""
    codes, names = pd.factorize(np.asarray(labels))
    alone = codes < 0
    codes[alone] = len(names) + np.arange(alone.sum())
    return codes, len(names) + int(alone.sum())


def columns(values: ArrayLike, *others: ArrayLike | None) -> list[np.ndarray]:
    """values as float64 [n] and the other columns as arrays [n]; None becomes one number per row."""
    array = np.asarray(values, dtype=np.float64)
    every = [array, *(np.arange(array.size) if other is None else np.asarray(other) for other in others)]
    if any(column.shape != (array.size,) for column in every):
        raise ValueError(f"columns of shapes {[c.shape for c in every]}: expected one value per row in each, [n]")
    return every


def defined(values: ArrayLike, clusters: ArrayLike | None) -> tuple[np.ndarray, np.ndarray, int]:
    """(values that are not NaN, float64 [n]; their clusters as codes [n] from 0; how many clusters)."""
    array, cluster = columns(values, clusters)
    keep = ~np.isnan(array)
    return array[keep], *cluster_codes(cluster[keep])


@dataclass(frozen=True)
class Labelled:
    """Rows whose value and label are defined, of the strata that have both labels.

    values [n] float64; label [n] 0 or 1; cluster, stratum [n] codes from 0.
    """

    values: np.ndarray
    label: np.ndarray
    cluster: np.ndarray
    n_clusters: int
    stratum: np.ndarray
    n_strata: int

    @property
    def n(self) -> int:
        return len(self.values)

    def clusters_of(self, label: int) -> int:
        """How many clusters have a row of this label."""
        return len(np.unique(self.cluster[self.label == label]))

    def cells(self) -> np.ndarray:
        """[n]: 2 × stratum + label."""
        codes: np.ndarray = self.stratum * 2 + self.label
        return codes


def labelled(
    values: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None, strata: ArrayLike | None = None
) -> Labelled:
    """labels: bool [n] (NaN: dropped); a stratum with one label only has nothing to compare and is left out."""
    everything = np.zeros(np.size(values)) if strata is None else strata
    array, label, cluster, stratum = columns(values, np.asarray(labels, dtype=np.float64), clusters, everything)
    keep = ~np.isnan(array) & ~np.isnan(label)
    if not np.isin(label[keep], (0, 1)).all():
        raise ValueError(f"labels {np.unique(label[keep])[:5].tolist()}: expected booleans")
    codes, n_strata = cluster_codes(stratum[keep])
    counts = np.bincount(codes * 2 + label[keep].astype(np.int64), minlength=2 * n_strata).reshape(-1, 2)
    comparable = np.asarray((counts > 0).all(axis=1))
    keep[keep] = comparable[codes]
    return Labelled(
        array[keep], label[keep].astype(np.int64), *cluster_codes(cluster[keep]), *cluster_codes(stratum[keep])
    )
