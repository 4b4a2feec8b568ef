"""What figures draw alike: a value with its 95 % interval, a point with two of them, the words below, a range of n."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.labelling import Target
from reports.style import MUTED, SMALL, Look
from reports.summary import Metric


class Point(NamedTuple):
    """A model between two axes: x and y are (value, low, high); NaN without an interval."""

    label: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    look: Look


def with_ends(metric: Metric) -> tuple[float, float, float]:
    """(mean, low, high) of an estimate; NaN without an interval."""
    low, high = metric["ci"] or (math.nan, math.nan)
    return metric["mean"], low, high


def interval(ax: Axes, ends: Sequence[float] | None, y: float, color: str, gid: str | None = None, **line: Any) -> None:
    """A bar from end to end; nothing without an interval."""
    if ends is not None:
        ax.plot(ends, [y, y], color=color, solid_capstyle="butt", gid=gid, **{"lw": 1.3, **line})


def dot(ax: Axes, x: float, y: float, color: str, marker: str, gid: str, **line: Any) -> None:
    """The value itself."""
    ax.plot([x], [y], color=color, marker=marker, ls="", gid=gid, **{"ms": 3.8, **line})


def cross(ax: Axes, point: Point, names: tuple[str, str]) -> Target:
    """A point with an interval along x and one along y, which are called so; what its label has to keep clear of."""
    (x, x_low, x_high), (y, y_low, y_high), (color, _, marker) = point.x, point.y, point.look
    bars = [((x_low, y), (x_high, y)), ((x, y_low), (x, y_high))]
    for ends, name in zip(bars, names, strict=True):
        ax.plot(*zip(*ends, strict=True), color=color, lw=0.8, alpha=0.6, gid=f"{name} interval {point.label}")
    dot(ax, x, y, color, marker, f"point {point.label}")
    return Target(point.label, x, y, bars)


def span(counts: Iterable[float], dash: str = "–") -> str:
    """`480`, or `476–480` where they differ."""
    low, *rest = sorted(set(counts))
    return f"{low:,.0f}" + (f"{dash}{rest[-1]:,.0f}" if rest else "")


def words_below(figure: Figure, words: str) -> None:
    """Small and muted, under the panels, from the left."""
    figure.supxlabel(words, fontsize=SMALL, color=MUTED, x=0.01, ha="left")
