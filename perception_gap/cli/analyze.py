"""`gapcheck analyze`: measure where a model looks, and how far that is from its teacher."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from perception_gap.cli.data_options import data_options, pop_reading
from perception_gap.cli.deeper_options import deeper_options, pop_deeper
from perception_gap.cli.model_options import model_options, pop_load
from perception_gap.cli.output import command_line


@click.command(
    epilog="Example: gapcheck analyze tiny:student --teacher tiny:teacher --data scenes --limit 120 --out runs/first"
)
@click.argument("model")
@click.option("--teacher", metavar="MODEL|RUN", help="Teacher model, or the directory of its finished run.")
@data_options()
@click.option("--out", type=click.Path(path_type=Path), help="Run directory [default: runs/MODEL-vs-TEACHER-DATA].")
@click.option("--layers", default="all", show_default=True, help="all, lastN, or comma-separated indices.")
@click.option(
    "--rows", default="answer", show_default=True,
    type=click.Choice(["question", "answer", "latent", "response"]), help="Whose attention is the map.",
)  # fmt: skip
@click.option(
    "--text", default="teacher", show_default=True, type=click.Choice(["teacher", "reference"]),
    help="The one text on which both models are compared: the teacher's answer or the reference.",
)  # fmt: skip
@click.option(
    "--latents", default="force", show_default=True,
    type=click.Choice(["force", "none", "mask", "template", "blind"]),
    help="Latent tokens of a LaViT model: inserted, left out, hidden from the answer; the controls: as many template "
    "tokens hidden instead, or image and latents hidden.",
)  # fmt: skip
@click.option("--instruction", default="", help="A line after every question, e.g. 'Answer in one word.'")
@click.option("--system", help="System prompt.")
@click.option("--max-new-tokens", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1))
@model_options
@click.option(
    "--raster", metavar="ROWSxCOLS",
    help="Frame of everything that is compared.  [default: the token grid where all are equal, else 16x16]",
)  # fmt: skip
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of drawn scenes, floors and tests."
)
@deeper_options
@click.option("--fresh", is_flag=True, help="Forget what the run directory holds.")
@click.option("--dry-run", is_flag=True, help="Run one batch; print bytes, peak memory and hours for the whole.")
@click.option("--strict", is_flag=True, help="Exit 1 if any sample failed.")
@click.option("--figures/--no-figures", default=True, show_default=True)
def command(model: str, teacher: str | None, dry_run: bool, strict: bool, figures: bool, **options) -> None:
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
        print_estimate(estimate(request, opener=opener))
        return
    with writing(request.folder()):
        if (request.folder() / "figures").is_dir():
            from reports.figures import forget_figures

            forget_figures(request.folder() / "figures")  # an unfinished run must not show older ones
        run = analyze(request, say=click.echo, opener=opener)
        sys.exit(show(run, strict=strict, figures=figures))


def build_request(model: str, teacher: str | None, options: dict):
    """The AnalyzeOptions of these command-line options."""
    from perception_gap.measure.analyze import AnalyzeOptions
    from perception_gap.measure.settings import Settings

    names = ("rows", "layers", "text", "max_new_tokens", "instruction", "system", "latents")
    chosen = {name: options.pop(name) for name in names}
    settings = Settings(load=pop_load(options), **pop_deeper(options), **chosen)
    asked = options.pop("raster")
    raster = None if asked is None else parse_raster(asked)
    return AnalyzeOptions(
        model=model,
        teacher=teacher,
        reading=pop_reading(options),
        settings=settings,
        raster=raster,
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


def print_estimate(found: dict) -> None:
    for model, estimate in found.items():
        click.echo(model)
        for name, value in estimate.items():
            if "bytes" in name:
                click.echo(f"  {name:28} {value / 2**20:,.1f} MiB")
            else:
                click.echo(f"  {name:28} {value:,.4g}" if isinstance(value, float) else f"  {name:28} {value:,}")


def show(run, *, strict: bool, figures: bool) -> int:
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


def say_failed(run, name: str = "") -> int:
    """How many samples of the run failed; said on stderr by reason, of the model `name` where there are several."""
    failed = run.samples[run.samples["status"] != "ok"]
    if len(failed):
        which = f"{name}: " if name else ""
        click.echo(f"{which}{len(failed)} of {len(run.samples)} samples failed:", err=True)
        for reason, group in failed.groupby("error"):
            click.echo(f"  {len(group)} × {reason} (first: {group['sample_id'].iloc[0]})", err=True)
    return len(failed)
