"""The table or figure of a plan whose steps are done, and the page about it: what was run, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
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

    wanted, recipe = plan.wanted, plan.wanted.recipe
    # The model that ours are compared with; a table of maps has no such rows.
    baseline = None if recipe.gaze else plan.names[recipe.baseline or next(iter(plan.names))]
    tables = build(recipe.show, sources, rows=rows_of(plan, sources), baseline=baseline)
    texts = {wanted.out / f"{wanted.target}.{suffix}": render(tables, layout) for suffix, layout in LAYOUTS.items()}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts), next(iter(texts.values()))


def rows_of(plan: Plan, sources: Sequence[Any]) -> dict[str, str]:
    """Label of a measured model -> its published row."""
    models = [model for source in sources for model in source.models]
    masked = {model.label for model in models if model.info["asked"]["latents"] == "mask"}
    return {model.label: MASKED_ROW if model.label in masked else plan.rows[model.name] for model in models}


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
    figures = {figure.name: figure for figure in figures_of(sources[-1:])}
    if name not in figures:
        raise GapcheckError(f"{wanted.target}: these runs allow no figure {name}, only {', '.join(figures) or 'none'}")
    return save(figures[name].figure, wanted.out, wanted.target), figures[name].alt


def page(plan: Plan, again: str, finding: str, files: Sequence[Path]) -> str:
    """Markdown. again: the command that makes all of it; files: the table or figure."""
    from perception_gap.runs.key import versions

    wanted = plan.wanted
    lines = "\n".join(step.line for step in plan.steps)
    used = versions() | {name: version(name) for name in ("lmms-eval", "datasets")}
    notes = "".join(f"- {note}\n" for note in plan.notes)
    models = "\n".join(f"| {plan.rows[model]} | `{model}` |" for model in plan.names.values())
    about = "Each folder's run.json or train.json has revisions, settings and data hashes."
    if wanted.tiny:
        trained = "trained anew" if wanted.retrain else "their embedded weights (perception_gap/tiny/weights)"
        about = f"Tiny models of a million parameters on drawn scenes, {trained}: no figure here is "
        about += "one of the paper's models."
    return f"""# {wanted.target}: {wanted.recipe.title}

{finding}

Of LaViT (arXiv 2601.10129). {", ".join(f"[{file.name}]({file.name})" for file in files)}. {about}

{notes}
| in the paper | here |
|---|---|
{models}

`{again}` did:

```console
{lines}
```

Versions: {", ".join(f"{name} {number}" for name, number in used.items())}.
"""
