"""Accuracy against focus (paper, figure 2): curves over the threshold, and the focus of right and wrong answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reports.figures.distributions import histogram
from reports.figures.marks import dot, interval
from reports.figures.models import Group, Model, NamedFigure, without
from reports.style import (
    COLUMN,
    FLOOR,
    MUTED,
    RC,
    RIGHT,
    WRONG,
    bins,
    caption,
    legend_below,
    new_figure,
    percent_ticks,
    row_captions,
    row_height,
    undefined,
)
from reports.summary import Metric, defined, written

TITLE = "Accuracy of the answers with at least this focus"
FOCUS = "focus (attention mass inside the boxes)"


@dataclass(frozen=True)
class _Focused:
    """A model's rows with both a focus score and a scored answer; `reason` where there is none."""

    model: Model
    rows: pd.DataFrame
    reason: str | None

    @property
    def focus(self) -> Mapping[str, Any]:
        """The block of the summary."""
        return self.model.summary["focus_score"]

    @cached_property
    def curve(self) -> pd.DataFrame:
        """As `accuracy_by_threshold`."""
        return pd.DataFrame(self.focus["threshold_curve"], dtype=float)

    def focus_of(self, right: bool) -> np.ndarray:
        return self.rows.loc[self.rows["correct"].eq(float(right)), "focus_score"].to_numpy(dtype=float)

    def mean(self, right: bool) -> Metric:
        return self.focus["correct_mean" if right else "incorrect_mean"]

    @property
    def auroc(self) -> Metric:
        """Within task."""
        return self.focus["auroc"]

    @property
    def caption(self) -> str:
        n_right, n_wrong = self.mean(True)["n"], self.mean(False)["n"]
        area = f", AUROC {written(self.auroc)}" if defined(self.auroc) else ""
        return caption(self.model.label, f"{n_right:,} right, {n_wrong:,} wrong{area}", 190)

    @property
    def chance(self) -> float | None:
        """Mean share of the picture inside the boxes; None where no row says it (a benchmark's do not)."""
        return self.focus["known_chance"]["mean"]


def _focused(model: Model) -> _Focused:
    rows = model.valid
    rows = rows.assign(correct=rows["correct"].astype(float))
    known = rows.dropna(subset=["focus_score", "correct"])
    if len(known) and model.summary["focus_score"]["threshold_curve"]:
        return _Focused(model, known, None)
    if rows.empty:
        reason = "no valid row"
    elif rows["focus_score"].isna().all():
        reason = "no answer with a word in it" if rows["boxes"].map(len).any() else "no boxes"
    elif rows["correct"].isna().all():
        reason = "no answer was scored"
    else:
        reason = "no sample has both a focus score and a scored answer"
    return _Focused(model, known, reason)


@matplotlib.rc_context(RC)
def of_models(group: Group) -> list[NamedFigure]:
    """[] for a benchmark without --gaze."""
    group = without(group, "focus_score")
    if not group.models:
        return []
    every = [_focused(model) for model in group.models]
    known = [focused for focused in every if focused.reason is None]
    captions = [focused.caption for focused in known]
    alone = next((focused for focused in known if len(group.students) == 1 and not focused.model.is_teacher), None)
    alt = _alt(every, group)
    if not known:
        figure = new_figure(COLUMN, 1.5)
        for ax, title in zip(figure.subplots(2, 1), (TITLE, "Focus of right and wrong answers"), strict=True):
            undefined(ax, every[-1].reason or "")
            ax.set_title(title)
        return [NamedFigure("focus_accuracy", "Accuracy against focus", alt, figure)]
    inches = [1.3, 0.38, 1.1 if alone else row_height(captions) * len(known) / 72]
    figure = new_figure(COLUMN, sum(inches) + 1.25)  # and titles, ticks and labels of the axes
    curve, counts, spread = figure.subplots(3, 1, height_ratios=inches)
    counts.sharex(curve)
    _accuracy_curves(curve, counts, known)
    if alone:
        _histograms(spread, alone)
    else:
        _dots(spread, known, captions)
    handles, names = curve.get_legend_handles_labels() if len(every) > 1 else ([], [])
    more, words = spread.get_legend_handles_labels()
    handles, names = [*handles, *more], [*names, *words]
    for focused in every:
        if focused.reason:
            handles.append(curve.plot([], [], " ")[0])
            names.append(f"{focused.model.label}: undefined ({focused.reason})")
    legend_below(figure, handles, names, title=group.warning)
    return [NamedFigure("focus_accuracy", "Accuracy against focus", alt, figure)]


