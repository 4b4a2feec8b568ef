"""The figures of a run: focus against accuracy, divergence per word category, entropy, overlays.

Every panel states its n; what is undefined says so in words. Intervals are 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perception_gap.statistics import accuracy_by_threshold
from perception_gap.store import Run
from reports.overlays import overlay_figure
from reports.style import (
    COLUMN,
    FLOOR,
    MUTED,
    NORMAL,
    RC,
    RIGHT,
    STUDENT,
    TEACHER,
    WRONG,
    bins,
    new_figure,
    percent_ticks,
    save_png,
    undefined,
)
from reports.summary import defined

CATEGORIES = ("functional", "object", "attribute")


def write_figures(run: Run) -> list[Path]:
    """Write the run's PNGs into `run.path / "figures"` and return their paths; [] when no row is valid."""
    if not (run.samples["status"] == "ok").any():
        return []
    folder = run.path / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    teacher = run.teacher()
    made = {
        "focus_accuracy": focus_accuracy_figure(run),
        "divergence_by_category": divergence_figure(run),
        "entropy": entropy_figure(run, teacher),
        "overlays": overlay_figure(run, teacher),
    }
    return [save_png(figure, folder / f"{name}.png") for name, figure in made.items()]


@matplotlib.rc_context(RC)
def focus_accuracy_figure(run: Run) -> Figure:
    """Accuracy of the samples at or above each focus threshold, and focus of right and wrong answers (figure 2)."""
    rows = run.samples[run.samples["status"] == "ok"]
    rows = rows.assign(correct=rows["correct"].astype(float))
    reason = None
    if rows["focus_score"].isna().all():
        reason = "no boxes" if not rows["boxes"].map(len).any() else "no focus score"
    elif rows["correct"].isna().all():
        reason = "no answer was scored"
    rows = rows.dropna(subset=["focus_score", "correct"])
    if reason is None and rows.empty:
        reason = "no sample has both a focus score and a scored answer"
    if reason:
        figure = new_figure(COLUMN, 1.5)
        curve, spread = figure.subplots(2, 1)
        undefined(curve, reason)
        undefined(spread, reason)
    else:
        figure = new_figure(COLUMN, 4.3)
        curve, counts, spread = figure.subplots(3, 1, height_ratios=[3, 0.9, 2.6])
        counts.sharex(curve)
        _accuracy_curve(curve, counts, rows)
        _focus_spread(spread, rows, run.summary.get("focus_score", {}))
    curve.set_title("Accuracy of the answers with at least this focus")
    spread.set_title("Focus of right and wrong answers")
    return figure


def _accuracy_curve(curve: Axes, counts: Axes, rows: pd.DataFrame) -> None:
    points = accuracy_by_threshold(
        rows["focus_score"].to_numpy(), rows["correct"].to_numpy(), clusters=rows["cluster"].to_numpy()
    )
    points = points[points["n"] > 0]
    x = points["threshold"].to_numpy(dtype=float)
    curve.fill_between(x, points["low"], points["high"], color=STUDENT, alpha=0.25, lw=0, label="95 % interval")
    curve.plot(x, points["accuracy"], color=STUDENT, marker="o", ms=2.5, label="accuracy")
    curve.set_ylabel("accuracy")
    curve.set_ylim(0, 1.02)
    percent_ticks(curve.yaxis)
    curve.tick_params(labelbottom=False)
    curve.legend(loc="best")
    counts.fill_between(x, 0, points["n"], color=MUTED, alpha=0.35, lw=0)
    counts.plot(x, points["n"], color=MUTED, lw=0.8)
    counts.set_ylim(0, None)
    counts.set_xlim(0, None)
    counts.set_yticks([0, len(rows)])
    counts.set_ylabel("samples")
    counts.set_xlabel("focus threshold (attention mass inside the boxes)")
    percent_ticks(counts.xaxis)


def _focus_spread(ax: Axes, rows: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    focus = rows["focus_score"].to_numpy(dtype=float)
    edges = np.linspace(0, max(focus.max(), 1e-9), 1 + bins(len(focus), 15))
    groups = (("right", rows["correct"] >= 0.5, RIGHT, "-"), ("wrong", rows["correct"] < 0.5, WRONG, "--"))
    for name, mine, color, line in groups:
        values = focus[mine.to_numpy()]
        if not len(values):
            ax.plot([], [], color=color, ls=line, label=f"{name}, n = 0")
            continue
        _histogram(ax, values, edges, color, line, f"{name}: mean {100 * values.mean():.1f} %, n = {len(values)}")
        ax.axvline(values.mean(), color=color, ls=line, lw=1)
    chance = rows["focus_chance"].mean()
    if np.isfinite(chance):
        ax.axvline(chance, color=FLOOR, ls=":", lw=1.2, label="chance (uniform map)")
    auroc = summary.get("auroc")
    if defined(auroc):
        interval = auroc["ci"]
        text = f"AUROC {auroc['mean']:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
        ax.plot([], [], " ", label=text)
    ax.set_xlim(0, None)
    percent_ticks(ax.xaxis)
    ax.set_xlabel("focus (attention mass inside the boxes)")
    ax.set_ylabel("share of the answers")
    percent_ticks(ax.yaxis, 100)
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.36), ncols=2, handlelength=1.5, columnspacing=0.8)


