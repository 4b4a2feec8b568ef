"""One map per answer word: a column a word, a row a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from perception_gap.runs.run import Run
from reports.overlays.captions import heading
from reports.overlays.density import density
from reports.overlays.grid import GAP, Painted, draw_row, height_of
from reports.overlays.models import Model, as_models, sample_of
from reports.overlays.page import MARGIN, Page
from reports.overlays.panel import BAR_ROOM, color_scale, draw_bar, draw_legend
from reports.overlays.picture import Picture, pictures_of, raster_shape
from reports.overlays.text import Line, block_height, wrapped
from reports.style import MUTED, RC, SMALL

SIDE = 0.3  # inches at the left for the models' names
PER_LINE = 7  # words of one line of panels
WIDEST = 1.15  # inches of a panel
LONGEST_BAR = 1.8  # inches


@matplotlib.rc_context(RC)
def word_strips(
    runs: Run | Sequence[Run],
    teacher: Run | None,
    sample_id: str,
    *,
    top_k: int = 3,
    smooth: bool = False,
    most: int = 12,
) -> Figure:
    """The picture, then one map for each word of the text: a row a model, with the word's KL below each student's.

    The words are those of the text that the models share, or, without a teacher, each model's own. Of more than
    `most` those of largest mean KL stay (without KL: of lowest entropy), in their order. One colour scale for the whole
    figure. UsageError as `overlay_figure`.
    """
    models = as_models(runs, teacher)
    page = Page()
    _, sample = sample_of(models, sample_id)
    width = page.width - 2 * MARGIN
    page.y += page.write(MARGIN, page.y, width, heading(sample, width)) + GAP
    draw_words(page, models, sample_id, top_k=top_k, smooth=smooth, most=most)
    draw_legend(page, [], top_k, boxes=len(sample["boxes"]) > 0)
    return page.finish()


class Word(NamedTuple):
    """at: its row in the maps; kl: nats, of each model with a KL by its place in the strip, NaN where undefined."""

    at: int
    text: str
    category: str
    kl: tuple[float, ...]


class Strip(NamedTuple):
    """Words of one text, and the models that are read on it; `left_out`: how many more words the text has."""

    models: Sequence[Model]
    words: list[Word]
    left_out: int


def strips_of(models: Sequence[Model], sample_id: str, most: int) -> list[Strip]:
    """One strip of the shared text for all models, or, where nothing is compared, one of each model's own text."""
    together = any(model.compared for model in models)
    groups = [list(models)] if together else [[model] for model in models]
    return [_strip(group, sample_id, most) for group in groups]


def _strip(models: list[Model], sample_id: str, most: int) -> Strip:
    text = "shared" if any(model.compared for model in models) else "own"
    tables = [_tokens(model, sample_id, "shared" if model.compared else text) for model in models]
    known = next((t for m, t in zip(models, tables, strict=True) if len(t) and (m.compared or text == "own")), None)
    if known is None:
        return Strip(models, [], 0)
    kl = [
        t["kl"].to_numpy(float) if m.compared and len(t) == len(known) else np.full(len(known), np.nan)
        for m, t in zip(models, tables, strict=True)
    ]
    some = np.isfinite(kl)
    rank = np.where(some.any(0), np.where(some, kl, 0).sum(0) / np.maximum(some.sum(0), 1), -np.inf)
    if not some.any():
        rank = -known["entropy"].fillna(np.inf).to_numpy(float)
    kept = np.sort(np.argsort(-rank, kind="stable")[:most])
    words = [
        Word(
            int(i),
            str(known["word"].iloc[i]),
            str(known["category"].iloc[i]),
            tuple(float(of_model[i]) for of_model in kl),
        )
        for i in kept
    ]
    return Strip(models, words, len(known) - len(words))


def _tokens(model: Model, sample_id: str, text: str) -> pd.DataFrame:
    tokens = model.run.words
    return tokens[(tokens["sample_id"] == sample_id) & (tokens["text"] == text)].sort_values("word_index")


