"""Is one model better than another? Accuracies, paired comparisons, Holm's correction.

Verdicts are True, False or missing (None, NaN, pandas.NA). A missing one is undefined: dropped and counted; a failed
sample comes as False and stays in the denominator. `clusters` [n] as in `perception_gap.stats.statistics`: rows of one
label are not independent, a row whose label is missing stands alone. Fractions are 0..1, intervals 95 %, p-values
two-sided; a difference is the second model minus the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar

from benchmarks.power import detectable
from perception_gap.stats.estimates import Estimate, cluster_codes
from perception_gap.stats.permutation import holm
from perception_gap.stats.proportions import as_verdicts, paired_ci, proportion_ci

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

COLUMNS = ("model", "task", "sample_id", "cluster", "correct")


def per_cluster_all(verdicts: ArrayLike, clusters: ArrayLike, size: int | None = None) -> pd.Series:
    """Float per cluster label, in order of appearance: 1 if all its verdicts are right, else 0 (MMVP: size=2).

    NaN where a verdict is missing or, with `size`, rows are: to count such a cluster where the rest is wrong
    and leave it out where the rest is right would pull the score down. More rows than `size` raise.
    """
    array, labels = as_verdicts(verdicts), np.asarray(clusters)
    if labels.shape != array.shape:
        raise ValueError(f"clusters of shape {labels.shape}: expected one label per verdict, {array.shape}")
    codes = pd.Series(cluster_codes(labels)[0])
    names = labels[~codes.duplicated().to_numpy()]
    groups = pd.Series(array, name="correct").groupby(codes, sort=False)
    rows = groups.size()
    if size is not None and (rows > size).any():
        i = int(rows.to_numpy().argmax())
        which = names.tolist()[i]
        raise ValueError(f"cluster {which!r} has {rows.iloc[i]} rows: expected {size}; drop repeated answers first")
    whole = groups.count() == (rows if size is None else size)
    return groups.min().where(whole).set_axis(pd.Index(names, name="cluster"))


@dataclass(frozen=True)
class Paired:
    """Two models on the same samples. p-values are NaN without samples, and 1 where no answer is discordant."""

    n: int  # samples with both verdicts
    n_undefined: int  # samples without, left out
    n_clusters: int
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    difference: Estimate  # accuracy of the second − of the first, −1..1
    p_value: float  # McNemar's exact test: independent samples
    p_clustered: float  # sign flips of whole clusters; NaN where no cluster repeats

    @property
    def p(self) -> float:
        """The p-value that holds: of the clusters where any repeats, else McNemar's."""
        return self.p_value if math.isnan(self.p_clustered) else self.p_clustered

    @property
    def discordance(self) -> float:
        """Share of samples that exactly one model answers right, 0..1; NaN without samples."""
        return (self.only_first + self.only_second) / self.n if self.n else math.nan


def paired(a: ArrayLike, b: ArrayLike, clusters: ArrayLike | None = None) -> Paired:
    """Compare verdicts a (first model) with b (second) [n], row by row of one sample each.

    p_value is McNemar's: of the discordant samples, are as many right in a as in b (binomial, exact)? p_clustered
    drops its independence within clusters: if the models are exchangeable, a cluster's summed difference is as likely
    with the other sign, and p is the share of all 2^clusters signs whose total is at least as far from 0, counted
    exactly. With one row a cluster that is McNemar's test; a single cluster gives 1. The null of both is more than
    equal accuracy: swapping the models in any cluster changes nothing.
    """
    first, second = as_verdicts(a), as_verdicts(b)
    labels = np.arange(first.size) if clusters is None else np.asarray(clusters)
    if not first.shape == second.shape == labels.shape:
        shapes = [first.shape, second.shape, labels.shape]
        raise ValueError(f"verdicts and clusters of shapes {shapes}: expected one row per sample in each, [n]")
    keep = ~np.isnan(first) & ~np.isnan(second)
    first, second, labels = first[keep], second[keep], labels[keep]
    n_clusters = cluster_codes(labels)[1]
    n = len(first)
    # 2 × first + second: 0 both wrong, 1 only second, 2 only first, 3 both right.
    both_wrong, only_second, only_first, both_right = np.bincount((2 * first + second).astype(int), minlength=4)
    table = [[both_right, only_first], [only_second, both_wrong]]
    difference = paired_ci(second - first, labels)
    p_value = float(mcnemar(table, exact=True).pvalue) if n else math.nan
    p_clustered = difference.p if n_clusters < n else math.nan
    counts = int(both_right), int(only_first), int(only_second), int(both_wrong)
    return Paired(n, int((~keep).sum()), n_clusters, *counts, difference, p_value, p_clustered)


