"""Exact tests of "no effect": what the data would say if signs or labels had fallen otherwise.

Both hold their level at any n, whatever the distribution of the values: exactly where all arrangements are counted, and
as (b + 1) / (m + 1) where m are drawn (Phipson and Smyth 2010). Beyond MOST_DRAWN rows the normal law with the exact
permutation variance takes their place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from scipy.stats import norm

from perception_gap.stats.estimates import LEVEL, Labelled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

TOO_FEW = "too few to say"
ARRANGEMENTS = 4999  # drawn, where there are more than can be counted
MOST_DRAWN = 2000  # rows
_CELLS = 2 * 10**6  # of one block of arrangements, so that a test stays near 50 MB


class Test(NamedTuple):
    """p: two-sided, 0..1. least: the smallest p that any data of this shape could have had; 1 for no data."""

    p: float
    least: float

    @property
    def reason(self) -> str:
        """TOO_FEW where no arrangement at all could have been significant."""
        return TOO_FEW if self.least > LEVEL else ""


def sign_test(sums: np.ndarray, arrangements: int = ARRANGEMENTS, seed: int = 0) -> Test:
    """Is the mean 0? Under no effect a cluster's sum [clusters] is as likely with the other sign."""
    sums = sums[sums != 0]
    k = len(sums)
    if not k:
        return Test(1.0, 1.0)
    if k > MOST_DRAWN:
        return Test(2 * float(norm.sf(abs(sums.sum()) / math.sqrt((sums**2).sum()))), 0.0)
    exact = 2**k <= arrangements + 1
    if exact:
        signs = 1 - 2 * (np.arange(2**k)[:, None] >> np.arange(k) & 1)
        totals = signs @ sums
    else:
        generator = np.random.default_rng(seed)
        step = max(1, _CELLS // k)
        blocks = [min(step, arrangements - start) for start in range(0, arrangements, step)]
        totals = np.concatenate([generator.choice((-1, 1), size=(rows, k)) @ sums for rows in blocks])
    return _decided(float(sums.sum()), totals, exact)


def label_test(scores: np.ndarray, rows: Labelled, arrangements: int = ARRANGEMENTS, seed: int = 0) -> Test:
    """Do the labels go with the scores [n]? Σ label × score, centred within strata, over re-arranged labels.

    Under no effect a cluster may bear the labels of any other cluster with as many rows of each stratum, and rows of
    one cluster and stratum may change theirs: how many of a stratum are true stays what it is, and so does how alike
    labels (and values) are within a cluster. Without clusters: every arrangement of the labels within strata.
    """
    if not rows.n:
        return Test(1.0, 1.0)
    means = np.bincount(rows.stratum, scores) / np.bincount(rows.stratum)
    centred = scores - means[rows.stratum]
    seen = float((centred * rows.label).sum())
    groups = list(_alike(centred, rows))
    expected = sum(group.expected() for group in groups)
    if rows.n > MOST_DRAWN:
        variance = sum(group.variance() for group in groups)
        return Test(2 * float(norm.sf(abs(seen - expected) / math.sqrt(variance))) if variance else 1.0, 0.0)
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // rows.n)
    blocks = [min(step, arrangements - start) for start in range(0, arrangements, step)]
    totals = np.concatenate([sum(group.drawn(b, generator) for group in groups) for b in blocks])
    return _decided(seen - expected, totals - expected, exact=False)


def _decided(seen: float, totals: np.ndarray, exact: bool) -> Test:
    """Ties are counted as at least as far, whatever rounding made of them."""
    sizes = np.abs(totals)
    largest = max(float(sizes.max()), abs(seen))
    slack = 1e-9 * largest
    if largest == 0:
        return Test(1.0, 1.0)
    if exact:
        return Test(float((sizes >= abs(seen) - slack).mean()), float((sizes >= largest - slack).mean()))
    as_far, extreme = ((sizes >= size - slack).sum() for size in (abs(seen), largest))
    return Test(float(as_far + 1) / (len(sizes) + 1), float(extreme + 1) / (len(sizes) + 1))


class _Group(NamedTuple):
    """Clusters with as many rows of each stratum. scores, labels [k, m], blocks: columns of one stratum each."""

    scores: np.ndarray
    labels: np.ndarray
    blocks: list[slice]

    def drawn(self, arrangements: int, generator: np.random.Generator) -> np.ndarray:
        """[arrangements]: Σ label × score under re-arranged labels."""
        k = len(self.labels)
        order = generator.permuted(np.broadcast_to(np.arange(k), (arrangements, k)), axis=1)
        labels = self.labels[order]
        for block in self.blocks:
            if block.stop - block.start > 1:
                labels[:, :, block] = generator.permuted(labels[:, :, block], axis=2)
        sums: np.ndarray = np.einsum("akm,km->a", labels, self.scores)
        return sums

    def _shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Per cluster and block: share of true labels, sum of scores; both [k, blocks]."""
        ones = np.stack([self.labels[:, b].mean(axis=1) for b in self.blocks], axis=1)
        return ones, np.stack([self.scores[:, b].sum(axis=1) for b in self.blocks], axis=1)

    def expected(self) -> float:
        """Mean of the total over all arrangements: not 0, as clusters of one shape are not all of a stratum."""
        shares, sums = self._shares()
        return float((shares.mean(axis=0) * sums.sum(axis=0)).sum())

    def variance(self) -> float:
        """Of the total over all arrangements: between clusters, and within them."""
        (shares, sums), k = self._shares(), len(self.labels)
        between = 0.0
        if k > 1:
            between = float((np.cov(shares.T, ddof=1) * np.cov(sums.T, ddof=1)).sum()) * (k - 1)
        within = 0.0
        for b in self.blocks:
            size = b.stop - b.start
            if size > 1:
                ones, scores = self.labels[:, b].sum(axis=1), self.scores[:, b]
                spread = float(((scores - scores.mean(axis=1, keepdims=True)) ** 2).sum())
                within += float((ones * (size - ones)).mean()) / (size * (size - 1)) * spread
        return between + within


def _alike(scores: np.ndarray, rows: Labelled) -> Iterator[_Group]:
    order = np.lexsort((rows.stratum, rows.cluster))
    starts = np.flatnonzero(np.diff(rows.cluster[order], prepend=-1))
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = {}
    for members in np.split(order, starts[1:]):
        by_shape.setdefault(tuple(rows.stratum[members].tolist()), []).append(members)
    for shape, clusters in by_shape.items():
        index = np.stack(clusters)
        ends = [*np.flatnonzero(np.diff(shape) != 0) + 1, len(shape)]
        blocks = [slice(int(a), int(b)) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        yield _Group(scores[index], rows.label[index], blocks)


@overload
def holm(p_values: Mapping[Any, float]) -> dict[Any, float]: ...
@overload
def holm(p_values: ArrayLike) -> np.ndarray: ...
def holm(p_values: Mapping[Any, float] | ArrayLike) -> dict[Any, float] | np.ndarray:
    """Holm's step-down adjusted p-values, 0..1: a dict for a mapping, else [n]. NaN stays NaN and is no test."""
    if isinstance(p_values, Mapping):
        return dict(zip(p_values, holm(list(p_values.values())).tolist(), strict=True))
    array = np.array(p_values, dtype=np.float64)
    defined = ~np.isnan(array)
    if ((array[defined] < 0) | (array[defined] > 1)).any():
        raise ValueError(f"p-values {array[defined].tolist()}: expected 0..1, or NaN where there is no test")
    # Not statsmodels' multipletests: it collects garbage at every call, a second in a process that holds a model.
    known = array[defined]
    order = np.argsort(known, kind="stable")
    known[order] = np.minimum(1, np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)))
    array[defined] = known
    return array
