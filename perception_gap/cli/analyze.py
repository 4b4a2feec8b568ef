"""`gapcheck analyze`: measure where a model looks, and how far that is from its teacher."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perception_gap.cli import common_options
from perception_gap.cli.data_options import data_options, pop_reading
from perception_gap.cli.deeper_options import deeper_options, pop_deeper
from perception_gap.cli.model_options import model_options, pop_load
from perception_gap.cli.output import command_line

if TYPE_CHECKING:
    from perception_gap.measure.analyze import AnalyzeOptions
    from perception_gap.runs.run import Run


@click.command(
    epilog="Example: gapcheck analyze tiny:student --teacher tiny:teacher --data scenes --limit 120 --out runs/first"
)
@click.argument("model")
@click.option("--teacher", metavar="MODEL|RUN", help="Teacher model, or the directory of its finished run.")
@data_options()
@click.option("--out", type=click.Path(path_type=Path), help="Run directory [default: runs/MODEL-vs-TEACHER-DATA].")
@common_options.layers
@common_options.rows
@click.option(
    "--text",
    default="teacher",
    show_default=True,
    type=click.Choice(["teacher", "reference"]),
    help="The one text on which both models are compared: the teacher's answer or the reference.",
)
@common_options.latents(
    "Latent tokens of a LaViT model: inserted, left out, hidden from the answer; the controls: as many template "
    "tokens hidden instead, or image and latents hidden."
)
@common_options.instruction
@common_options.system
@common_options.max_new_tokens
@common_options.batch_size
@model_options
@common_options.raster(
    "Frame of everything that is compared.  [default: the token grid where all are equal, else 16x16]"
)
@common_options.seed
@deeper_options
@click.option("--fresh", is_flag=True, help="Forget what the run directory holds.")
@common_options.dry_run
@common_options.strict
@click.option("--figures/--no-figures", default=True, show_default=True)
def command(model: str, teacher: str | None, dry_run: bool, strict: bool, figures: bool, **options: Any) -> None:
    """Measure where MODEL looks: answers, attention maps, focus, and divergence from a teacher.

    MODEL is a hub id, a local checkpoint folder, or an embedded model (tiny:teacher, tiny:student). The same command
    resumes a killed run. Exit status: 0 if any sample is valid, 1 if none (or with --strict if any failed), 2 for
    wrong usage.
    """
    latents, revision = options["latents"], options["revision"]
    request = build_request(model, teacher, options)
    from lavit.checkpoint import facts_of, has_latents, opener
    from perception_gap.measure.analyze import analyze
    from perception_gap.measure.estimate import estimate
    from perception_gap.runs.engine import writing

    if latents != "force" and not has_latents(facts_of(model, revision)):
        raise click.UsageError(f"--latents {latents}: {model} has no latent tokens; leave it out")
    if dry_run:
        print_estimates(estimate(request, opener=opener))
        return
    with writing(request.folder()):
        if (request.folder() / "figures").is_dir():
            from reports.figures import forget_figures

            forget_figures(request.folder() / "figures")  # an unfinished run must not show older ones
        run = analyze(request, say=click.echo, opener=opener)
        sys.exit(print_summary(run, strict=strict, figures=figures))


def build_request(model: str, teacher: str | None, options: dict[str, Any]) -> AnalyzeOptions:
    """The AnalyzeOptions of these command-line options."""
    from perception_gap.measure.analyze import AnalyzeOptions
    from perception_gap.measure.settings import Settings

    names = ("rows", "layers", "text", "max_new_tokens", "instruction", "system", "latents")
    chosen = {name: options.pop(name) for name in names}
    settings = Settings(load=pop_load(options), **pop_deeper(options), **chosen)
    raster = options.pop("raster")
    return AnalyzeOptions(
        model=model,
        teacher=teacher,
        reading=pop_reading(options),
        settings=settings,
        raster=None if raster is None else parse_raster(raster),
        command=command_line(),
        **options,
    )


def parse_raster(text: str) -> tuple[int, int]:
    try:
        rows, cols = (int(part) for part in text.lower().split("x"))
        if not (1 <= rows <= 256 and 1 <= cols <= 256):
            raise ValueError
    except ValueError:
        raise click.UsageError(f"--raster {text!r}: expected ROWSxCOLS, each 1 to 256, for example 16x16") from None
    return rows, cols


def print_estimates(by_model: Mapping[str, Mapping[str, Any]]) -> None:
    """What `--dry-run` found of each model."""
    for model, estimate in by_model.items():
        click.echo(model)
        for name, value in estimate.items():
            if "bytes" in name:
                click.echo(f"  {name:28} {value / 2**20:,.1f} MiB")
            else:
                click.echo(f"  {name:28} {value:,.4g}" if isinstance(value, float) else f"  {name:28} {value:,}")


def print_summary(run: Run, *, strict: bool, figures: bool) -> int:
    """Table, figures, what failed; the exit status."""
    from reports.summary import summary_table

    click.echo(summary_table(run))
    failed = say_failed(run)
    if figures and failed < len(run.samples):
        from reports.figures import write_figures

        for path in write_figures(run):
            click.echo(f"figure {path}")
    click.echo(f"run {run.path}")
    return 1 if failed == len(run.samples) or (strict and failed) else 0


def say_failed(run: Run, name: str = "") -> int:
    """How many samples of the run failed; said on stderr by reason, of the model `name` where there are several."""
    failed = run.samples[run.samples["status"] != "ok"]
    if len(failed):
        which = f"{name}: " if name else ""
        click.echo(f"{which}{len(failed)} of {len(run.samples)} samples failed:", err=True)
        for reason, group in failed.groupby("error"):
            click.echo(f"  {len(group)} × {reason} (first: {group['sample_id'].iloc[0]})", err=True)
    return len(failed)
