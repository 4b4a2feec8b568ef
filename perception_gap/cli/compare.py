"""`gapcheck compare`: models that were never trained together, on the same pictures, questions and text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perception_gap.cli import common_options
from perception_gap.cli.analyze import parse_raster, say_failed
from perception_gap.cli.data_options import data_options, pop_reading
from perception_gap.cli.deeper_options import deeper_options, pop_deeper
from perception_gap.cli.model_options import model_options, pop_load
from perception_gap.cli.output import command_line

if TYPE_CHECKING:
    from perception_gap.compare.run import FinishedComparison


@click.command(
    epilog="Example: gapcheck compare tiny:teacher tiny:student tiny:lavit --limit 120 --knockout --out runs/compare"
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--teacher",
    metavar="MODEL|RUN",
    help="Whose answers all are read on, a model or its finished run [default: each sample's reference answer].",
)
@data_options()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/compare"), show_default=True)
@click.option(
    "--pixels",
    default="same",
    show_default=True,
    metavar="same|own|N",
    help="Most pixels of a picture: what every model can take, each its own, or N (width × height).",
)
@common_options.layers_of_maps
@common_options.instruction
@common_options.system
@common_options.max_new_tokens
@common_options.batch_size
@deeper_options
@model_options
@common_options.raster("On which maps are compared.", default="16x16")
@common_options.seed
@click.option("--fresh", is_flag=True, help="Forget what the models' run directories hold.")
@common_options.strict
@click.option("--page/--no-page", default=True, show_default=True, help="Figures, overlays and one page at the end.")
def command(models: tuple[str, ...], strict: bool, page: bool, **options: Any) -> None:
    """Compare where MODELs look, on the same pictures, questions and text, each with its own tokenizer and grid.

    MODEL is a hub id, a local checkpoint folder, or an embedded model (tiny:teacher). Maps meet on a common raster and
    word by word. The same command resumes a killed one, and takes in another MODEL without asking
    the rest again (unless it sees less than they do: then the budget falls for all, or give --pixels N). Exit
    status: 0 if all models were measured, 1 if one failed (or with --strict any sample), 2 for wrong usage.
    """
    load = pop_load(options)
    for name in ("min_pixels", "max_pixels"):
        if name in load:
            raise click.UsageError(f"--{name.replace('_', '-')}: means nothing to some families; --pixels is for all")
    raster = parse_raster(options.pop("raster"))
    from lavit.checkpoint import opener
    from perception_gap.compare.run import CompareOptions, compare_models
    from perception_gap.measure.settings import Settings

    settings = Settings(
        load=load,
        **pop_deeper(options),
        **{k: options.pop(k) for k in ("layers", "instruction", "system", "max_new_tokens")},
    )
    request = CompareOptions(
        models,
        reading=pop_reading(options),
        settings=settings,
        raster=raster,
        command=command_line(),
        **options,
    )
    done = compare_models(request, say=click.echo, opener=opener)
    sys.exit(print_comparison(done, strict=strict, page=page))


def print_comparison(done: FinishedComparison, *, strict: bool, page: bool) -> int:
    """Leaderboard, pairs, what was found, what failed, files; the exit status."""
    from reports.compared import CompareRun, open_comparison
    from reports.comparison import terminal_text
    from reports.comparison_files import write_files

    comparison = open_comparison(done.path)
    assert isinstance(comparison, CompareRun)  # it has come to its end
    click.echo(terminal_text(comparison))
    failed = {name: say_failed(run, name) for name, run in comparison.members.items()}
    void = [name for name, run in comparison.members.items() if failed[name] == len(run.samples)]
    for name, reason in done.failed.items():
        click.echo(f"{name} was not measured: {' '.join(reason.split())}", err=True)
    if page and len(void) < len(comparison.members):
        paths, written = write_files(comparison, command_line())
        for notice in written.notices:
            click.echo(f"note: {notice}", err=True)
        for path in paths:
            click.echo(f"{'figure' if path.parent != done.path else 'file'} {path}")
        click.echo(
            f"page: {written.samples:,} of {written.of:,} samples, {written.path.stat().st_size / 2**20:.1f} MiB"
        )
        click.echo(f"Open {written.path.resolve().as_uri()}")
    click.echo(f"compare {done.path}")
    return 1 if done.failed or void or (strict and any(failed.values())) else 0
