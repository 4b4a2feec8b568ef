"""`gapcheck trace`: record what a teacher says, where it looks and what it holds, for training a student."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perception_gap.cli import common_options
from perception_gap.cli.data_options import SPECS, data_options, pop_reading
from perception_gap.cli.model_options import model_options, pop_load
from perception_gap.cli.output import command_line
from perception_gap.errors import UsageError

if TYPE_CHECKING:
    from lavit.traces.settings import Extraction

_SETTINGS = ("judge", "text_model", "min_focus", "without_boxes", "v_sem", "top_k", "keep_full")
_ASKING = ("layers", "instruction", "system", "max_new_tokens")
_RELEASED = "lavit15k:"
# What counts when released traces are converted.
_CONVERTING = ("teacher", "data", "out", "image_root", "limit", "v_sem", "top_k", "fresh", "strict")
_REASONS = 10  # printed; a data set whose images are gone has one for each


@click.command(epilog="Example: gapcheck trace tiny:teacher --data scenes --limit 240 --out runs/traces")
@click.argument("teacher")
@data_options(
    f"{SPECS}|lavit15k:FILE.json",
    "Questions with boxes; or traces as LaViT's authors release them (lavit15k), which are converted: no model "
    "runs, and TEACHER is a mere label.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Trace directory.")
@click.option(
    "--split", default="train", show_default=True, type=click.Choice(["train", "heldout"]), help="Of drawn scenes."
)
@click.option("--correctness/--no-correctness", default=True, help="Keep what the teacher answers right.")
@click.option("--difficulty/--no-difficulty", default=True, help="Drop what is answered without the image.")
@click.option("--alignment/--no-alignment", default=True, help="Keep where the teacher looks at the boxes.")
@click.option(
    "--judge",
    metavar="CMD",
    help="Program that tells right from wrong: JSON lines {question, reference, answer, options} in, one 1/0, "
    "true/false or yes/no a line out. Default: normalised match, option letter.",
)
@click.option("--text-model", metavar="MODEL", help="Who answers without the image [default: the teacher].")
@click.option(
    "--min-focus",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Least share of the map inside the boxes.",
)
@click.option(
    "--without-boxes",
    default="drop",
    show_default=True,
    type=click.Choice(["drop", "keep"]),
    help="Samples without boxes, which the alignment filter cannot check.",
)
@click.option(
    "--v-sem",
    default="mean",
    show_default=True,
    type=click.Choice(["mean", "gaze"]),
    help="Pooling of the last hidden states: mean (the paper's; the same for every question) or weighted by the map.",
)
@click.option("--top-k", default=8, show_default=True, type=click.IntRange(min=1), help="Image tokens of the target.")
@common_options.layers
@click.option("--keep-full", is_flag=True, help="Also store whole maps and unpooled features (full.safetensors).")
@common_options.instruction
@common_options.system
@common_options.max_new_tokens
@common_options.batch_size
@model_options
@common_options.seed_of_scenes
@click.option("--fresh", is_flag=True, help="Forget what the trace directory holds.")
@common_options.dry_run
@common_options.strict
def command(teacher: str, dry_run: bool, strict: bool, **options: Any) -> None:
    """Record TEACHER's traces of the samples that pass three filters: right, not right blind, looking at the boxes.

    TEACHER is a hub id, a local checkpoint folder, or an embedded model (tiny:teacher). The same command resumes a
    killed one. Exit status: 0 if any trace is kept, 1 if none (or with --strict if any failed), 2 for wrong usage.
    """
    if options["data"].startswith(_RELEASED):
        sys.exit(print_funnel(convert(teacher, options), options["out"], strict=strict))
    from lavit.traces.estimate import estimate
    from lavit.traces.extract import extract
    from perception_gap.cli.analyze import print_estimates
    from perception_gap.runs.parts import claim_run
    from perception_gap.storage.locks import locked

    claim_run(options["out"], "trace.json")
    with locked(options["out"]):
        job = build_extraction(teacher, options)
        if dry_run:
            print_estimates({teacher: estimate(job)})
            return
        sys.exit(print_funnel(extract(job), job.out, strict=strict))


def convert(teacher: str, options: dict[str, Any]) -> dict[str, Any]:
    """Released traces as ours; UsageError for an option that would need the teacher itself."""
    from click.core import ParameterSource

    from lavit.traces.released import convert as convert_released

    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in _CONVERTING and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{parameter.opts[0]}: released traces are converted, no model runs; leave it out")
    return convert_released(
        Path(options["data"].removeprefix(_RELEASED)),
        options["out"],
        teacher=teacher,
        pooling=options["v_sem"],
        command=command_line(),
        **{name: options[name] for name in ("image_root", "top_k", "limit", "fresh")},
    )


def build_extraction(teacher: str, options: dict[str, Any]) -> Extraction:
    """The Extraction of these command-line options; draws scenes, but loads no model."""
    from lavit.traces.blind import check_text_model
    from lavit.traces.settings import Extraction, TraceSettings
    from perception_gap.data import open_data
    from perception_gap.models.loading import require_supported

    filters = tuple(name for name in ("correctness", "difficulty", "alignment") if options.pop(name))
    chosen = {name: options.pop(name) for name in (*_SETTINGS, *_ASKING)}
    settings = TraceSettings(filters=filters, load=pop_load(options), **chosen)
    reading = pop_reading(options)
    # What would stop the work later is said before scenes are drawn and weights are read.
    require_supported(teacher, settings.load.get("revision"), settings.load.get("trust_remote_code", False))
    if settings.text_model:
        check_text_model(settings.text_model, settings.load)
    of_data = {name: options[name] for name in ("limit", "image_root", "seed", "split")}
    dataset = open_data(options["data"], work=options["out"], reading=reading, **of_data)
    how = {name: options[name] for name in ("out", "batch_size", "seed", "fresh")}
    return Extraction(model=teacher, dataset=dataset, settings=settings, command=command_line(), **how)


def print_funnel(info: dict[str, Any], out: Path, *, strict: bool) -> int:
    """The funnel, what failed; the exit status."""
    from lavit.traces.funnel import funnel_table
    from lavit.traces.read import failures

    click.echo(funnel_table(info["funnel"]))
    counts = info["funnel"]["all"]
    if counts["failed"]:
        click.echo(f"{counts['failed']} of {counts['samples']} samples failed:", err=True)
        reasons = sorted(failures(out).items(), key=lambda item: -len(item[1]))
        for reason, ids in reasons[:_REASONS]:
            click.echo(f"  {len(ids)} × {reason} (first: {ids[0]})", err=True)
        if len(reasons) > _REASONS:
            click.echo(f"  and {len(reasons) - _REASONS} other reasons: column error of traces.parquet", err=True)
    for note, n in info.get("notes", {}).items():
        click.echo(f"{n} of the kept: {note}")
    click.echo(f"traces {out}")
    return 1 if not counts["kept"] or (strict and counts["failed"]) else 0