def paired_comparison(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """One row a task, in order of name, and last a row "all", of two models on the samples that both have.

    frame: columns model, task, sample_id, cluster (as above, within a task), correct; one row a model and sample.
    "all" pools the samples, so that a task weighs as many as it has; its clusters are those of the tasks.

    Returns task, n, n_undefined, n_clusters (of the common samples), n_first_only, n_second_only (answered by one
    model alone, left out); accuracy_first, accuracy_second, difference (each with _low, _high, over the same n);
    both_right, only_first, only_second, both_wrong, discordance; p_mcnemar, p_clustered, p (`Paired.p`); p_holm, over
    the tasks (NaN for "all", which is not one of them); detectable, from n and the discordance seen, as if questions
    were independent. Undefined is NaN, so a task without common samples stays, with n = 0.
    """
    wide = _side_by_side(frame, first, second)
    parts = [*wide.groupby("task", observed=True), ("all", wide)]
    table = pd.DataFrame([{"task": task} | _row(part) for task, part in parts])
    table["p_holm"] = [*holm(table["p"].to_numpy()[:-1]), math.nan]
    return table


def _side_by_side(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """One row a task and sample_id, sorted: correct_first, correct_second, which, cluster (number or NaN)."""
    if missing := [name for name in COLUMNS if name not in frame]:
        raise ValueError(f"columns {missing} are missing: expected {list(COLUMNS)}, got {list(frame.columns)}")
    known = sorted(frame["model"].unique())
    if first == second or first not in known or second not in known:
        raise ValueError(f"models {first!r} and {second!r}: expected two of {known}")
    key = ["task", "sample_id"]
    if frame[key].isna().any(axis=None):
        raise ValueError("a task or sample_id is missing: expected both in every row, as samples are matched by them")
    sides = [frame.loc[frame["model"] == model, [*key, "cluster", "correct"]] for model in (first, second)]
    for model, side in zip((first, second), sides, strict=True):
        if (twice := side.duplicated(key)).any():
            raise ValueError(
                f"model {model!r} has {side.loc[twice, key].iloc[0].tolist()} twice: expected one row per "
                "task and sample_id; drop the repeated ones"
            )
    # Sorted by key, so that the resamples do not depend on the order of the rows.
    wide = sides[0].merge(sides[1], "outer", key, suffixes=("_first", "_second"), indicator="which").sort_values(key)
    clusters = wide["cluster_first"], wide["cluster_second"]
    same = (clusters[0] == clusters[1]) | (clusters[0].isna() & clusters[1].isna())
    if (differ := (wide["which"] == "both") & ~same).any():
        raise ValueError(
            f"sample {wide.loc[differ, key].iloc[0].tolist()} has clusters {clusters[0][differ].iloc[0]!r} and "
            f"{clusters[1][differ].iloc[0]!r}: expected the same for both models"
        )
    return wide.assign(cluster=wide.groupby(["task", "cluster_first"]).ngroup())  # NaN where the label is missing


def _row(part: pd.DataFrame) -> dict[str, Any]:
    common = part[part["which"] == "both"]
    first, second = as_verdicts(common["correct_first"]), as_verdicts(common["correct_second"])
    clusters, defined = common["cluster"].to_numpy(), ~np.isnan(first) & ~np.isnan(second)
    pair = paired(first, second, clusters)
    row: dict[str, Any] = {name: getattr(pair, name) for name in ("n", "n_undefined", "n_clusters")}
    for name, side in (("n_first_only", "left_only"), ("n_second_only", "right_only")):
        row[name] = int((part["which"] == side).sum())
    for name, estimate in (
        ("accuracy_first", proportion_ci(first[defined], clusters[defined])),
        ("accuracy_second", proportion_ci(second[defined], clusters[defined])),
        ("difference", pair.difference),
    ):
        row |= {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    counts = ("both_right", "only_first", "only_second", "both_wrong", "discordance")
    row |= {name: getattr(pair, name) for name in counts}
    row |= {"p_mcnemar": pair.p_value, "p_clustered": pair.p_clustered, "p": pair.p, "p_holm": math.nan}
    return row | {"detectable": detectable(pair.n, pair.discordance)}
