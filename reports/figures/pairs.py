"""How far apart every two models look: a heat map of JS below the diagonal, its floor above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from reports.compared import CompareRun
from reports.figures.marks import span, words_below
from reports.figures.models import NamedFigure
from reports.names import frame
from reports.style import COLUMN, MUTED, PAGE, RC, SMALL, fitted, new_figure, undefined
from reports.summary import Metric, defined, interval_of
from reports.tables.compared import FARTHER, NEARER, OPEN, against_floor, js_of, pair_label
from reports.tables.model import estimate

TITLE = "How far apart two models look"
CELL = 0.66  # inches: what an interval of size SMALL needs
LIGHT, DARK = "#fffffe", "#161616"  # of letters on a colour, which no page may turn over


@matplotlib.rc_context(RC)
def of_comparison(comparison: CompareRun) -> list[NamedFigure]:
    """[] where no two models have a sample in common."""
    rows = comparison.summary["pairs"]
    if not rows:
        return []
    names = [name for name in comparison.labels if any(name in (row["first"], row["second"]) for row in rows)]
    cells = _cells(rows, names)
    values = np.array([[np.nan if not defined(m) else m["mean"] for m in line] for line in cells])
    room = CELL * len(names)
    figure = new_figure(min(max(COLUMN, room + 1.6), PAGE + 1.2), room + 1.35)
    ax = figure.subplots()
    ax.set_title(TITLE)
    if np.isfinite(values).any():
        norm = Normalize(0, max(float(np.nanmax(values)), 1e-3))
        _heat(ax, values, [fitted(comparison.labels[name], 80) for name in names], norm)
        _annotate(ax, cells, rows, names, norm)
    else:
        undefined(ax, "no maps of one text")
    n = span((js_of(row)["n"] for row in rows), " to ")
    words = f"below the diagonal: JS of the maps ({frame(comparison.info)}), 95 % interval"
    words += f"\nabove: its floor, to another picture's map; n = {n} samples"
    words += "\n▼ nearer than the floor, ▲ farther (tested, Holm over pairs)"
    words_below(figure, words)
    return [NamedFigure("pairs", TITLE, _alt(comparison), figure)]


def _heat(ax: Axes, values: np.ndarray, labels: list[str], norm: Normalize) -> None:
    sns.heatmap(
        values,
        ax=ax,
        mask=~np.isfinite(values),
        norm=norm,
        cmap="crest",
        square=True,
        linewidths=1,
        linecolor="none",
        xticklabels=labels,
        yticklabels=labels,
        cbar_kws={"shrink": 0.8},
    )
    if (bar := ax.collections[0].colorbar) is not None:
        bar.set_label("JS (nats)", labelpad=5)
    ax.tick_params(length=0)
    ax.set_xticklabels(labels, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticklabels(labels, rotation=0)


def _cells(rows: list[Mapping[str, Any]], names: list[str]) -> list[list[Metric | None]]:
    """[row][column]: JS of the two below the diagonal, the floor of the same pair above it."""
    cells: list[list[Metric | None]] = [[None] * len(names) for _ in names]
    for row in rows:
        low, high = sorted((names.index(row["first"]), names.index(row["second"])))
        cells[high][low], cells[low][high] = js_of(row), row["against_floor"]["floor"]
    return cells


def _annotate(
    ax: Axes, cells: list[list[Metric | None]], rows: list[Mapping[str, Any]], names: list[str], norm: Normalize
) -> None:
    """Value and interval in each cell, with a sign for the verdict against the floor."""
    signs = {
        frozenset((row["first"], row["second"])): against_floor(row["against_floor"]["difference"]) for row in rows
    }
    for y, line in enumerate(cells):
        for x, metric in enumerate(line):
            if metric is None:
                continue
            if not defined(metric):
                ax.text(x + 0.5, y + 0.5, "undefined", ha="center", va="center", color=MUTED, fontsize=SMALL)
                continue
            side = signs[frozenset((names[x], names[y]))] if y > x else ""
            mark = {NEARER: " ▼", FARTHER: " ▲"}.get(side, "")
            figure = estimate(metric, "nats").figure + mark
            # The colour map runs from light to dark.
            color = LIGHT if norm(metric["mean"]) > 0.35 else DARK
            ax.text(x + 0.5, y + 0.42, figure, ha="center", va="center", color=color, gid=f"js {names[y]} {names[x]}")
            if interval := interval_of(metric):
                ends = f"{interval[0]:.3f}–{interval[1]:.3f}".replace("0.", ".")
                ax.text(x + 0.5, y + 0.68, ends, ha="center", va="center", color=color, fontsize=SMALL - 1)


def _alt(comparison: CompareRun) -> str:
    words = {NEARER: "nearer than the floor", FARTHER: "farther than the floor", OPEN: OPEN, "": "no floor"}
    sentences = [
        f"JS divergence of the maps of every two models, on the {frame(comparison.info)}, with 95 % intervals, beside "
        "the floor: the same against the first model's map of another picture of the task."
    ]
    for row in comparison.summary["pairs"]:
        js, floor = estimate(js_of(row), "nats"), estimate(row["against_floor"]["floor"], "nats")
        value = f"{js.figure} nats {js.interval}".strip() if js.defined else "undefined"
        beside = f", floor {floor.figure} {floor.interval}".rstrip() if floor.defined else ""
        sentences.append(
            f"{pair_label(comparison, row)}: {value}{beside}, n = {js_of(row)['n']:,}, "
            f"{words[against_floor(row['against_floor']['difference'])]}."
        )
    return " ".join(sentences)
