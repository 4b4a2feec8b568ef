"""The presets of an ablation matrix (LaViT, table 3): accuracy, paired difference from a baseline, divergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from perception_gap.stats.estimates import side
from perception_gap.stats.seeds import NO_INTERVAL, over_seeds, value_of
from reports.figures.marks import dot, interval, words_below
from reports.figures.models import NamedFigure
from reports.sources import Matrix
from reports.style import COLUMN, FLOOR, MUTED, RC, STUDENT, new_figure, percent_ticks, undefined
from reports.summary import written

BASELINE = "naive-sft"


class Mean(NamedTuple):
    """A preset's mean over its seeds, each of `seeds` a value; low, high: as `over_seeds`, NaN without an interval."""

    mean: float
    low: float
    high: float
    n: int
    seeds: tuple[float, ...]


def means(matrix: Matrix, metric: str, task: str = "all") -> dict[str, Mean]:
    """Of the answers' `metric`, by preset in the matrix's order; presets whose mean is undefined are left out."""
    results = matrix.results
    some = results[(results["rows"] == "answer") & (results["task"] == task) & (results["metric"] == metric)]
    by_preset = {}
    for preset in dict.fromkeys(results["preset"]):
        mine = some[some["preset"] == preset]
        mean = over_seeds(mine, results.loc[results["preset"] == preset, "seed"])
        if mean["mean"] is not None:
            low, high = mean["ci"] or (np.nan, np.nan)
            seeds = tuple(value_of(row) for row in mine.to_dict("records"))
            by_preset[str(preset)] = Mean(mean["mean"], low, high, mean["n"], seeds)
    return by_preset


def differences(matrix: Matrix, baseline: str) -> dict[str, pd.Series]:
    """Paired differences of accuracy from the baseline over all tasks, by preset; {} without comparisons."""
    rows = matrix.comparisons
    if rows.empty or not {"preset", "against", "rows", "task", "metric", "mean", "low", "high"} <= set(rows):
        return {}
    some = rows[
        (rows["against"] == baseline)
        & (rows["rows"] == "answer")
        & (rows["task"] == "all")
        & (rows["metric"] == "accuracy")
    ]
    return {str(row["preset"]): row for _, row in some.iterrows()}


