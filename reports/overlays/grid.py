"""image | teacher | models: a row a sample, its text beside two maps or below more of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from perception_gap.runs.run import Run
from reports.overlays.captions import caption, choice, explained, heading, spoken
from reports.overlays.choice import extreme_focus, most_divergent
from reports.overlays.density import density
from reports.overlays.models import Model, as_models, sample_of
from reports.overlays.page import MARGIN, Page
from reports.overlays.panel import (
    BAR_ROOM,
    color_scale,
    draw_attention,
    draw_bar,
    draw_legend,
    draw_picture,
    draw_reason,
)
from reports.overlays.picture import Picture, pictures_of, raster_shape
from reports.overlays.text import Line, block_height, wrapped
from reports.style import MUTED, NORMAL, PAGE, RC, new_figure, undefined

GAP = 0.07  # inches between panels
BESIDE = 2.15  # inches of the text beside the panels
WIDEST = 2.1  # inches of a panel
NARROWEST = 0.92  # inches of a panel: "focus 100.0 %" below it
NUMBER = 0.16  # inches at the left for the number of a picture, where a prompt has several


@matplotlib.rc_context(RC)
def overlay_figure(
    runs: Run | Sequence[Run],
    teacher: Run | None,
    k: int = 6,
    *,
    samples: Sequence[str] | None = None,
    why: str = "",
    top_k: int = 8,
    smooth: bool = False,
) -> Figure:
    """image | teacher | every run, a row a sample; image | runs without a teacher. 6.9 inches wide, of six models more.

    samples: ids to show, in their order, and `why` these; by default the k where the first run differs most from the
    teacher, or, without one, those of lowest and highest focus. All maps are those of the text that the models share
    (their own answers where there is none), on one colour scale a row. Several pictures of a prompt lie one under the
    other.
    A model that lacks a sample has a panel that says so. UsageError as `as_models`, and for an unknown id.
    """
    models = as_models(runs, teacher)
    first = models[0 if teacher is None else 1].run.samples
    chosen = extreme_focus(first, k) if teacher is None else most_divergent(first, k)
    ids = list(chosen["sample_id"]) if samples is None else list(samples)
    if not ids:
        figure = new_figure(6.9, 1.5)
        undefined(figure.subplots(), "no map to paint")
        return figure
    page = Page(max(PAGE, 2 * MARGIN + NUMBER + BAR_ROOM + (len(models) + 1) * (NARROWEST + GAP)))
    several = any(len(sample_of(models, sample_id)[1]["images"]) > 1 for sample_id in ids)
    layout = layout_of(page, len(models), several)
    draw_titles(page, layout, models)
    for sample_id in ids:
        draw_sample(page, layout, models, sample_id, top_k=top_k, smooth=smooth)
    rows = [sample_of(models, sample_id)[1] for sample_id in ids]
    reason = why if samples is not None else choice(chosen, compared=teacher is not None)
    notes = [reason] if reason else []
    draw_legend(page, notes + explained(models, rows), top_k, boxes=any(len(row["boxes"]) for row in rows))
    return page.finish()


class Layout(NamedTuple):
    """Inches: where the first panel begins, how wide each is, where bar and text stand; text beside, or below."""

    left: float
    panel: float
    bar: float
    text: float
    beside: bool

    def x(self, column: int) -> float:
        return self.left + column * (self.panel + GAP)


def layout_of(page: Page, n_models: int, several_pictures: bool) -> Layout:
    """Two maps leave room for the text beside them; of more, each has its own text below."""
    beside = n_models <= 2
    left = MARGIN + (NUMBER if several_pictures else 0)
    room = page.width - left - MARGIN - BAR_ROOM - (BESIDE + GAP if beside else 0)
    panel = min(WIDEST, (room - n_models * GAP) / (n_models + 1))
    bar = left + (n_models + 1) * (panel + GAP)
    return Layout(left, panel, bar, bar + BAR_ROOM + GAP, beside)


def draw_titles(page: Page, layout: Layout, models: Sequence[Model]) -> None:
    """The names of the columns, standing on one line."""
    titles = [("image", "black"), *((model.name, model.color) for model in models)]
    lines = [
        [Line(t, color, False, NORMAL) for t in wrapped(title, layout.panel, 2, size=NORMAL)] for title, color in titles
    ]
    height = max(block_height(block) for block in lines)
    for column, block in enumerate(lines):
        page.write(layout.x(column), page.y + height - block_height(block), layout.panel, block, center=True)
    page.y += height + 0.02


def draw_sample(
    page: Page, layout: Layout, models: Sequence[Model], sample_id: str, *, top_k: int, smooth: bool
) -> None:
    """One sample: its pictures under each other, in each row the maps of all models; then, or beside, the words."""
    home, sample = sample_of(models, sample_id)
    if not len(sample["heights"]):
        reason = f"{sample_id}: {sample['error'] or 'no picture was read'}"
        lines = [Line(t, MUTED) for t in wrapped(reason, page.width - 2 * MARGIN, 2)]
        page.y += page.write(MARGIN, page.y, page.width - 2 * MARGIN, lines) + 2 * GAP
        return
    pictures = pictures_of(home, sample)
    painted = [paint(model, sample, len(pictures), smooth=smooth) for model in models]
    norm = color_scale([panel.values for panel in painted if isinstance(panel, Painted)])
    top = page.y
    for i, picture in enumerate(pictures):
        if len(pictures) > 1:
            ax = page.axes(MARGIN, page.y, NUMBER, height_of(picture, layout.panel))
            ax.set_axis_off()
            ax.text(0.3, 0.5, f"image {i + 1}", rotation=90, ha="center", va="center", color=MUTED)
        draw_row(page, layout.left, layout.panel, picture, painted, norm, image=i, top_k=top_k)
        page.y += height_of(picture, layout.panel) + GAP
    page.y -= GAP
    draw_bar(page, layout.bar, top, page.y - top, norm)
    if layout.beside:
        lines = heading(sample, BESIDE) + [line for model in models for line in spoken(model, sample, BESIDE)]
        page.y = max(page.y, top - 0.02 + page.write(layout.text, top - 0.02, BESIDE, lines))
    else:
        blocks = [heading(sample, layout.panel), *(caption(model, sample, layout.panel) for model in models)]
        page.y += 0.03
        page.y += max(page.write(layout.x(c), page.y, layout.panel, block) for c, block in enumerate(blocks))
    page.y += 2 * GAP


class Painted(NamedTuple):
    """values: density [n_images, rows, cols] of the weights [N] of the model's N tokens."""

    values: np.ndarray
    weights: np.ndarray
    model: Model
    sample_id: str


