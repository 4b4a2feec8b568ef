"""Training curves: each loss over the steps, and under them the gate γ(t) (LaViT, equations 4 to 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.models import NamedFigure
from reports.sources import Training
from reports.style import COLUMN, MUTED, RC, Look, legend_below, look, new_figure, number_ticks, undefined

LOSSES = {  # column of log.jsonl: what it is
    "ntp": "next token (nats)",
    "concept": "concept (1 − cosine)",
    "trajectory": "trajectory (nats)",
}
MOST = 8  # presets in one figure
WINDOW = 20  # the running mean covers 1 / WINDOW of the steps


class _Preset(NamedTuple):
    name: str
    trainings: list[Training]
    look: Look


@matplotlib.rc_context(RC)
def curves(trainings: Sequence[Training], order: Sequence[str] = ()) -> NamedFigure:
    """One figure of all trainings: a colour a preset, a thin line a seed, a thick one their mean.

    order: of the presets, e.g. the matrix's; those beyond MOST are named in `alt`. A loss that no training has is said
    to be missing.
    """
    logged = [training for training in trainings if "step" in training.log and len(training.log)]
    presets, left_out = _presets(logged, order)
    heights = [1.15 if any(_has(t, column) for t in logged) else 0.22 for column in LOSSES] + [0.9]
    figure = new_figure(COLUMN, sum(heights) + 0.75 if presets else 1.0)
    if not presets:
        ax = figure.subplots()
        undefined(ax, "no step was logged")
        ax.set_title("Training")
        return NamedFigure("training", "Training curves", "Training curves: undefined, no step was logged.", figure)
    axes = figure.subplots(4, 1, sharex=True, height_ratios=heights)
    for ax, (column, words) in zip(axes, LOSSES.items(), strict=False):
        _loss(ax, column, words, presets)
    _gate(axes[3], presets)
    axes[0].set_title("Losses and gate over the training")
    axes[3].set_xlabel("step")
    axes[3].set_xlim(0, max(float(t.log["step"].max()) for p in presets for t in p.trainings))
    _legend(figure, axes[3], presets, left_out)
    return NamedFigure("training", "Training curves", _alt(presets, left_out, trainings), figure)


def _presets(trainings: Sequence[Training], order: Sequence[str]) -> tuple[list[_Preset], list[str]]:
    """The first MOST presets with their trainings, and the names of the others; those not in `order` come last."""
    by_name: dict[str, list[Training]] = {}
    for training in trainings:
        by_name.setdefault(training.info["preset"], []).append(training)
    names = [name for name in dict.fromkeys((*order, *by_name)) if name in by_name]
    shown = [_Preset(name, by_name[name], look(i)) for i, name in enumerate(names[:MOST])]
    return shown, names[MOST:]


def smoothed(values: pd.Series) -> tuple[np.ndarray, int]:
    """Centred running mean over an odd number of steps, near 1 / WINDOW of all, fewer at both ends; and that number."""
    width = 1 + 2 * (len(values) // (2 * WINDOW))
    return values.rolling(width, center=True, min_periods=1).mean().to_numpy(), width


def _has(training: Training, column: str) -> bool:
    return column in training.log and bool(np.isfinite(training.log[column].astype(float)).any())


def _loss(ax: Axes, column: str, words: str, presets: Sequence[_Preset]) -> None:
    every = [t for p in presets for t in p.trainings]
    have = [t for t in every if _has(t, column)]
    if not have:
        # Not `undefined`, which takes the ticks from the x axis that all panels share.
        ax.set_axis_off()
        whose = "this training" if len(every) == 1 else "any of these trainings"
        why = "undefined, no step has a number" if any(column in t.log for t in every) else f"not part of {whose}"
        ax.text(0, 0.5, f"{words.split(' (')[0]} loss: {why}", va="center", color=MUTED, transform=ax.transAxes)
        return
    ax.set_ylabel(words)
    raw = len(have) <= 2
    lowest = []
    for preset in presets:
        mine = [t for t in preset.trainings if _has(t, column)]
        curves = []
        for training in mine:
            steps, values = training.log["step"].to_numpy(float), training.log[column].astype(float)
            smooth, _ = smoothed(values)
            lowest.append(np.nanmin(values if raw else smooth))
            curves.append(pd.Series(smooth, index=steps))
            if raw:
                ax.plot(
                    steps, values, color=preset.look.color, lw=0.5, alpha=0.35, gid=f"raw {column} {training.label}"
                )
            if len(mine) > 1:
                ax.plot(steps, smooth, color=preset.look.color, lw=0.5, alpha=0.6, gid=f"{column} {training.label}")
        if curves:
            mean = pd.concat(curves, axis=1).mean(axis=1)
            ax.plot(
                mean.index, mean, color=preset.look.color, ls=preset.look.line, lw=1.3, gid=f"{column} {preset.name}"
            )
    if min(lowest) > 0:
        ax.set_yscale("log")
        number_ticks(ax.yaxis)
    if len(have) < len(every):
        ax.text(
            0.99,
            0.97,
            f"{len(have)} of {len(every)} trainings have it",
            ha="right",
            va="top",
            color=MUTED,
            transform=ax.transAxes,
        )


def _gate(ax: Axes, presets: Sequence[_Preset]) -> None:
    ax.set_ylabel("gate γ(t)")
    shown = [p for p in presets if any(_has(t, "gamma") for t in p.trainings)]
    if not shown:
        ax.set_yticks([])
        ax.text(
            0.5, 0.5, "undefined: no gate was logged", ha="center", va="center", color=MUTED, transform=ax.transAxes
        )
        return
    for preset in shown:
        # The gate is a setting: all seeds of a preset have the same.
        log = next(t.log for t in preset.trainings if _has(t, "gamma"))
        ax.plot(log["step"], log["gamma"], color=preset.look.color, ls=preset.look.line, gid=f"gamma {preset.name}")
    alone = presets[0].trainings[0] if len(presets) == 1 and len(presets[0].trainings) == 1 else None
    if alone and _has(alone, "learning_rate") and (peak := alone.log["learning_rate"].max()) > 0:
        ax.plot(
            alone.log["step"],
            alone.log["learning_rate"] / peak,
            color=MUTED,
            ls=":",
            lw=1,
            label=f"learning rate (1 = {peak:.3g})",
            gid="learning rate",
        )
    ax.set_ylim(-0.04, 1.08)
    ax.set_yticks([0, 0.5, 1])


def _legend(figure: Figure, gate: Axes, presets: Sequence[_Preset], left_out: Sequence[str]) -> None:
    handles, names = [], []
    for preset in presets:
        n = len(preset.trainings)
        seeds = preset.trainings[0].label.removeprefix(f"{preset.name}, ") if n == 1 else f"{n} seeds"
        handles.append(gate.plot([], [], color=preset.look.color, ls=preset.look.line)[0])
        names.append(f"{preset.name}: {seeds}")
    extra, words = gate.get_legend_handles_labels()
    legend_below(figure, [*handles, *extra], [*names, *words], title=_smoothing(presets, left_out))


def _smoothing(presets: Sequence[_Preset], left_out: Sequence[str]) -> str:
    widths = sorted({smoothed(t.log["step"])[1] for p in presets for t in p.trainings})
    steps = f"{widths[0]}" + (f"–{widths[-1]}" if len(widths) > 1 else "")
    raw = sum(len(p.trainings) for p in presets) <= 2
    text = f"running mean over {steps} steps" + ("; faint: every step" if raw else "; thin: one seed")
    return text + (f"; {len(presets)} of {len(presets) + len(left_out)} presets" if left_out else "")


def _alt(presets: Sequence[_Preset], left_out: Sequence[str], trainings: Sequence[Training]) -> str:
    n = sum(len(p.trainings) for p in presets)
    sentences = [f"Losses over the steps of {n} training{'s' if n > 1 else ''}, and the gate γ(t)."]
    for preset in presets:
        values = [
            f"{words.split(' (')[0]} {ends}" for column, words in LOSSES.items() if (ends := _ends(preset, column))
        ]
        sentences.append(f"{preset.name}: {', '.join(values) or 'no loss logged'}{_gate_words(preset)}.")
    sentences.append(f"Smoothed: {_smoothing(presets, [])}.")
    if left_out:
        sentences.append(f"Not shown: {', '.join(left_out)}.")
    empty = [t.label for t in trainings if not len(t.log)]
    unfinished = [t.label for t in trainings if not t.finished]
    sentences += [
        f"{words}: {'; '.join(names)}."
        for words, names in (("Nothing logged", empty), ("Unfinished", unfinished))
        if names
    ]
    return " ".join(sentences)


def _ends(preset: _Preset, column: str) -> str:
    """`3.18 → 0.04`: the smoothed value at the first and the last step, the mean over the seeds; "" without."""
    curves: list[Mapping] = []
    for training in preset.trainings:
        if _has(training, column):
            smooth, _ = smoothed(training.log[column].astype(float))
            curves.append({"first": smooth[0], "last": smooth[-1]})
    if not curves:
        return ""
    first, last = (pd.Series([curve[end] for curve in curves]).mean() for end in ("first", "last"))
    return f"{first:.3g} → {last:.3g}"


def _gate_words(preset: _Preset) -> str:
    if not _has(preset.trainings[0], "gamma"):
        return ""
    log = preset.trainings[0].log.dropna(subset=["gamma"])
    gamma = log["gamma"].to_numpy(float)
    if (gamma == gamma[0]).all():
        return f", γ = {gamma[0]:g} throughout"
    whole = log["step"].to_numpy()[gamma >= gamma.max()]
    return f", γ from {gamma[0]:g} to {gamma.max():g} at step {whole[0]}"
