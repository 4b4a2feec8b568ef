"""`gapcheck bench`: models over benchmark suites through lmms-eval's definitions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perception_gap.cli import common_options
from perception_gap.cli.model_options import model_options, pop_load
from perception_gap.cli.output import command_line

if TYPE_CHECKING:
    from benchmarks.results import Bench

SHOWN = 10  # disagreements of the two scorers on the terminal; all are in disagreements.csv
_OF_MODELS = ("latents", "system", "batch_size", "gaze", "layers")


@click.command(epilog="Example: gapcheck bench tiny:teacher tiny:student --suite scenes --limit 40 --out runs/bench")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--suite",
    "suites",
    default="scenes",
    show_default=True,
    metavar="paper|scenes|vstar|TASK,..",
    help="Suites, groups and tasks of lmms-eval, comma-separated.",
)
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder with the data sets, instead of the hub.")
@click.option("--limit", type=click.IntRange(min=1), help="First N questions of each task (scenes: 200 by default).")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/bench"), show_default=True)
@click.option("--baseline", metavar="MODEL", help="The model that others are compared with [default: the first].")
@click.option("--gaze", is_flag=True, help="Also read the attention map of every answer.")
@common_options.layers_of_maps
@common_options.latents("Latent tokens of LaViT models.")
@common_options.system
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Instead of each task's own limit.")
@common_options.batch_size
@click.option("--own-resolution", is_flag=True, help="Leave each model its own image size.")
@model_options
@common_options.seed_of_scenes
@click.option("--fresh", is_flag=True, help="Forget the answers of these models.")
@click.option("--strict", is_flag=True, help="Exit 1 if any question failed.")
def command(models: tuple[str, ...], suites: str, strict: bool, **options: Any) -> None:
    """Ask every MODEL the questions of benchmark suites, and compare them on the same samples.

    MODEL is a hub id, a folder, tiny:NAME, or lmms-eval:BACKEND,key=value,.. for any backend of lmms-eval
    (lmms-eval:openai,model_version=gpt-4o). The same command resumes a killed run; under torchrun the questions are
    shared out. Exit status: 0 if any answer is valid, 1 if none (or with --strict if any failed), 2 for wrong usage.
    """
    load = pop_load(options)
    from benchmarks.harness import BenchOptions, bench
    from benchmarks.models import ModelOptions

    of_models = ModelOptions(load=load, **{name: options.pop(name) for name in _OF_MODELS})
    request = BenchOptions(models, tuple(suites.split(",")), model_options=of_models, command=command_line(), **options)
    done = bench(request, say=click.echo)
    sys.exit(0 if done is None else print_results(done, strict=strict))


def print_results(done: Bench, *, strict: bool) -> int:
    """Tables, disagreements, failures; the exit status."""
    from benchmarks.tables import power
    from perception_gap.errors import one_line
    from perception_gap.storage.files import write_text
    from reports import tables
    from reports.sources import open_source

    text = "\n".join([tables.render(tables.build(None, [open_source(done.out)]), "md"), *power(done)]).rstrip()
    click.echo(f"\n{text}\n")
    write_text(done.out / "tables.md", text + "\n")
    if n := len(done.disagreements):
        click.echo(f"{n} answers that lmms-eval and the strict reader judge differently (disagreements.csv):")
        for row in done.disagreements.head(SHOWN).to_dict("records"):
            verdict = "right" if row["correct"] else "wrong"
            answer, reference = one_line(row["answer"], 60), row["references"][0]
            click.echo(f"  {row['task']} {row['sample_id']}: {answer!r} for {reference!r} is {verdict} to lmms-eval")
    for m in done.models:
        for (task, reason), group in m.samples[m.samples["status"] != "ok"].groupby(["task", "error"]):
            click.echo(
                f"{m.name} {task}: {len(group)} failed × {reason} (first: {group['sample_id'].iloc[0]})", err=True
            )
        for (task, reason), group in m.samples[m.samples["lmms_error"].notna()].groupby(["task", "lmms_error"]):
            click.echo(f"{m.name} {task}: {len(group)} unscored × {reason}", err=True)
    total = done.n_valid + done.n_failed
    click.echo(f"bench {done.out}: {done.n_valid} of {total} answers valid, {done.n_failed} failed")
    return 1 if not done.n_valid or (strict and done.n_failed) else 0
