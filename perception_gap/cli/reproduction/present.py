"""The table or figure of a plan whose steps are done, and a page that says how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perception_gap.cli.reproduction.plan import Plan

LAYOUTS = {"md": "md", "tex": "latex", "csv": "csv", "html": "html"}  # file suffix -> layout
MASKED_ROW = "LaViT 3B, w/o Latent Tokens"
OVERLAYS = 6  # samples


def present(plan: Plan) -> tuple[list[Path], str]:
    """Writes OUT/TARGET.{md,tex,csv,html} or OUT/TARGET.{png,pdf}; the files, and a table's text or a figure's alt."""
    from reports.sources import open_sources

    sources = open_sources(plan.sources)
    return tables_of(plan, sources) if plan.wanted.recipe.is_table else figure_of(plan, sources)


def tables_of(plan: Plan, sources: Sequence[Any]) -> tuple[list[Path], str]:
    from perception_gap.storage.files import write_text
    from reports.tables import build, render

    wanted = plan.wanted
    tables = build(wanted.recipe.show, sources, rows=rows_of(plan, sources), baseline=baseline_of(plan))
    texts = {suffix: render(tables, layout) for suffix, layout in LAYOUTS.items()}
    files = []
    for suffix, text in texts.items():
        files.append(wanted.out / f"{wanted.target}.{suffix}")
        write_text(files[-1], text)
    return files, texts["md"]


def baseline_of(plan: Plan) -> str | None:
    """The model that ours are compared with in the table; None where the table has no such rows."""
    recipe = plan.wanted.recipe
    return None if recipe.gaze else plan.names[recipe.baseline or next(iter(plan.names))]


def rows_of(plan: Plan, sources: Sequence[Any]) -> dict[str, str]:
    """Label of a measured model -> its published row."""
    found = {}
    for source in sources:
        for model in source.models:
            masked = model.info["asked"]["latents"] == "mask"
            found[model.label] = MASKED_ROW if masked else plan.rows[model.name]
    return found


def figure_of(plan: Plan, sources: Sequence[Any]) -> tuple[list[Path], str]:
    from perception_gap.errors import GapcheckError
    from reports.figures import figures_of
    from reports.overlays import overlay_figure
    from reports.style import save

    wanted, name = plan.wanted, plan.wanted.recipe.show
    if name == "overlays":
        teacher, *students = sources
        figure = overlay_figure(students, teacher, OVERLAYS)
        text = f"{OVERLAYS} samples of largest divergence: picture, and where {', '.join(plan.names)} look"
        return save(figure, wanted.out, wanted.target), text
    # A student's run brings its teacher's.
    made = {one.name: one for one in figures_of(sources[-1:])}
    if name not in made:
        raise GapcheckError(f"{wanted.target}: these runs allow no figure {name}, only {', '.join(made) or 'none'}")
    return save(made[name].figure, wanted.out, wanted.target), made[name].alt
