"""`gapcheck figures`: the figures of finished runs, benchmarks, matrices and trainings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from perception_gap.cli.output import FIGURE, OutFolder, check_writable
from perception_gap.errors import DamagedError, GapcheckError, UsageError


@click.command(epilog="Example: gapcheck figures runs/student runs/lavit --only entropy,gap_accuracy --format pdf")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=OutFolder(path_type=Path, file_okay=False),
    help="Folder for the files [default: RUN/figures, of several RUNs runs/figures].",
)
@click.option("--only", metavar="NAME,..", help="These figures only, e.g. focus_accuracy,entropy.")
@click.option("--format", "formats", default="png,pdf", show_default=True, metavar="png,pdf,svg", help="File formats.")
def command(runs: tuple[Path, ...], out: Path | None, only: str | None, formats: str) -> None:
    """Write every figure that the RUNs allow: --out folders of analyze, compare, bench, ablate and train.

    Runs of analyze stand together in one figure, beside their teacher; a benchmark and a matrix each have their own.
    """
    from reports.figures import NAMES, figures_of, kind_of
    from reports.sources import open_sources
    from reports.style import FORMATS, save

    wanted = chosen("--only", only, NAMES) if only is not None else NAMES
    kinds = chosen("--format", formats, FORMATS)
    sources = open_sources(runs)
    for line in absent(sources):
        click.echo(f"note: {line}", err=True)
    figures = [figure for figure in figures_of(sources) if kind_of(figure) in wanted]
    if not figures:
        raise GapcheckError(f"{', '.join(map(str, runs))}: allow none of the figures {', '.join(wanted)}")
    folder = out or (runs[0] / "figures" if len(sources) == 1 else Path("runs") / "figures")
    for figure in figures:
        for kind in kinds:
            check_writable(folder / f"{figure.name}.{kind}", ours=FIGURE)
    # All are written before the first is named: a reader that leaves (`| head`) takes none away.
    for path in [path for figure in figures for path in save(figure.figure, folder, figure.name, kinds)]:
        click.echo(f"figure {path}")


def absent(sources: Sequence[Any]) -> Iterator[str]:
    """What is not in the figures though it was given: unfinished parts, teachers that are not where they were."""
    from perception_gap.runs.run import Run
    from reports.compared import CompareRun
    from reports.sources import BenchRun, Unfinished

    for source in sources:
        if isinstance(source, Unfinished):
            yield source.words
        elif isinstance(source, CompareRun):
            yield from source.absent
        elif isinstance(source, BenchRun) and source.missing:
            yield f"{source.path}: unfinished, not summarised yet: {', '.join(source.missing)}"
        elif isinstance(source, Run):
            try:
                source.teacher()
            except DamagedError as error:
                yield f"{error}; the figures are without it"


def chosen(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The comma-separated names in the order of `known`; UsageError names one that is not known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"{option} {unknown[0]!r}: expected some of {','.join(known)}")
    if not names:
        raise UsageError(f"{option} {text!r}: names nothing; expected some of {','.join(known)}")
    return tuple(name for name in known if name in names)
