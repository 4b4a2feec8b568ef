"""`summary.json["knockout"]`: what each cut does to the answer, and the paired contrasts that decide."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from perception_gap.knockout.conditions import CONDITIONS, ROWS
from perception_gap.metrics.means import mean_of
from perception_gap.stats.proportions import paired_ci, proportion_ci
from perception_gap.stats.statistics import mean_ci

# Tokens in the boxes against tokens elsewhere, cut from the same rows: as many of them, or of the same mass.
CONTRASTS = {"inside_minus_outside_number": "outside_number", "inside_minus_outside_mass": "outside_mass"}


def summarise(table: pd.DataFrame, samples: pd.DataFrame, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """table: as `condition_rows`; samples: as samples.parquet, failed ones too; settings: of the knockout.

    {layers, k, rows: {tokens: condition}, contrasts: {rows: {name: change}}}. Estimates are {mean, ci, n} with 95 %
    intervals, clustered by image or pair, changes and differences also with p (flipped signs). change: log-probability
    of the own answer under the condition minus uncut, nats, of all samples and (`right`, `wrong`) of those whose uncut
    answer is so. A contrast is the mean of the paired differences of two changes, of the samples in which both are
    defined. n_undefined counts the rest, failed samples among them.
    """
    known = samples.set_index("sample_id")[["cluster", "correct"]].rename(columns={"correct": "base_correct"})
    joined = table.join(known, on="sample_id")
    by = {name: joined[(joined["rows"] == name[0]) & (joined["tokens"] == name[1])] for name in CONDITIONS}
    summary: dict[str, Any] = {"layers": settings["layers"], "k": settings["k"]}
    for condition, group in by.items():
        summary.setdefault(condition[0], {})[condition[1]] = _condition(group, len(samples), seed)
    summary["contrasts"] = {rows: {} for rows in ROWS}
    for rows, (name, other) in product(ROWS, CONTRASTS.items()):
        contrast = _contrast(by[rows, "inside"], by[rows, other], len(samples), seed)
        summary["contrasts"][rows][name] = contrast
    return summary


def _condition(group: pd.DataFrame, n_samples: int, seed: int) -> dict[str, Any]:
    clusters = group["cluster"].to_numpy()
    defined = group["changed"].notna()
    before, after = (group[name].where(defined).astype(float).to_numpy() for name in ("base_correct", "correct"))

    def share(values: Any) -> dict[str, Any]:
        return proportion_ci(values, clusters).as_dict()

    difference = paired_ci(after - before, clusters).as_dict()
    return _by_verdict(group["change"], group, seed) | {
        "change_per_token": mean_of(group, "change_per_token"),
        "accuracy": {"base": share(before), "cut": share(after), "difference": difference},
        "changed": share(group["changed"].astype(float)),
        "n_cut": mean_of(group, "n_cut"),
        "mass_cut": mean_of(group, "mass_cut"),
        "n_undefined": n_samples - int(defined.sum()),
    }


def _contrast(inside: pd.DataFrame, other: pd.DataFrame, n_samples: int, seed: int) -> dict[str, Any]:
    beside = inside["sample_id"].map(other.set_index("sample_id")["change"])
    difference = inside["change"] - beside
    return _by_verdict(difference, inside, seed) | {"n_undefined": n_samples - int(difference.notna().sum())}


def _by_verdict(values: pd.Series, group: pd.DataFrame, seed: int) -> dict[str, Any]:
    """{change, right, wrong}: the mean of all, of the samples that were right uncut, and of those that were wrong."""

    def mean(chosen: pd.Series) -> dict[str, Any]:
        clusters = group["cluster"][chosen].to_numpy()
        return mean_ci(values[chosen].to_numpy(float), clusters, seed=seed, null=0).as_dict()

    verdicts = group["base_correct"]
    everything = pd.Series(np.ones(len(group), dtype=bool), index=group.index)
    return {"change": mean(everything), "right": mean(verdicts.eq(True)), "wrong": mean(verdicts.eq(False))}
