"""One look for every figure: column width, type size, colours. Nothing here touches matplotlib's global state.

Figures are `matplotlib.figure.Figure` objects without pyplot: PNGs are rendered by Agg whatever the backend is.
"""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

COLUMN, PAGE = 3.4, 6.9  # inches: one and two columns of a paper
DPI = 150
SMALL, NORMAL = 7, 8  # points

_PALETTE = sns.color_palette("colorblind").as_hex()
TEACHER, STUDENT = _PALETTE[0], _PALETTE[1]
RIGHT, WRONG = _PALETTE[2], _PALETTE[4]
BOX = _PALETTE[2]
STUDENTS = (STUDENT, *(_PALETTE[i] for i in (4, 2, 8, 5, 9, 3)))  # models beside the teacher, in their order
LINES = ("-", "--", "-.", ":")  # with the colours: no series is told from another by colour alone
FLOOR = "#4d4d4d"
MUTED = "#6b6b6b"

RC = {
    **sns.axes_style("ticks"),
    "font.family": ["sans-serif"],
    "font.size": SMALL,
    "axes.titlesize": NORMAL,
    "axes.titlelocation": "left",
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches; call it, and fill it, inside `matplotlib.rc_context(RC)`."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def percent_ticks(axis: Axis, whole: float = 1) -> None:
    """Label ticks as percent of `whole`, with as many digits as the tick needs: rounding would move it."""
    axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value / whole:.4g} %"))


def bins(n: int, most: int) -> int:
    """Number of bins of a histogram of n values: few for few values, so that it does not become a comb."""
    return int(np.clip(2 * np.sqrt(n), 5, most))


def undefined(ax: Axes, reason: str) -> None:
    """Say in the panel's place why there is nothing to plot."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.text(0.5, 0.5, f"undefined: {reason}", ha="center", va="center", color=MUTED, transform=ax.transAxes)


def save_png(figure: Figure, path: Path) -> Path:
    """Write the figure atomically at 150 dpi; returns `path`."""
    partial = path.with_name(path.name + ".part")
    # Ticks are created while drawing, so the style has to hold here too.
    with matplotlib.rc_context(RC):
        figure.savefig(partial, format="png", dpi=DPI)
    os.replace(partial, path)
    return path
