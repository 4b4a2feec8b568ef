"""Does looking decide? A measure of the map against being right: task by task, then over the tasks that can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from perception_gap.stats.estimates import undefined
from perception_gap.stats.permutation import ARRANGEMENTS, TOO_FEW, holm
from perception_gap.stats.proportions import proportion_ci
from perception_gap.stats.statistics import auroc_ci, difference_ci

OVERALL = ""  # among the p-values: all tasks that can tell, together


def decides(
    samples: pd.DataFrame,
    column: str,
    chances: Mapping[str, float | None],
    seed: int,
    resamples: int = ARRANGEMENTS,
) -> dict[str, Any]:
    """Is `column` another where the answer is right than where it is wrong?

    samples: valid rows with columns task, cluster, correct and `column`; those without a verdict or a value are left
    out. chances: task → accuracy of guessing (None: unknown).

    {by_task: task → {n_right, n_wrong, accuracy, chance, cannot_tell, auroc, difference, p_holm}, overall: {tasks,
    n_right, n_wrong, auroc, difference, p_holm}}. auroc: P(value of a right answer > that of a wrong one); difference:
    right − wrong, each with p (`auroc_ci`, `difference_ci`). cannot_tell: why a task is no evidence, None where it is:
    without wrong (or right) answers, with too few for any test, or guessed (the accuracy's interval reaches down to
    chance). That looks at how many are right only, on which the tests condition, so leaving tasks out costs no level.
    overall is within the others. p_holm: of the AUROC, Holm over these tasks and, of two or more, overall: at 5 % at
    most one run in twenty claims anything where looking has no effect on any task.
    """
    known = samples[samples[column].notna() & samples["correct"].notna()]
    by_task = {
        str(task): _of_task(group, column, chances.get(str(task)), seed, resamples)
        for task, group in known.groupby("task")
    }
    telling = [task for task, estimates in by_task.items() if estimates["cannot_tell"] is None]
    overall = {"tasks": telling} | _right_against_wrong(known[known["task"].isin(telling)], column, seed, resamples)
    p_values = {task: by_task[task]["auroc"]["p"] for task in telling}
    if len(telling) > 1:
        p_values[OVERALL] = overall["auroc"]["p"]
    adjusted = holm(p_values)
    for task, estimates in by_task.items():
        estimates["p_holm"] = adjusted.get(task)
    overall["p_holm"] = adjusted.get(OVERALL, adjusted[telling[0]] if telling else None)
    return {"by_task": by_task, "overall": overall}


def _right_against_wrong(rows: pd.DataFrame, column: str, seed: int, resamples: int) -> dict[str, Any]:
    """n_right, n_wrong, auroc and difference, within tasks."""
    values, right = rows[column].to_numpy(float), rows["correct"].to_numpy(bool)
    if not len(rows):
        nothing = undefined(reason="no task can tell").as_dict()
        return {"n_right": 0, "n_wrong": 0, "auroc": nothing, "difference": nothing}
    clusters, tasks = rows["cluster"].to_numpy(), rows["task"].to_numpy()
    return {
        "n_right": int(right.sum()),
        "n_wrong": int((~right).sum()),
        "auroc": auroc_ci(values, right, clusters, tasks, resamples=resamples, seed=seed).as_dict(),
        "difference": difference_ci(values, right, clusters, tasks, resamples=resamples, seed=seed).as_dict(),
    }


def _of_task(rows: pd.DataFrame, column: str, chance: float | None, seed: int, resamples: int) -> dict[str, Any]:
    estimates = _right_against_wrong(rows, column, seed, resamples)
    accuracy = proportion_ci(rows["correct"].to_numpy(float), rows["cluster"].to_numpy())
    return {
        "accuracy": accuracy.as_dict(),
        "chance": chance,
        "cannot_tell": _cannot_tell(estimates, chance, accuracy.low),
    } | estimates


def _cannot_tell(estimates: Mapping[str, Any], chance: float | None, lowest: float) -> str | None:
    if not estimates["n_wrong"]:
        return "no wrong answers"
    if not estimates["n_right"]:
        return "no right answers"
    if estimates["auroc"].get("reason") == TOO_FEW:
        return TOO_FEW
    if chance is not None and not np.isnan(lowest) and lowest <= chance:
        return "at chance"
    return None
