"""Tidy results of trained students: one row a number, and paired comparisons sample by sample."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lavit.traces import resample, target
from perception_gap.metrics import kl_divergence
from perception_gap.metrics.columns import range_of
from perception_gap.runs.rows import verdicts
from perception_gap.runs.run import Run
from perception_gap.runs.schema import tables
from perception_gap.stats.proportions import paired_ci, proportion_ci
from perception_gap.stats.seeds import over_seeds
from perception_gap.stats.statistics import mean_ci
from perception_gap.storage.files import write_text
from perception_gap.storage.spreadsheet import csv_text

COLUMNS = ("preset", "seed", "rows", "task", "metric", "value", "low", "high", "n")
# (rows, metric) → column of a run's samples; the answer's divergence is on the teacher's own words.
METRICS: dict[tuple[str, str], str] = {
    ("answer", "accuracy"): "correct",
    ("answer", "kl"): "kl",
    ("answer", "kl_floor"): "kl_floor",
    ("answer", "focus"): "focus_score",
    ("answer", "focus_lift"): "focus_lift",
    ("answer", "entropy"): "entropy",
    ("answer", "image_mass"): "text_image_mass",
    ("latents", "kl"): "latent_kl",
    ("latents", "focus"): "latent_focus_score",
    ("latents", "entropy"): "latent_entropy",
    ("last latent", "kl"): "last_latent_kl",
    ("last latent", "focus"): "last_latent_focus_score",
    ("last latent", "entropy"): "last_latent_entropy",
    ("last latent", "target_kl"): "last_latent_target_kl",
}
HIDDEN_METRICS = {("answer", "accuracy"): "correct", ("answer", "changed"): "changed", ("answer", "cost"): "cost"}
SHARES = ("correct", "changed")  # columns of 0 and 1


def by_id(run: Run) -> pd.DataFrame:
    """The run's samples under their ids; `correct` as in `verdicts`: 0 for a failed one, NaN without a reference."""
    frame = run.samples
    return frame.assign(correct=verdicts(frame)).set_index("sample_id", drop=False)


def sample_values(run: Run, teacher: Run) -> pd.DataFrame:
    """The run's samples with `last_latent_target_kl`: KL(target ‖ last latent row), the divergence that was trained."""
    frame = by_id(run)
    frame["last_latent_target_kl"] = [target_kl(run, teacher, i) for i in frame["sample_id"]]
    return frame


def target_kl(run: Run, teacher: Run, sample_id: str) -> float:
    """NaN without latents, without a teacher's map, or where that map is constant."""
    rows = run.map(sample_id, "latents")
    theirs = teacher.map(sample_id) if sample_id in teacher else None
    if rows is None or theirs is None or not np.isfinite(theirs).all():
        return float("nan")
    wanted = target(theirs, teacher.geometry(sample_id))
    if wanted is None:
        return float("nan")
    return kl_divergence(resample(wanted, run.geometry(sample_id)), rows[-1])  # NaN for a target cropped away


def tidy(
    preset: str, seed: int, frame: pd.DataFrame, metrics: Mapping[tuple[str, str], str], suffix: str = ""
) -> list[dict[str, Any]]:
    """Rows of COLUMNS for every metric, over all tasks and within each; 95 % intervals clustered by picture or pair.

    Of shares as in `proportion_ci`: all right is no certainty.
    """
    lines = []
    for (rows, metric), column in metrics.items():
        for task, group in [("all", frame), *frame.groupby("task")]:
            values = group[column].to_numpy(float)
            if not np.isfinite(values).any():
                continue
            clusters = group["cluster"].to_numpy()
            if column in SHARES:
                estimate = proportion_ci(values, clusters)
            elif column == "cost":
                estimate = paired_ci(values, clusters)
            else:
                estimate = mean_ci(values, clusters, within=range_of(column))
            numbers = (estimate.mean, estimate.low, estimate.high, estimate.n)
            lines.append(dict(zip(COLUMNS, (preset, seed, rows, task, metric + suffix, *numbers), strict=True)))
    return lines


def means(values: pd.DataFrame) -> pd.DataFrame:
    """Means over a preset's seeds (`over_seeds`) of rows of COLUMNS, a row a preset, rows, task and metric.

    A mean needs a value of every seed; of what was asked with the latents hidden, of every seed that was asked so.
    """
    lines = []
    for (preset, rows, metric), group in values.groupby(["preset", "rows", "metric"], sort=False):
        shown = (rows, metric) in METRICS
        seeds = values.loc[values["preset"] == preset, "seed"] if shown else group["seed"]
        for task, of_task in group.groupby("task", sort=False):
            mean = over_seeds(of_task, seeds)
            low, high = mean["ci"] or (math.nan, math.nan)
            of = {"preset": preset, "rows": rows, "task": task, "metric": metric}
            lines.append(of | {"mean": mean["mean"], "low": low, "high": high, "n": mean["n"]})
    return pd.DataFrame(lines, columns=tables.MEANS.names)


def paired(
    mine: Sequence[pd.DataFrame], theirs: Sequence[pd.DataFrame], column: str, task: str = "all"
) -> dict[str, Any]:
    """Mean difference mine − theirs over the same samples, each averaged over its seeds first.

    `mean`, `low`, `high` (95 %, clustered; of the samples alone), `n`, `p` (flipped signs), and `seeds`: the difference
    of each pair of seeds, which shows how far training itself scatters.
    """
    if task != "all":
        mine, theirs = ([f[f["task"] == task] for f in frames] for frames in (mine, theirs))
    index = mine[0].index
    for frame in [*mine, *theirs]:
        index = index.intersection(frame.index)
    averaged = [np.mean([f.loc[index, column].to_numpy(float) for f in frames], axis=0) for frames in (mine, theirs)]
    difference = averaged[0] - averaged[1]
    estimate = mean_ci(difference, mine[0].loc[index, "cluster"].to_numpy(), null=0)
    each = [
        a.loc[index, column].to_numpy(float) - b.loc[index, column].to_numpy(float)
        for a, b in zip(mine, theirs, strict=False)
    ]
    seeds = [float(d[np.isfinite(d)].mean()) if np.isfinite(d).any() else math.nan for d in each]
    ends = {name: getattr(estimate, name) for name in ("mean", "low", "high", "n", "p")}
    return ends | {"seeds": seeds}


def comparisons(
    frames: dict[tuple[str, int], pd.DataFrame], presets: Iterable[str], against: Iterable[str], tasks: Sequence[str]
) -> pd.DataFrame:
    """Every preset against every baseline, metric by metric, over all tasks and within each."""
    by_preset: dict[str, list[pd.DataFrame]] = {}
    for (name, _), frame in frames.items():
        by_preset.setdefault(name, []).append(frame)
    pairs = [(p, base) for base in against for p in presets if p != base and {p, base} <= by_preset.keys()]
    lines = []
    for (preset, base), ((rows, metric), column), task in product(pairs, METRICS.items(), ("all", *tasks)):
        difference = paired(by_preset[preset], by_preset[base], column, task)
        if np.isfinite(difference["mean"]):
            seeds = " ".join(f"{d:+.4f}" for d in difference.pop("seeds"))
            of = {"preset": preset, "against": base, "rows": rows, "task": task, "metric": metric}
            lines.append(of | difference | {"of_each_seed": seeds})
    return pd.DataFrame(lines)


def write(path: Path, frame: pd.DataFrame) -> None:
    """A CSV, atomically; ten significant digits, as a table that rounds what was rounded is wrong in its last digit."""
    write_text(path, csv_text(frame, float_format="%.10g"))
