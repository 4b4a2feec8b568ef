"""Labels beside points, none over another: the nearest free place, with a leader where that is not beside the point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.style import SMALL, fitted, settle

RADII = (4, 7, 11, 16, 22, 29, 37, 46, 56, 68, 82, 98, 116)  # points
BESIDE = 8  # points: from here on a leader says whose label it is
MARKER = 3.0  # points: half of a marker with its edge
LONGEST = 110  # points: of a label, which loses its middle beyond
CROSSED = 8.0  # what crossing an interval costs, in points of distance; a leader costs three times that


class Target(NamedTuple):
    """A point in data coordinates, its label, and the ends of its intervals."""

    label: str
    x: float
    y: float
    bars: Sequence[tuple[tuple[float, float], tuple[float, float]]] = ()


@dataclass
class _Taken:
    """What lies in the axes already, in pixels: boxes [n, 4] (x0, y0, x1, y1), marker centres, segments [n, 2, 2]."""

    markers: np.ndarray
    bars: np.ndarray
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    leaders: list[np.ndarray] = field(default_factory=list)


def place_labels(figure: Figure, ax: Axes, targets: Sequence[Target]) -> list[str]:
    """Write every label inside the axes, as the last thing in a figure; returns those for which there is no room."""
    settle(figure)
    unit = figure.dpi / 72  # pixels of a point
    to_pixels = ax.transData.transform
    centres = np.array([to_pixels((t.x, t.y)) for t in targets])
    bars = [to_pixels(np.array(bar)) for t in targets for bar in t.bars if np.isfinite(bar).all()]
    taken = _Taken(centres, np.array(bars).reshape(-1, 2, 2))
    frame = ax.get_window_extent()
    # Words that stand in the axes are in the way too.
    taken.boxes += [text.get_window_extent().extents for text in ax.texts]
    distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
    crowded = np.argsort(-(distance < 40 * unit).sum(axis=1), kind="stable")
    unplaced = []
    for i in crowded:
        text = ax.annotate(
            fitted(targets[i].label, LONGEST),
            (targets[i].x, targets[i].y),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SMALL,
            in_layout=False,
            gid=f"label {targets[i].label}",
        )
        size = text.get_window_extent()
        best = _best(centres[i], (size.width, size.height), np.asarray(frame.extents), taken, unit)
        if best is None:
            text.remove()
            unplaced.append(targets[i].label)
            continue
        box, leader = best
        middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
        text.set_position(tuple((middle - centres[i]) / unit))
        taken.boxes.append(box)
        if np.linalg.norm(leader[-1] - leader[0]) > BESIDE * unit:
            taken.leaders.append(leader)
            ends = ax.transData.inverted().transform(leader[[0, -1]])
            ax.plot(
                *ends.T, color="black", lw=0.5, scalex=False, scaley=False, zorder=3, gid=f"leader {targets[i].label}"
            )
    return unplaced


def _best(centre: np.ndarray, size: tuple[float, float], frame: np.ndarray, taken: _Taken, unit: float):
    """(box, leader as points along it) of the cheapest free place; None where there is none."""
    half = np.array(size) / 2
    best, lowest = None, np.inf
    for radius in RADII:
        if radius > lowest:  # farther places only cost more
            break
        for angle in np.arange(24) * np.pi / 12:
            way = np.array([np.cos(angle), np.sin(angle)])
            middle = centre + way * (radius * unit + half)
            box = (*(middle - half), *(middle + half))
            edge = np.clip(centre, box[:2], box[2:])
            leader = centre + np.linspace(0, 1, 24)[:, None] * (edge - centre)
            cost = radius + _cost(box, leader, frame, taken, unit, centre)
            if cost < lowest:
                best, lowest = (box, leader), cost
    return best


def _cost(box, leader: np.ndarray, frame: np.ndarray, taken: _Taken, unit: float, centre: np.ndarray) -> float:
    """Infinite where the box leaves the axes or lies on a label or a marker; else what it and its leader cross."""
    x0, y0, x1, y1 = box
    if x0 < frame[0] or y0 < frame[1] or x1 > frame[2] or y1 > frame[3]:
        return np.inf
    gap = 1.5 * unit
    if any(x0 < b[2] + gap and b[0] < x1 + gap and y0 < b[3] and b[1] < y1 for b in taken.boxes):
        return np.inf
    reach = MARKER * unit
    if _inside(taken.markers, (x0 - reach, y0 - reach, x1 + reach, y1 + reach)).any():
        return np.inf
    if any(_inside(leader, b).any() for b in taken.boxes) or any(_inside(other, box).any() for other in taken.leaders):
        return np.inf
    others = taken.markers[(taken.markers != centre).any(axis=1)]
    near = len(others) and np.linalg.norm(others[:, None] - leader, axis=-1).min() < reach
    # A label that another point is nearer to reads as that point's.
    away = np.linalg.norm(np.clip(others, (x0, y0), (x1, y1)) - others, axis=1)
    stolen = len(others) and away.min() < np.linalg.norm(leader[-1] - centre)
    crossed = sum(np.linalg.norm(other[:, None] - leader, axis=-1).min() < unit for other in taken.leaders)
    low, high = taken.bars.min(axis=1), taken.bars.max(axis=1)
    through = ((low < (x1, y1)) & (high > (x0, y0))).all(axis=1).sum()
    return CROSSED * float(through) + 3 * CROSSED * (bool(near) + bool(stolen) + crossed)


def _inside(points: np.ndarray, box) -> np.ndarray:
    return ((points > box[:2]) & (points < box[2:])).all(axis=1)
