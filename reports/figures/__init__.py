"""The figures of runs, benchmarks, matrices and trainings, each with its title and what it shows in words.

Every panel states its n; what is undefined says so in words. Intervals are 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from perception_gap.errors import DamagedError
from perception_gap.runs.run import Run
from reports.figures import (
    ablation,
    agreement,
    distributions,
    divergence,
    focus,
    gap,
    knockout,
    layers,
    leaderboard,
    pairs,
    training,
)
from reports.figures.models import Group, NamedFigure, by_teacher, of_bench, of_runs
from reports.overlays import overlay_figure
from reports.sources import BenchRun, CompareRun, Matrix, Source, Training, with_members
from reports.style import Look, save

__all__ = ["NAMES", "NamedFigure", "figures_of", "forget_figures", "kind_of", "write_figures"]

NAMES = (
    "leaderboard",
    "pairs",
    "agreement",
    "focus_accuracy",
    "divergence_by_category",
    "entropy",
    "salient_regions",
    "knockout",
    "layers",
    "training",
    "ablation",
    "gap_accuracy",
)
OVERLAYS = "overlays"


def figures_of(sources: Sequence[Source]) -> list[NamedFigure]:
    """All that these sources allow, in the order of NAMES, without overlays; nothing raises for what is absent.

    Runs stand together in one figure, but for the gap, whose correlation needs one data set and one teacher; each
    benchmark and each matrix has its own. Where a name would stand twice, the source's folder is behind it: `entropy`,
    `entropy-bench-proof`. An Unfinished has none.
    """
    sources = with_members(sources)
    looks: dict[str, Look] = {}
    parts: list[tuple[str, list[NamedFigure]]] = []
    runs = [source for source in sources if isinstance(source, Run)]
    if runs:
        group = of_runs(runs)
        looks |= {model.label: model.look for model in group.models}
        parts.append(("runs", _of_models(group)))
        parts += [(folder, gap.of_models(part)) for folder, part in by_teacher(runs, group)]
    loose = [source for source in sources if isinstance(source, Training)]
    if loose:
        parts.append(("trainings", [training.curves(loose)]))
    for source in sources:
        if isinstance(source, BenchRun):
            parts.append((source.path.resolve().name, _of_models(group := of_bench(source, looks))))
            looks |= {model.label: model.look for model in group.models}
        elif isinstance(source, CompareRun):
            drawn = [*leaderboard.of_comparison(source, looks), *pairs.of_comparison(source)]
            parts.append((source.path.resolve().name, [*drawn, *agreement.of_comparison(source)]))
        elif isinstance(source, Matrix):
            trainings = source.trainings()
            curves = [training.curves(trainings, list(source.results["preset"]))] if trainings else []
            parts.append((source.path.resolve().name, [*curves, *ablation.of_matrix(source), *gap.of_matrix(source)]))
    return _named_once(parts)


def _of_models(group: Group) -> list[NamedFigure]:
    """Those that rest on samples; without a valid row they say so."""
    makers: tuple[Callable[[Group], list[NamedFigure]], ...] = (
        focus.of_models,
        divergence.of_models,
        distributions.entropy,
        distributions.salient_regions,
        knockout.of_models,
        layers.of_models,
    )
    return [figure for maker in makers for figure in maker(group)]


def _named_once(parts: Sequence[tuple[str, list[NamedFigure]]]) -> list[NamedFigure]:
    named: list[NamedFigure] = []
    for name in NAMES:
        for folder, figures in parts:
            for figure in figures:
                if figure.name != name:
                    continue
                taken = {other.name for other in named}
                stem, i = (name if name not in taken else f"{name}-{folder}"), 2
                while stem in taken:
                    stem, i = f"{name}-{folder}-{i}", i + 1
                title = figure.title if stem == name else f"{figure.title} ({folder})"
                named.append(figure._replace(name=stem, title=title))
    return named


def kind_of(figure: NamedFigure) -> str:
    """Which of NAMES a figure is, whatever folder its name has behind it."""
    return figure.name.split("-", 1)[0]


def forget_figures(folder: Path) -> None:
    """Removes what `write_figures` makes there, and nothing else."""
    for name in (*NAMES, OVERLAYS):
        for kind in ("png", "pdf"):
            (folder / f"{name}.{kind}").unlink(missing_ok=True)


def write_figures(run: Run) -> list[Path]:
    """Write the run's figures and its overlays into `run.path / "figures"`, PNG and PDF; [] when no row is valid."""
    if not (run.samples["status"] == "ok").any():
        return []
    try:
        teacher = run.teacher()
    except DamagedError:  # its folder is gone; the figures say so
        teacher = None
    figures = {drawn.name: drawn.figure for drawn in figures_of([run])} | {OVERLAYS: overlay_figure(run, teacher)}
    return [path for name, figure in figures.items() for path in save(figure, run.path / "figures", name)]
