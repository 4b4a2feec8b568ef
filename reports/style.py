"""One look for every figure: column width, type size, colours, files. Nothing here touches matplotlib's global state.

Figures are `matplotlib.figure.Figure` objects without pyplot: PNGs are rendered by Agg whatever the backend is.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from perception_gap.storage.files import aside

COLUMN, PAGE = 3.4, 6.9  # inches: one and two columns of a paper
DPI = 150
SMALL, NORMAL = 7, 8  # points

_PALETTE = sns.color_palette("colorblind").as_hex()
TEACHER, STUDENT = _PALETTE[0], _PALETTE[1]
RIGHT, WRONG = _PALETTE[2], _PALETTE[4]
BOX = _PALETTE[2]
# Models beside the teacher, in their order; the palette's yellow is left out, which white paper swallows.
STUDENTS = (STUDENT, *(_PALETTE[i] for i in (4, 2, 9, 3, 5, 7)))
# With the colours: no series is told from another by colour alone. "--" is the teacher's.
LINES = ("-", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
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
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # a model's name may hold dollar signs
    "pdf.fonttype": 42,  # letters stay letters: to be found, copied and edited
}


class Look(NamedTuple):
    """How one model or preset is drawn in every figure."""

    color: str
    line: str | tuple
    marker: str


TEACHER_LOOK = Look(TEACHER, "--", "*")


def look(i: int) -> Look:
    """Of the i-th model beside the teacher, from 0; the first 28 differ in colour or in line."""
    return Look(STUDENTS[i % len(STUDENTS)], LINES[i % len(LINES)], MARKERS[i % len(MARKERS)])


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


def number_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, one to a decade and two between: the exponents would need mathtext."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def width_of(words: str) -> float:
    """Of a line of size SMALL, in points, as wide as hinting makes it in a PNG."""
    return 1.05 * text_to_path.get_text_width_height_descent(words, FontProperties(size=SMALL), ismath=False)[0]


def fitted(words: str, room: float) -> str:
    """A line of at most `room` points: what is too long loses its middle."""
    kept = words
    while width_of(kept) > room and len(kept) > 3:
        half = (len(kept) - 2) / 2
        kept = f"{words[: int(np.ceil(half))]}…{words[len(words) - int(half) :]}"
    return kept


def caption(label: str, rest: str, room: float) -> str:
    """`label: rest`, on two lines where one would be wider than `room` points."""
    line = f"{label}: {rest}"
    return line if width_of(line) <= room else f"{fitted(label + ':', room)}\n{rest}"


LINE = 9  # points from line to line of size SMALL
_MARKS = 20  # points of a row that its marks have, half of them above its middle


def row_height(captions: Sequence[str]) -> float:
    """Points of a row of `row_captions`."""
    return _MARKS + 2 + LINE * max((text.count("\n") + 1 for text in captions), default=1)


def row_captions(ax: Axes, captions: Sequence[str]) -> float:
    """Row i of a panel without a y axis is centred on y = i, its caption above its marks; sets the limits of y.

    Returns how much of y a point is in a panel that is as high as its rows: len(captions) × `row_height`.
    """
    point = 1 / row_height(captions)
    for y, text in enumerate(captions):
        ax.text(0.01, y - _MARKS / 2 * point, text, va="bottom", transform=ax.get_yaxis_transform(), in_layout=False)
    ax.set_ylim(len(captions) - 1 + _MARKS / 2 * point, -1 + _MARKS / 2 * point)
    ax.set_yticks([])
    ax.set_ylabel("")
    ax.spines["left"].set_visible(False)
    return point


_HANDLE, _GAP = 2.4, 1.0  # of a legend, in letters' heights


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], title: str = "") -> None:
    """The figure's legend under its panels, for which the figure grows; up to three columns, as its labels allow."""
    room = 72 * figure.get_figwidth() - 6  # points
    handle = (_HANDLE + 0.8) * SMALL
    labels = ["\n".join(fitted(line, room - handle) for line in label.split("\n")) for label in labels]
    widths = [max(map(width_of, label.split("\n"))) + handle for label in labels]
    columns = 1
    for n in (2, 3):
        split = np.array_split(widths, min(n, len(widths)))
        if sum(column.max() for column in split) + _GAP * SMALL * (len(split) - 1) <= room:
            columns = len(split)
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=columns,
        borderpad=0.1,
        handlelength=_HANDLE,
        columnspacing=_GAP,
        title=title or None,
        title_fontsize=SMALL,
        alignment="left",
    )
    legend.get_title().set_color(MUTED)
    lines = -(-len(labels) // columns) + bool(title) + sum(label.count("\n") for label in labels)
    figure.set_figheight(figure.get_figheight() + (4 + 1.2 * LINE * lines) / 72)


def undefined(ax: Axes, reason: str) -> None:
    """Say in the panel's place why there is nothing to plot."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.text(0.5, 0.5, f"undefined: {reason}", ha="center", va="center", color=MUTED, transform=ax.transAxes)


def settle(figure: Figure) -> None:
    """Arrange the panels once and for all: each drawing would move them a little, and no two files would agree."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        with matplotlib.rc_context(RC), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph .* missing")  # said once, when it is written
            figure.draw_without_rendering()
            figure.draw_without_rendering()
        figure.set_layout_engine("none")


