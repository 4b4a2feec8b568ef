"""One panel: a picture, or attention over it; and the bar of their common colour scale."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from skimage.color import rgb2gray

from perception_gap.geometry import TokenGeometry
from reports.overlays.density import top_tokens
from reports.overlays.page import MARGIN, Page
from reports.overlays.picture import Picture
from reports.overlays.text import Line, block_height, wrapped
from reports.style import BOX, FLOOR, MUTED, SMALL

LOWEST_TOP = 4.0  # of the colour scale, so that a nearly uniform map looks nearly uniform
BAR, BAR_ROOM = 0.08, 0.5  # inches: the bar, and all that it needs with its ticks and label


def color_scale(painted: Sequence[np.ndarray]) -> Normalize:
    """Logarithmic from uniform attention to the densest place of all maps, so that one scale shows a map on one token
    and a nearly uniform one; below uniform nothing is painted."""
    known = [float(np.nanmax(values)) for values in painted if np.isfinite(values).any()]
    return LogNorm(1, max([*known, LOWEST_TOP]))


def see_through() -> Colormap:
    """Magma whose opacity rises with the value, so that the picture stays visible where little attention lies."""
    value = np.linspace(0, 1, 256)
    colors = matplotlib.colormaps["magma"](0.35 + 0.65 * value)
    colors[:, 3] = 0.25 + 0.65 * value**0.7
    return ListedColormap(colors).with_extremes(under=(0, 0, 0, 0), bad=(0, 0, 0, 0))


def draw_picture(ax: Axes, picture: Picture, inches: float) -> None:
    """`inches`: the panel's width."""
    ax.set_axis_off()
    _frame(ax, picture)
    if picture.pixels is None:
        draw_reason(ax, f"the picture {picture.lost}: {picture.name}", inches)
    else:
        ax.imshow(picture.pixels, extent=_extent(picture), aspect="auto")
    _outline(ax, picture.boxes, BOX, 1.3)


def draw_attention(
    ax: Axes,
    picture: Picture,
    values: np.ndarray,
    norm: Normalize,
    weights: np.ndarray,
    geometry: TokenGeometry,
    *,
    image: int,
    top_k: int,
) -> None:
    """Density [rows, cols] over the grey picture; outlines of its share of the prompt's `top_k` tokens and boxes."""
    ax.set_axis_off()
    _frame(ax, picture)
    grey = np.full((1, 1), 0.5) if picture.pixels is None else rgb2gray(picture.pixels)
    # Dimmed and without colour, so that the only colour in the panel is attention.
    ax.imshow(0.15 + 0.55 * grey, cmap="gray", vmin=0, vmax=1, extent=_extent(picture), aspect="auto")
    ax.imshow(
        values,
        cmap=see_through(),
        norm=norm,
        extent=_extent(picture),
        aspect="auto",
        interpolation="nearest",
        gid="attention",
    )
    if np.isfinite(values).any():
        strongest = [t for t in top_tokens(weights, geometry, top_k) if geometry.image[t] == image]
        scale = np.array([picture.width, picture.height] * 2)
        _outline(ax, geometry.boxes[strongest] * scale, "white", 0.7)
    else:
        ax.text(0.5, 0.5, "undefined:\nno mass", color="white", ha="center", va="center", transform=ax.transAxes)
    _outline(ax, picture.boxes, BOX, 1.3)


def draw_reason(ax: Axes, reason: str, inches: float) -> None:
    """A pale panel of that width that says why nothing is painted on it."""
    ax.set_axis_off()
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, fc="0.93", ec="none"))
    ax.text(
        0.5,
        0.5,
        "\n".join(wrapped(reason, 0.9 * inches, 6)),
        ha="center",
        va="center",
        color=MUTED,
        transform=ax.transAxes,
        parse_math=False,
    )


def draw_bar(page: Page, x: float, y: float, height: float, norm: Normalize) -> None:
    """The colour scale, from (x, y) downwards; ticks and label need `BAR_ROOM`."""
    ax = page.axes(x, y, BAR, height)
    bar = page.figure.colorbar(matplotlib.cm.ScalarMappable(norm, see_through()), cax=ax)
    ax.set_facecolor("0.4")  # a middle tone of the dimmed pictures that the colours lie on
    bar.outline.set_linewidth(0.4)
    top = float(norm.vmax or LOWEST_TOP)
    ticks = [2.0**e for e in range(0, 64, 1 if top < 20 else 2) if 2.0**e <= 1.01 * top]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.set_label("× uniform", labelpad=2)


def draw_legend(page: Page, notes: Sequence[str], top_k: int, *, boxes: bool, tokens: str = "") -> None:
    """At the foot of the page: what the outlines are (`tokens`: those of the tokens), then what is shown, in words."""
    handles = [Rectangle((0, 0), 1, 1, fill=False, ec=BOX, lw=1.3, label="reference box")] if boxes else []
    if top_k:
        label = tokens or (f"the {top_k} strongest tokens" if top_k > 1 else "the strongest token")
        handles.append(Rectangle((0, 0), 1, 1, fc=FLOOR, ec="white", lw=0.7, label=label))
    width = page.width - 2 * MARGIN
    if handles:
        height = block_height([Line("")]) + 0.05
        ax = page.axes(MARGIN, page.y, width, height)
        ax.set_axis_off()
        ax.legend(
            handles=handles,
            loc="upper left",
            ncols=2,
            borderaxespad=0,
            borderpad=0,
            fontsize=SMALL,
            handlelength=1.2,
            handleheight=1.0,
        )
        page.y += height
    page.y += page.write(MARGIN, page.y, width, [Line(t, MUTED) for note in notes for t in wrapped(note, width, 2)])


def _extent(picture: Picture) -> tuple[float, float, float, float]:
    return 0.0, picture.width, picture.height, 0.0


def _frame(ax: Axes, picture: Picture) -> None:
    ax.set_xlim(0, picture.width)
    ax.set_ylim(picture.height, 0)


def _outline(ax: Axes, boxes: np.ndarray, color: str, width: float) -> None:
    """Outline xyxy boxes of the picture's pixels."""
    halo = [withStroke(linewidth=width + 0.9, foreground="black", alpha=0.6)]
    for x0, y0, x1, y1 in boxes:
        ax.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=color, lw=width, path_effects=halo, clip_on=False)
        )
