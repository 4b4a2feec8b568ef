"""Everything about one sample on one page: the maps side by side, and below them word by word."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from perception_gap.runs.run import Run
from reports.overlays.captions import explained
from reports.overlays.grid import GAP, draw_sample, draw_titles, layout_of
from reports.overlays.models import as_models, sample_of
from reports.overlays.page import Page
from reports.overlays.panel import draw_legend
from reports.overlays.words import draw_words
from reports.style import RC


@matplotlib.rc_context(RC)
def sample_sheet(
    runs: Run | Sequence[Run],
    teacher: Run | None,
    sample_id: str,
    *,
    words: bool = True,
    top_k: int = 8,
    top_k_words: int = 3,
    smooth: bool = False,
) -> Figure:
    """A row of `overlay_figure`, the models under their names, and (`words`) the strips of `word_strips`.

    The strips have one colour scale of their own. UsageError as `overlay_figure`.
    """
    models = as_models(runs, teacher, named=True)
    _, sample = sample_of(models, sample_id)
    page = Page()
    layout = layout_of(page, len(models), len(sample["images"]) > 1)
    draw_titles(page, layout, models)
    draw_sample(page, layout, models, sample_id, top_k=top_k, smooth=smooth)
    if words:
        draw_words(page, models, sample_id, top_k=min(top_k, top_k_words), smooth=smooth)
    page.y += GAP / 2
    tokens = f"{top_k} strongest tokens" + (f" (words: {min(top_k, top_k_words)})" if words and top_k else "")
    notes = explained(models, [sample], "one scale for the words, one for the row above" if words else "one scale")
    draw_legend(page, notes, top_k, boxes=len(sample["boxes"]) > 0, tokens=tokens)
    return page.finish()
