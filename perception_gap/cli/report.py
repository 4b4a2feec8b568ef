"""`gapcheck report`: one page that says what was found and lets one look at every sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perception_gap.cli.output import PAGE, check_writable, command_line

if TYPE_CHECKING:
    from perception_gap.runs.run import Run
    from reports.sources import Unfinished


@click.command(epilog="Example: gapcheck report runs/student runs/lavit runs/bench --out runs/report.html")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/report.html"), show_default=True)
@click.option("--title", default="gapcheck report", show_default=True)
@click.option(
    "--samples",
    default="500",
    show_default=True,
    metavar="N|all",
    help="Samples of each data set in the browser, the most telling first; those behind the first 500 lie in script "
    "files beside the page.",
)
@click.option(
    "--thumbnail", default=320, show_default=True, type=click.IntRange(32, 2048), help="Long side of the pictures."
)
@click.option(
    "--image-root",
    "image_roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder whose pictures may be shown beside those in the RUNs and in the data of your own; may be repeated.",
)
def command(
    runs: tuple[Path, ...], out: Path, title: str, samples: str, thumbnail: int, image_roots: tuple[Path, ...]
) -> None:
    """Write a page about RUN..., directories of analyze, compare, bench, ablate or train; no model is loaded.

    Runs of one data set and one teacher stand side by side, in the order given; the headline is about the last of them,
    beside the first. One file, opened from disk, no network. An unfinished analysis is shown with the samples it has.
    Pictures are read below the RUNs, below --image-root and, of analyses made by you on this machine, in the folder of
    their data; one that is not the measured one any more is left out.
    """
    path = write(runs, out, title=title, samples=parse_samples(samples), side=thumbnail, image_roots=image_roots)
    click.echo(f"report {path}")


def parse_samples(text: str) -> int | None:
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise click.UsageError(f"--samples {text!r}: expected a number of samples, or all")
    return int(text)


def write(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str,
    samples: int | None = 500,
    side: int = 320,
    image_roots: Sequence[Path] = (),
) -> Path:
    """The page of these run directories; says what was found, what a reader must know, and the page's size."""
    import tempfile

    from reports.page import write_page
    from reports.sources import Unfinished, open_sources

    check_writable(out, (".html", ".htm"), ours=PAGE)
    sources = open_sources(runs, image_roots)
    named = (*runs, *image_roots)
    with tempfile.TemporaryDirectory() as work:
        whole = [
            run_so_far(source, Path(work) / str(i), named) if isinstance(source, Unfinished) else source
            for i, source in enumerate(sources)
        ]
        unfinished = [s for s in sources if isinstance(s, Unfinished)]
        shown = [*(s for s in whole if s is not None), *unfinished]
        page = write_page(shown, out, title=title, samples=samples, side=side, command=command_line())
    for line in page.notices:
        click.echo(f"note: {line}", err=True)
    for answer in page.answers:
        click.echo(f"{answer.question} {answer.verdict}: {answer.reason}")
    size = page.path.stat().st_size / 2**20
    beside = f", {len(page.chunks)} files beside it" if page.chunks else ""
    click.echo(f"page: {page.samples:,} of {page.of:,} samples, {size:.1f} MiB{beside}")
    return page.path


def run_so_far(unfinished: Unfinished, work: Path, named: Sequence[Path]) -> Run | None:
    """The Run of the samples that an unfinished analysis has so far; None if it has none."""
    from perception_gap.measure.finish import so_far

    return so_far(unfinished.path, work, named) if unfinished.stored else None
