"""Means and spreads of measured columns, over rows of samples or words that have a `cluster`."""

from __future__ import annotations

from typing import Any

import pandas as pd

from perception_gap.metrics.columns import range_of
from perception_gap.stats.estimates import undefined
from perception_gap.stats.statistics import accuracy_by_threshold, auroc_ci, difference_ci, mean_ci, spread_ci


def mean_of(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """{mean, ci, n} of a column of rows that have a `cluster`, as everywhere (`statistics.mean_ci`)."""
    values, clusters = rows[column].to_numpy(float), rows["cluster"].to_numpy()
    return mean_ci(values, clusters, within=range_of(column)).as_dict()


def against_floor(rows: pd.DataFrame, column: str, floor: str, seed: int) -> dict[str, Any]:
    """{value, floor, difference}: means over the same rows, those that have both; difference: floor − value, paired."""
    both = rows[rows[column].notna() & rows[floor].notna()]
    difference = (both[floor] - both[column]).to_numpy(float)
    return {
        "value": mean_of(both, column),
        "floor": mean_of(both, floor),
        "difference": mean_ci(difference, both["cluster"].to_numpy(), seed=seed, null=0).as_dict(),
    }


def spread(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """{mean, ci, n} of one value a sample, with its std (ddof 0) and cv as table 2 of the paper has them.

    by_task: task → {mean, std, cv, min, max}, each {mean, ci, n}.
    """
    estimates = spread_ci(rows[column], rows["cluster"])
    by_task = {
        str(task): {"mean": mean_of(group, column)}
        | {name: estimate.as_dict() for name, estimate in spread_ci(group[column], group["cluster"]).items()}
        for task, group in rows.groupby("task")
    }
    flat = {name: estimates[name].as_dict()["mean"] for name in ("std", "cv")}
    return mean_of(rows, column) | flat | {"by_task": by_task}


def focus_by_verdict(valid: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Focus of right and of wrong answers, over all tasks, each {mean, ci, n}, of the valid rows that have both.

    `correct_mean`, `incorrect_mean` and their `raw_difference`, all tasks mixed; `difference` and `auroc` within task;
    `known_chance`: mean chance of these rows, which those of a benchmark do not say; `threshold_curve`: the rows of
    `accuracy_by_threshold`.
    """
    known = valid[valid["focus_score"].notna() & valid["correct"].notna()]
    focus, right = known["focus_score"].to_numpy(float), known["correct"].to_numpy(bool)
    clusters, tasks = known["cluster"].to_numpy(), known["task"].to_numpy()
    curve = accuracy_by_threshold(focus, right, clusters=clusters)
    curve = curve[curve["n"] > 0].astype(object)
    return {
        "correct_mean": mean_of(known[right], "focus_score"),
        "incorrect_mean": mean_of(known[~right], "focus_score"),
        "raw_difference": difference_ci(focus, right, clusters, seed=seed).as_dict(),
        "difference": difference_ci(focus, right, clusters, strata=tasks, seed=seed).as_dict(),
        "auroc": auroc_ci(focus, right, clusters, strata=tasks, seed=seed).as_dict(),
        "known_chance": mean_of(known, "focus_chance") if "focus_chance" in known else undefined().as_dict(),
        "threshold_curve": curve.where(curve.notna(), None).to_dict("records"),
    }


def of_gaze(samples: pd.DataFrame) -> dict[str, Any]:
    """Focus, entropy and salient regions, each as in summary.json, of a choice of samples that has no such file."""
    valid = samples[samples["status"] == "ok"]
    blocks = {name: spread(valid, name) for name in ("entropy", "salient_regions") if name in valid}
    return blocks | ({"focus_score": focus_by_verdict(valid)} if "focus_score" in valid else {})