def _histogram(ax: Axes, values: np.ndarray, edges: np.ndarray, color: str, line: str, label: str) -> None:
    sns.histplot(
        x=values, bins=edges.tolist(), stat="percent", element="step", fill=True, alpha=0.2, lw=1.1, ls=line,
        color=color, label=label, ax=ax,
    )  # fmt: skip


@matplotlib.rc_context(RC)
def divergence_figure(run: Run) -> Figure:
    """KL of the maps and cosine distance of the hidden states per word category, each with its floor (figure 3)."""
    alone = run.info.get("teacher") is None
    figure = new_figure(COLUMN, 0.9 if alone else 2.0)
    left, right = figure.subplots(1, 2)
    reason = "no teacher" if alone else "no word was compared"
    left.set_title("Attention maps")
    right.set_title("Hidden states")
    if _category_bars(left, run.summary.get("kl", {}), STUDENT, reason, named=True):
        left.set_xlabel("KL(teacher ‖ student) (nats)")
    if _category_bars(right, run.summary.get("cosine_distance", {}), MUTED, reason, named=False):
        right.set_xlabel("cosine distance")
    floors = [line for ax in (left, right) for line in ax.get_lines() if str(line.get_gid()).startswith("floor")]
    if floors:
        label = "floor: the teacher on another picture (bars, bands: 95 %)"
        figure.legend(floors[:1], [label], loc="outside lower left", borderpad=0.1)
    return figure


def _category_bars(ax: Axes, metrics: Mapping[str, Any], color: str, reason: str, *, named: bool) -> bool:
    """Bars with intervals and each one's floor with its band; False, and words, when every category is undefined."""
    if not any(defined(metrics.get(category)) for category in CATEGORIES):
        undefined(ax, reason)
        return False
    ticks = []
    for y, category in enumerate(CATEGORIES):
        metric = metrics.get(category)
        count = f"n = {metric['n'] if metric else 0:,}"
        ticks.append(f"{category}\n{count}" if named else count)
        if not defined(metric):
            ax.text(0, y, " undefined", va="center", color=MUTED)
            continue
        ax.barh(y, metric["mean"], height=0.56, color=color, alpha=0.75, lw=0, gid=category)
        if metric["ci"]:
            ax.plot(metric["ci"], [y, y], color="black", lw=1.2, solid_capstyle="butt", gid=f"interval {category}")
        floor = metrics.get(f"{category}_floor", metrics.get("floor"))
        if not defined(floor):
            continue
        ends = [y - 0.4, y + 0.4]
        ax.plot([floor["mean"]] * 2, ends, color=FLOOR, ls="--", lw=1, gid=f"floor {category}")
        if floor["ci"]:
            ax.fill_betweenx(ends, *floor["ci"], color=FLOOR, alpha=0.2, lw=0)
    ax.set_yticks(range(len(CATEGORIES)), ticks)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(CATEGORIES) - 0.45, -0.55)
    ax.set_xlim(0, None)
    return True


@matplotlib.rc_context(RC)
def entropy_figure(run: Run, teacher: Run | None) -> Figure:
    """Entropy of the own-answer maps of the run and, on the same samples, of its teacher (figure 4)."""
    figure = new_figure(COLUMN, 2.3)
    ax = figure.subplots()
    groups = [("student" if teacher else "model", run.samples, STUDENT, "-")]
    if teacher is not None:
        same = teacher.samples[teacher.samples["sample_id"].isin(run.samples["sample_id"])]
        groups.insert(0, ("teacher", same, TEACHER, "--"))
    frames = {name: rows[(rows["status"] == "ok") & rows["entropy"].notna()] for name, rows, _, _ in groups}
    every = np.concatenate([frame["entropy"].to_numpy(dtype=float) for frame in frames.values()])
    ax.set_title("Entropy of the attention maps" + ("" if teacher else " (no teacher)"))
    if not len(every):
        undefined(ax, "no valid map")
        return figure
    edges = np.linspace(every.min() - 1e-6, every.max() + 1e-6, 1 + bins(len(every), 25))
    for name, _, color, line in groups:
        values = frames[name]["entropy"].to_numpy(dtype=float)
        if not len(values):
            ax.plot([], [], color=color, ls=line, label=f"{name}: undefined")
            continue
        tokens = np.unique(frames[name]["n_image_tokens"].to_numpy(dtype=float))
        size = f"{tokens[0]:.0f}" if len(tokens) == 1 else f"{tokens[0]:.0f}–{tokens[-1]:.0f}"
        label = f"{name}: mean {values.mean():.2f}, n = {len(values)}, {size} tokens"
        _histogram(ax, values, edges, color, line, label)
        ax.axvline(values.mean(), color=color, ls=line, lw=1)
    ax.set_xlabel("entropy (nats; a uniform map of N tokens has ln N)")
    ax.set_ylabel("share of the samples")
    percent_ticks(ax.yaxis, 100)
    figure.legend(loc="outside lower left", fontsize=NORMAL - 1)
    return figure