def draw_words(
    page: Page, models: Sequence[Model], sample_id: str, *, top_k: int, smooth: bool, most: int = 12
) -> None:
    """The strips of a sample, from page.y downwards."""
    home, sample = sample_of(models, sample_id)
    strips = strips_of(models, sample_id, most)
    if not len(sample["heights"]) or not any(strip.words for strip in strips):
        lines = [Line("undefined: no answer with words", MUTED)]
        page.y += page.write(MARGIN, page.y, page.width - 2 * MARGIN, lines) + GAP
        return
    pictures = pictures_of(home, sample)
    painted = [_painted(strip, sample, len(pictures), smooth) for strip in strips]
    norm = color_scale(
        [panel.values for rows in painted for row in rows for panel in row if isinstance(panel, Painted)]
    )
    for strip, rows in zip(strips, painted, strict=True):
        page.y += page.write(MARGIN, page.y, page.width - 2 * MARGIN, _note(strip)) + 0.04
        n_lines = -(-len(strip.words) // PER_LINE)
        per_line = -(-len(strip.words) // n_lines) if n_lines else 0
        for start in range(0, len(strip.words), max(per_line, 1)):
            part = slice(start, start + per_line)
            _draw_line(page, strip, part, [row[part] for row in rows], pictures, norm, per_line, top_k)


def _painted(strip: Strip, sample: pd.Series, n_images: int, smooth: bool) -> list[list[Painted | str]]:
    """Of each model the density of each word, or why there is none."""
    rows: list[list[Painted | str]] = []
    for model in strip.models:
        maps = model.map(sample, of_words=True)
        if not isinstance(maps, str) and strip.words and strip.words[-1].at >= len(maps):
            maps = "other words in this run"
        if isinstance(maps, str):
            rows.append([maps] * len(strip.words))
            continue
        geometry, shape = model.run.geometry(sample["sample_id"]), raster_shape(sample)
        rows.append(
            [
                Painted(
                    density(maps[w.at], geometry, *shape, n_images, smooth=smooth),
                    maps[w.at],
                    model,
                    sample["sample_id"],
                )
                for w in strip.words
            ]
        )
    return rows


def _note(strip: Strip) -> list[Line]:
    """Whose words these are, and which are left out."""
    compared = any(model.compared for model in strip.models)
    lines = [Line(f"Word by word, {_whose(strip, compared)}", bold=True)]
    if strip.left_out:
        chosen = "largest KL" if compared else "lowest entropy"
        total = len(strip.words) + strip.left_out
        lines.append(Line(f"the {len(strip.words)} words of {chosen}; {strip.left_out} of {total} left out", MUTED))
    return lines


def _whose(strip: Strip, compared: bool) -> str:
    if not compared:
        return f"the answer of {strip.models[0].name}"
    reference = strip.models[-1].run.info["settings"]["text"] == "reference"
    return "the reference, which all models read" if reference else "the teacher's answer, which all models read"


def _draw_line(
    page: Page,
    strip: Strip,
    part: slice,
    rows: list[list[Painted | str]],
    pictures: list[Picture],
    norm: Normalize,
    columns: int,
    top_k: int,
) -> None:
    """One line of panels: titles, then of each model a row of maps for each picture, and KL below."""
    words = strip.words[part]
    left = MARGIN + SIDE
    room = page.width - left - MARGIN - BAR_ROOM
    width = min(WIDEST, (room - columns * GAP) / (columns + 1))
    titles = [
        [*(Line(t, bold=True) for t in wrapped(w.text, width, 1, bold=True)), Line(w.category, MUTED, size=SMALL - 1)]
        for w in words
    ]
    height = max(block_height(title) for title in titles)
    for column, title in enumerate(titles, start=1):
        page.write(left + column * (width + GAP), page.y, width, title, center=True)
    page.y += height + 0.02
    top = page.y
    for m, (model, row) in enumerate(zip(strip.models, rows, strict=True)):
        start = page.y
        for i, picture in enumerate(pictures):
            draw_row(page, left, width, picture, row, norm, image=i, top_k=top_k, first=m == 0)
            page.y += height_of(picture, width) + GAP / 2
        _draw_name(page, model, start, page.y - GAP / 2 - start)
        if model.compared:
            for column, word in enumerate(words, start=1):
                value = "KL " + (f"{word.kl[m]:.2f}" if np.isfinite(word.kl[m]) else "–")
                page.write(left + column * (width + GAP), page.y, width, [Line(value, model.color)], center=True)
            page.y += block_height([Line("")])
        page.y += GAP / 2
    bottom = page.y - GAP - (block_height([Line("")]) if strip.models[-1].compared else 0)
    draw_bar(page, left + (len(words) + 1) * (width + GAP), top, min(bottom - top, LONGEST_BAR), norm)
    page.y += GAP


def _draw_name(page: Page, model: Model, y: float, height: float) -> None:
    """The model's name upwards along its row."""
    ax = page.axes(MARGIN, y, SIDE, height)
    ax.set_axis_off()
    ax.text(
        0.5,
        0.5,
        "\n".join(wrapped(model.name, max(height, 0.8), 2)),
        rotation=90,
        ha="center",
        va="center",
        color=model.color,
        parse_math=False,
        transform=ax.transAxes,
    )