FORMATS = ("png", "pdf", "svg")
# Without the moment of writing, so that the same figure is the same file.
_METADATA: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def save(
    figure: Figure, folder: Path, name: str, formats: Sequence[str] = ("png", "pdf"), *, follow: bool = False
) -> list[Path]:
    """Write FOLDER/NAME.FORMAT of each of FORMATS, atomically, PNG at 150 dpi; returns the paths.

    follow: as `perception_gap.storage.files.aside`.
    """
    settle(figure)
    paths = []
    for kind in formats:
        path = folder / f"{name}.{kind}"
        # Ticks are created while drawing, so the style has to hold here too.
        with aside(path, follow=follow) as partial, matplotlib.rc_context(RC | {"svg.hashsalt": name}):
            figure.savefig(partial, format=kind, dpi=DPI, metadata=_METADATA[kind])
        paths.append(path)
    return paths


_INK = ("#262626", "#000000")  # seaborn's ticks and text, and "black"


def svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for a page: letters in the page's font, ink in its `currentColor`.

    The same figure gives the same text. Every id begins with `name`, so several can stand in one page; the background
    is transparent; MUTED, FLOOR and TEACHER are `var(--muted)` and so on, which a dark page defines.
    """
    name = re.sub(r"\W+", "-", name)
    settle(figure)
    file = io.StringIO()
    with matplotlib.rc_context(RC | {"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")  # letters are the page's font's
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = _prefixed(text, name)
    # The style sheet of an <svg> holds for the whole page that it stands in.
    text = text.replace("*{stroke", f"#{name} *{{stroke", 1)
    text = text.replace("<svg ", f'<svg id="{name}" fill="currentColor" ', 1)
    return re.sub(r'style="([^"]*)"', lambda match: f'style="{_of_page(match[1])}"', text).strip()


def _of_page(style: str) -> str:
    """A style attribute without its font family, in the page's colours for ink, MUTED, FLOOR and TEACHER."""
    style = re.sub(r"font-family: [^;]*; ?", "", style)
    style = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", style)  # matplotlib before 3.10
    for color in _INK:
        style = style.replace(color, "currentColor")
    for name, color in (("muted", MUTED), ("floor", FLOOR), ("teacher", TEACHER)):
        style = style.replace(color, f"var(--{name}, {color})")
    return style


def _prefixed(text: str, name: str) -> str:
    """Ids, and references to them, behind `NAME-`; an id that stands twice is numbered, which no reference needs."""
    seen: dict[str, int] = {}

    def own(match: re.Match[str]) -> str:
        old = re.sub(r"\s+", "-", match[1])
        seen[old] = seen.get(old, 0) + 1
        return f'id="{name}-{old}"' if seen[old] == 1 else f'id="{name}-{old}-{seen[old]}"'

    text = re.sub(r'\bid="([^"]*)"', own, text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