def _accuracy_curves(curve: Axes, counts: Axes, known: Sequence[_Focused]) -> None:
    several = len(known) > 1
    alpha = 0.25 if not several else 0.15 if len(known) <= 4 else 0.07
    for focused in known:
        points, look = focused.curve, focused.model.look
        x = points["threshold"].to_numpy(dtype=float)
        curve.fill_between(x, points["low"], points["high"], color=look.color, alpha=alpha, lw=0)
        curve.plot(
            x,
            points["accuracy"],
            color=look.color,
            ls=look.line,
            marker=look.marker,
            ms=4 if look.marker == "*" else 2.5,
            label=focused.model.label,
            gid=f"accuracy {focused.model.label}",
        )
        if not several:
            counts.fill_between(x, 0, points["n"], color=MUTED, alpha=0.35, lw=0)
        color, line = (look.color, look.line) if several else (MUTED, "-")
        counts.plot(x, points["n"], color=color, ls=line, lw=0.8, gid=f"samples {focused.model.label}")
    curve.set_title(TITLE)
    curve.set_ylabel("accuracy (band: 95 %)")
    # Lines may start above 0; what is below the lowest interval would only press them together.
    lowest = min(float(focused.curve[["accuracy", "low"]].min().min()) for focused in known)
    curve.set_ylim(max(0.0, np.floor(5 * lowest - 0.25) / 5), 1.02)
    percent_ticks(curve.yaxis)
    curve.tick_params(labelbottom=False)
    counts.set_ylim(0, None)
    counts.set_xlim(0, None)
    counts.set_yticks(sorted({0, max(len(focused.rows) for focused in known)}))
    counts.set_ylabel("samples")
    counts.set_xlabel("focus threshold (attention mass inside the boxes)")
    percent_ticks(counts.xaxis)


def _histograms(ax: Axes, focused: _Focused) -> None:
    """Shares of the right and of the wrong answers of one model, their means, chance and the AUROC."""
    focus = focused.rows["focus_score"].to_numpy(dtype=float)
    edges = np.linspace(0, max(focus.max(), 1e-9), 1 + bins(len(focus), 15))
    for name, right, color, line in (("right", True, RIGHT, "-"), ("wrong", False, WRONG, "--")):
        mean = focused.mean(right)
        if not defined(mean):
            ax.plot([], [], color=color, ls=line, label=f"{name}, n = 0")
            continue
        label = f"{name}: mean {100 * mean['mean']:.1f} %, n = {mean['n']:,}"
        histogram(ax, focused.focus_of(right), edges, color, line, label)
        ax.axvline(mean["mean"], color=color, ls=line, lw=1)
    if focused.chance is not None:
        ax.axvline(focused.chance, color=FLOOR, ls=":", lw=1.2, label="chance (uniform map)")
    if defined(focused.auroc):
        ax.plot([], [], " ", label=f"AUROC {written(focused.auroc)}, within task")
    ax.set_title(
        "Focus of right and wrong answers" + (f": {focused.model.label}" if len(focused.model.label) < 16 else "")
    )
    ax.set_xlim(0, None)
    percent_ticks(ax.xaxis)
    ax.set_xlabel(FOCUS)
    ax.set_ylabel("share of the answers")
    percent_ticks(ax.yaxis, 100)


def _dots(ax: Axes, known: Sequence[_Focused], captions: Sequence[str]) -> None:
    """Mean focus of the right (filled) and the wrong (hollow) answers with intervals, a row a model."""
    point = row_captions(ax, captions)
    for y, focused in enumerate(known):
        color, _, marker = focused.model.look
        size = 7 if marker == "*" else 4.5
        for right, shift, face in ((True, -3 * point, color), (False, 5 * point, "none")):
            mean = focused.mean(right)
            if not defined(mean):
                continue
            gid = f"{'right' if right else 'wrong'} {focused.model.label}"
            interval(ax, mean["ci"], y + shift, color, lw=1.2)
            dot(ax, mean["mean"], y + shift, color, marker, gid, ms=size, mfc=face, mew=1)
        if focused.chance is not None:
            ends = [y - 7 * point, y + 9 * point]
            ax.plot([focused.chance] * 2, ends, color=FLOOR, ls=":", lw=1.2, gid=f"chance {focused.model.label}")
    ax.set_xlim(0, None)
    percent_ticks(ax.xaxis)
    ax.set_xlabel(FOCUS)
    ax.set_title("Mean focus of right and wrong answers")
    ax.plot([], [], marker="o", ms=5, mfc=MUTED, mec=MUTED, ls="", label="right")
    ax.plot([], [], marker="o", ms=5, mfc="none", mec=MUTED, ls="", label="wrong (bars: 95 %)")
    if any(focused.chance is not None for focused in known):
        ax.plot([], [], color=FLOOR, ls=":", lw=1.2, label="chance (uniform map)")


def _alt(every: Sequence[_Focused], group: Group) -> str:
    sentences = [
        "Accuracy among the answers whose focus reaches a threshold, with 95 % intervals (the paper's figure 2)."
    ]
    for focused in every:
        if focused.reason:
            sentences.append(f"{focused.model.label}: undefined, {focused.reason}.")
            continue
        first, last = focused.curve.iloc[0], focused.curve.iloc[-1]
        text = f"{focused.model.label}: {_point(first)}, {_point(last)}"
        right, wrong = focused.mean(True), focused.mean(False)
        text += f"; mean focus {written(right, '%')} of {right['n']:,} right answers"
        text += f" and {written(wrong, '%')} of {wrong['n']:,} wrong ones" if wrong["n"] else ", none wrong"
        area = (
            f", AUROC within task {written(focused.auroc)}, n = {focused.auroc['n']:,}"
            if defined(focused.auroc)
            else ""
        )
        sentences.append(f"{text}{area}.")
    return " ".join([*sentences, *group.notes])


def _point(point: pd.Series) -> str:
    interval = [point["low"], point["high"]]
    metric = {"mean": point["accuracy"], "ci": interval if np.isfinite(interval).all() else None}
    return f"{written(metric, '%')} of the {int(point['n']):,} with focus from {100 * point['threshold']:.1f} %"
