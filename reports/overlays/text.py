"""Text in a given width, measured with the font that draws it: alphabets differ too much for counting letters."""

from __future__ import annotations

import warnings
from functools import cache
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, fontManager

from reports.style import DPI, SMALL

LEADING = 1.28  # line height in type sizes
ELLIPSIS = " …"
# Alphabets that matplotlib's own font lacks; whichever of these are installed follow it.
_WIDE = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
)


class Line(NamedTuple):
    """One line of text: what it says, its colour, its weight, its size in points."""

    text: str
    color: str = "black"
    bold: bool = False
    size: float = SMALL


@cache
def fonts() -> tuple[str, ...]:
    installed = {font.name for font in fontManager.ttflist}
    return ("sans-serif", *(name for name in _WIDE if name in installed))


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)


def _properties(bold: bool, size: float) -> FontProperties:
    return FontProperties(family=list(fonts()), size=size, weight="bold" if bold else "normal")


def text_width(text: str, *, bold: bool = False, size: float = SMALL) -> float:
    """Inches, in a PNG; a PDF needs no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing glyph is said once, by the drawing
        return _renderer().get_text_width_height_descent(text, _properties(bold, size), False)[0] / DPI


def wrapped(text: object, inches: float, lines: int, *, bold: bool = False, size: float = SMALL) -> list[str]:
    """The text in at most `lines` lines of at most `inches`, broken at blanks where there are any; … where it is cut.

    Blanks of every kind are one blank; what cannot be printed is left out.
    """
    rest = " ".join("".join(c for c in str(text) if c.isprintable() or c.isspace()).split())
    rest = rest[: 400 * lines]  # no line is longer: measuring a novel would take minutes
    kept: list[str] = []
    while rest and len(kept) < lines:
        cut = _fitting(rest, inches, bold, size)
        kept.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if rest:
        last = kept[-1]
        while last and text_width(last + ELLIPSIS, bold=bold, size=size) > inches:
            last = last[:-1].rstrip()
        kept[-1] = last + ELLIPSIS
    return kept


def _fitting(text: str, inches: float, bold: bool, size: float) -> int:
    """How many characters of the text go on one line, at least 1: up to the last blank that fits, if there is one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle], bold=bold, size=size) <= inches:
            low = middle
        else:
            high = middle - 1
    if low == len(text) or text[low] == " ":
        return low
    blank = text.rfind(" ", 0, low)
    return blank if blank > 0 else low


def block_height(lines: list[Line]) -> float:
    """Inches."""
    return sum(line.size for line in lines) * LEADING / 72


def write(ax: Axes, lines: list[Line], *, center: bool = False) -> None:
    """The lines one under the other from the top of the axes, which are switched off."""
    ax.set_axis_off()
    down = 0.0
    for line in lines:
        down += line.size * LEADING
        # By the baseline: letters of another font would lift or lower a line that is set by its top.
        ax.annotate(
            line.text,
            (0.5 if center else 0, 1),
            xycoords="axes fraction",
            xytext=(0, 0.3 * line.size - down),
            textcoords="offset points",
            ha="center" if center else "left",
            va="baseline",
            color=line.color,
            fontproperties=_properties(line.bold, line.size),
            parse_math=False,
            annotation_clip=False,
        )
