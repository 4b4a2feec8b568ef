"""Whether two models look alike where they answer alike: JS of every pair by which of the two is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reports.compared import CompareRun
from reports.figures.marks import dot, interval
from reports.figures.models import NamedFigure
from reports.names import frame
from reports.style import (
    COLUMN,
    FLOOR,
    PAGE,
    RC,
    RIGHT,
    STUDENTS,
    WRONG,
    caption,
    legend_below,
    new_figure,
    row_captions,
    row_height,
)
from reports.summary import defined
from reports.tables.compared import pair_label
from reports.tables.model import estimate

TITLE = "Do gazes agree where answers do?"
ONE_COLUMN = 9  # pairs that stand under each other; more have two columns


class Kind(NamedTuple):
    """One verdict of two models: its key in summary["pairs"], how it is written and drawn; offset in points."""

    key: str
    label: str
    color: str
    marker: str
    offset: float


KINDS = (
    Kind("both_right", "both right", RIGHT, "o", -6),
    Kind("only_first_right", "only the first right", STUDENTS[3], "<", -2),
    Kind("only_second_right", "only the second right", STUDENTS[4], ">", 2),
    Kind("both_wrong", "both wrong", WRONG, "s", 6),
)


@matplotlib.rc_context(RC)
def of_comparison(comparison: CompareRun) -> list[NamedFigure]:
    """[] where no two models have a sample in common."""
    pairs = comparison.summary["pairs"]
    if not pairs:
        return []
    columns = 1 if len(pairs) <= ONE_COLUMN else 2
    parts = [list(part) for part in np.array_split(np.array(pairs, dtype=object), columns)]
    width = COLUMN if columns == 1 else PAGE
    room = 72 * (width / columns) - 16
    captions = [[caption(pair_label(comparison, row), _difference(row), room) for row in part] for part in parts]
    height = max(row_height(texts) for texts in captions)
    most = max(len(part) for part in parts)
    figure = new_figure(width, most * height / 72 + 0.55)
    panels = figure.subplots(1, columns, sharex=True, squeeze=False)[0]
    for ax, part, texts in zip(panels, parts, captions, strict=True):
        # As many rows in each column, so that rows are equally high.
        point = row_captions(ax, [*texts, *[""] * (most - len(texts))])
        _draw(ax, part, point)
        ax.set_xlabel(f"JS of the maps (nats, {frame(comparison.info)})")
    panels[0].set_title(TITLE)
    handles = [Line2D([], [], color=kind.color, marker=kind.marker, ms=3.6, lw=1) for kind in KINDS]
    handles.append(Line2D([], [], color=FLOOR, marker="|", ms=7, ls=""))
    words = "Δ: both right − both wrong, within task; bars, brackets: 95 %"
    legend_below(figure, handles, [*(kind.label for kind in KINDS), "floor: another picture's map"], words)
    return [NamedFigure("agreement", TITLE, _alt(comparison), figure)]


def _draw(ax: Axes, rows: Sequence[Mapping[str, Any]], point: float) -> None:
    for y, row in enumerate(rows):
        pair = f"{row['first']} {row['second']}"
        if defined(row["js_floor"]):
            dot(ax, row["js_floor"]["mean"], y, FLOOR, "|", f"floor {pair}", ms=11, mew=0.9)
        for kind in KINDS:
            metric, at = row["agreement"]["js"][kind.key], y + kind.offset * point
            if defined(metric):
                interval(ax, metric["ci"], at, kind.color, f"interval {kind.key} {pair}", lw=1.1)
                dot(ax, metric["mean"], at, kind.color, kind.marker, f"mean {kind.key} {pair}", ms=3.2)


def _difference(row: Mapping[str, Any]) -> str:
    """`Δ −0.004 [−0.015, 0.005]` of the pair."""
    cell = estimate(row["agreement"]["js"]["right_minus_wrong"], "nats", signed=True)
    return f"Δ {cell.figure} {cell.interval}".rstrip() if cell.defined else "Δ undefined"


def _alt(comparison: CompareRun) -> str:
    sentences = [
        f"JS divergence of two models' maps, on the {frame(comparison.info)}, by which of the two is right, with 95 % "
        "intervals; Δ is both right minus both wrong, within task."
    ]
    for row in comparison.summary["pairs"]:
        parts = []
        for kind in KINDS:
            metric = row["agreement"]["js"][kind.key]
            cell = estimate(metric, "nats")
            value = f"{cell.figure} {cell.interval}".rstrip() if cell.defined else "undefined"
            parts.append(f"{kind.label} {value} (n = {metric['n']:,})")
        sentences.append(
            f"{pair_label(comparison, row)}: {', '.join(parts)}; {_difference(row)} "
            f"(n = {row['agreement']['js']['right_minus_wrong']['n']:,})."
        )
    return " ".join(sentences)