def paint(model: Model, sample: pd.Series, n_images: int, *, smooth: bool) -> Painted | str:
    """The model's map of the shared text as a density, or in words why there is none."""
    weights = model.map(sample)
    if isinstance(weights, str):
        return weights
    geometry, shape = model.run.geometry(sample["sample_id"]), raster_shape(sample)
    return Painted(density(weights, geometry, *shape, n_images, smooth=smooth), weights, model, sample["sample_id"])


def draw_row(
    page: Page,
    left: float,
    width: float,
    picture: Picture,
    painted: Sequence[Painted | str],
    norm: Normalize,
    *,
    image: int,
    top_k: int,
    first: bool = True,
) -> None:
    """A picture (unless it is not the `first` row that shows it), and the maps over it, at page.y."""
    cell = height_of(picture, width)
    height = min(cell, width * picture.aspect)
    shown = height / picture.aspect
    down = page.y + (cell - height) / 2

    def place(column: int):
        return page.axes(left + column * (width + GAP) + (width - shown) / 2, down, shown, height)

    if first:
        draw_picture(place(0), picture, width)
    for column, panel in enumerate(painted, start=1):
        if isinstance(panel, str):
            draw_reason(page.axes(left + column * (width + GAP), page.y, width, cell), panel, width)
        else:
            geometry = panel.model.run.geometry(panel.sample_id)
            draw_attention(
                place(column), picture, panel.values[image], norm, panel.weights, geometry, image=image, top_k=top_k
            )


def height_of(picture: Picture, width: float) -> float:
    """Height in inches of a panel of that width: the picture's, within what keeps a row readable."""
    return float(np.clip(width * picture.aspect, 0.55 * width, 1.5 * width))