@matplotlib.rc_context(RC)
def of_matrix(matrix: Matrix) -> list[NamedFigure]:
    """Accuracy, its difference from the baseline where comparisons have it, and the answers' KL, a row a preset."""
    presets = [str(preset) for preset in dict.fromkeys(matrix.results["preset"])]
    accuracy, kl = means(matrix, "accuracy"), means(matrix, "kl")
    baseline = _baseline(matrix, presets)
    paired = differences(matrix, baseline) if baseline else {}
    figure = new_figure(COLUMN, 0.95 + 0.17 * max(len(presets), 3))
    title = "Ablation: accuracy and divergence by preset"
    if not accuracy and not kl:
        ax = figure.subplots()
        undefined(ax, "the matrix has no accuracy and no divergence")
        return [NamedFigure("ablation", title, f"{title}: undefined, the matrix has neither.", figure)]
    panels = figure.subplots(1, 3 if paired else 2, sharey=True, width_ratios=[1.3, 1, 1] if paired else [1, 1])
    _panel(panels[0], presets, accuracy, baseline, "accuracy")
    if paired:
        _paired(panels[1], presets, paired, baseline or "")
    _panel(panels[-1], presets, kl, baseline, "KL (nats)")
    if accuracy:
        percent_ticks(panels[0].xaxis)
    for ax in panels:
        if ax.get_xticks().size:  # not one that says undefined
            ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(*ax.get_xlim())
            seen = [tick for tick in ticks if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
            # Two labels are what a third of a column has room for.
            ax.set_xticks(seen[:: max(1, len(seen) - 1)] if paired else seen)
        ax.grid(axis="y", color=MUTED, alpha=0.25, lw=0.4)
    panels[0].set_yticks(range(len(presets)), presets)
    panels[0].set_ylim(len(presets) - 0.5, -0.5)
    for ax in panels[1:]:
        ax.spines["left"].set_visible(False)
    for ax in panels:
        ax.tick_params(axis="y", length=0)
    seeds = max((len(mean.seeds) for mean in (*accuracy.values(), *kl.values())), default=1)
    n = max((mean.n for mean in (*accuracy.values(), *kl.values())), default=0)
    words = f"n = {n:,} samples; bars: 95 % over them"
    words += "; ○ one of several seeds" if seeds > 1 else "; one seed each"
    words += "\nwithout a bar: no interval" if _unbound(accuracy, kl) else ""
    words_below(figure, words)
    return [NamedFigure("ablation", title, _alt(presets, accuracy, kl, paired, baseline), figure)]


def _baseline(matrix: Matrix, presets: Sequence[str]) -> str | None:
    """naive-sft where it is there, else what the matrix's own comparisons are against first."""
    if BASELINE in presets:
        return BASELINE
    if "against" not in matrix.comparisons:
        return None
    return next((str(name) for name in matrix.comparisons["against"] if name in presets), None)


def _panel(ax: Axes, presets: Sequence[str], means: dict[str, Mean], baseline: str | None, title: str) -> None:
    ax.set_title(title)
    if not means:
        undefined(ax, "none")
        return
    if baseline in means:
        ax.axvline(means[baseline].mean, color=FLOOR, ls="--", lw=0.9, gid=f"baseline {title}")
    hollow: dict[str, Any] = {"marker": "o", "ms": 3.4, "mfc": "none", "mec": "black", "mew": 0.6, "ls": ""}
    for y, preset in enumerate(presets):
        if preset not in means:
            ax.text(0.02, y, "undefined", va="center", color=MUTED, transform=ax.get_yaxis_transform())
            continue
        mean, low, high, _, seeds = means[preset]
        interval(ax, (low, high) if np.isfinite([low, high]).all() else None, y, STUDENT, f"interval {preset}")
        if len(seeds) > 1:
            ax.plot(seeds, [y] * len(seeds), gid=f"seeds {preset}", **hollow)
        dot(ax, mean, y, STUDENT, "o", f"mean {preset}", ms=3.4)


def _paired(ax: Axes, presets: Sequence[str], paired: dict[str, pd.Series], baseline: str) -> None:
    """Differences in percentage points with their intervals; filled where one is established."""
    ax.set_title("difference")
    ax.axvline(0, color=FLOOR, ls="--", lw=0.9)
    for y, preset in enumerate(presets):
        if preset not in paired:
            continue
        mean, low, high = (100 * float(paired[preset][name]) for name in ("mean", "low", "high"))
        interval(ax, (low, high), y, STUDENT, f"interval {preset}")
        face = STUDENT if side(_metric(paired[preset])) else "none"
        dot(ax, mean, y, STUDENT, "D", f"difference {preset}", ms=3.2, mfc=face)
    ax.set_xlabel(f"points − {baseline}")


def _alt(
    presets: Sequence[str],
    accuracy: dict[str, Mean],
    kl: dict[str, Mean],
    paired: dict[str, pd.Series],
    baseline: str | None,
) -> str:
    sentences = [
        "Accuracy and KL of the answers' maps from the teacher's by preset, with 95 % intervals over the samples."
    ]
    for preset in presets:
        parts = [
            f"{name} {_words(measured[preset], unit)}" if preset in measured else f"{name} undefined"
            for name, measured, unit in (("accuracy", accuracy, "%"), ("KL", kl, "nats"))
        ]
        seeds = len(accuracy[preset].seeds) if preset in accuracy else 0
        if preset in paired:
            row = paired[preset]
            parts.append(f"{written(_metric(row), 'points')} from {baseline}")
        sentences.append(f"{preset}{f' ({seeds} seeds)' if seeds > 1 else ''}: {', '.join(parts)}.")
    if any(len(measured.seeds) > 1 for measured in accuracy.values()):
        sentences.append("Intervals of several seeds are the mean of theirs, at least as wide as that of the mean.")
    if unbound := _unbound(accuracy, kl):
        sentences.append(f"{', '.join(unbound)}: {NO_INTERVAL}.")
    return " ".join(sentences)


def _unbound(*measures: dict[str, Mean]) -> list[str]:
    """The presets that have a mean without an interval."""
    return list(
        dict.fromkeys(name for means_ in measures for name, mean in means_.items() if not np.isfinite(mean.low))
    )


def _words(mean: Mean, unit: str) -> str:
    return written(_metric(mean._asdict()), unit)


def _metric(row: Mapping[Any, Any] | pd.Series) -> dict[str, Any]:
    """{mean, ci}, and p where the comparisons have it."""
    ends = [float(row["low"]), float(row["high"])]
    return {"mean": float(row["mean"]), "ci": ends if ends[0] < ends[1] else None} | (
        {"p": float(row["p"])} if "p" in row else {}
    )
