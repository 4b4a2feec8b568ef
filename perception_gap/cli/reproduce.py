"""`gapcheck reproduce`: a table or figure of the paper, start to finish."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

import click

from perception_gap.cli.extras import require
from perception_gap.cli.reproduction.plan import HUB, PIXELS, Plan, Wanted
from perception_gap.cli.reproduction.recipes import TARGETS
from perception_gap.errors import UsageError
from perception_gap.storage.redaction import public_command

NAMED = ("teacher", "middle", "student", "sft", "lavit")
REAL = (*NAMED, "traces", "data_root", "viscot", "image_root", "instruction", "min_pixels", "max_pixels")
PATH = click.Path(path_type=Path)


@click.command(epilog="Example: gapcheck reproduce table2 --tiny")
@click.argument("target", metavar="|".join(TARGETS))
@click.option(
    "--tiny", is_flag=True, help="On the embedded models and drawn scenes: no download, minutes on two cores."
)
@click.option("--retrain", is_flag=True, help="With --tiny: train anew instead of taking the embedded weights.")
@click.option("--dry-run", is_flag=True, help="Print the commands and what they need; run nothing.")
@click.option("--out", type=PATH, help="Folder [default: runs/reproduce/TARGET[-tiny]]; several targets may share one.")
@click.option("--teacher", metavar="MODEL", help=f"[default: {HUB['teacher']}]")
@click.option("--middle", metavar="MODEL", help=f"The 7B of table 1. [default: {HUB['middle']}]")
@click.option("--student", metavar="MODEL", help=f"[default: {HUB['student']}]")
@click.option("--sft", metavar="MODEL", help="Naive SFT of the student [default: is trained].")
@click.option("--lavit", metavar="MODEL", help="LaViT of the student [default: is trained].")
@click.option("--traces", type=PATH, help="The teacher's traces (gapcheck trace) [default: are made].")
@click.option("--data-root", type=PATH, help="Folder with the benchmarks' data sets, instead of the hub.")
@click.option("--viscot", type=PATH, help="Visual-CoT's JSON, for traces and figures [default: viscot_363k.json].")
@click.option("--image-root", type=PATH, help="Folder of its pictures [default: images].")
@click.option("--instruction", help="A line after every question of it. [default: Answer in a few words.]")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Measure on the first N (bench: N a task; figures: 1,000, tiny 480)."
)
@click.option("--trace-limit", type=click.IntRange(min=1), help="Trace the first N samples [default: all].")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting of every training.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Of measuring and tracing.")
@click.option(
    "--min-pixels", type=click.IntRange(min=1), help=f"Of every image [default: {PIXELS['min-pixels']}, table A1]."
)
@click.option(
    "--max-pixels", type=click.IntRange(min=1), help=f"Of every image [default: {PIXELS['max-pixels']}, table A1]."
)
@click.option("--device", help="auto, cpu, cuda, mps.")
@click.option("--device-map", help="accelerate's device map for measuring and tracing, e.g. auto.")
@click.option("--dtype", help="Of measuring and tracing.")
@click.option("--quantization", type=click.Choice(["4bit", "8bit"]), help="Of measuring and tracing.")
def command(target: str, dry_run: bool, **options: Any) -> None:
    """Make a table or figure of the paper (LaViT, arXiv 2601.10129): trace, train, measure, show.

    Without --tiny: Qwen2.5-VL 3B, 7B, 32B and LaViT 3B, with what data, memory and hours they need in --dry-run. The
    same command resumes. OUT/TARGET.md (tex, csv, html) or OUT/TARGET.png (pdf), and OUT/REPRODUCTION-TARGET.md.
    Exit status: that of the first step that fails.
    """
    plan = Plan(wanted_of(target, options))
    from perception_gap.cli.reproduction import run

    again = public_command([part for part in sys.argv[1:] if part != "--dry-run"])
    if dry_run:
        click.echo("\n".join(run.printed(plan, again)))
        return
    if any(step.command == "bench" for step in plan.steps):
        require(f"reproduce {target}", "bench")
    run.refuse_early(plan)
    if status := run.run_steps(plan, say=click.echo):
        sys.exit(status)
    print_reproduction(plan, again)


def wanted_of(target: str, options: dict[str, Any]) -> Wanted:
    """The options as a plan needs them; UsageError for what does not go together."""
    if target not in TARGETS:
        near = difflib.get_close_matches(target, TARGETS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(TARGETS)}"
        raise UsageError(f"unknown target {target!r}: {hint}")
    tiny, retrain = options["tiny"], options["retrain"]
    if retrain and not tiny:
        raise UsageError(
            "--retrain: belongs to --tiny; without it all is trained that --lavit, --sft, --traces do not name"
        )
    given = next((name for name in REAL if options[name] is not None), None)
    if tiny and given:
        raise UsageError(f"--{given.replace('_', '-')}: --tiny brings its own models and data; leave one of them out")
    of_training = next(
        (f"--{n}" for n, of in (("set", "changes"), ("trace-limit", "trace_limit")) if options[of]), None
    )
    if tiny and of_training and not retrain:
        raise UsageError(f"{of_training}: nothing is trained with --tiny alone; add --retrain, or leave it out")
    asking = {name.replace("_", "-"): options[name] for name in ("device", "device_map", "dtype", "quantization")}
    if not tiny:
        asking |= {name: options[name.replace("-", "_")] or usual for name, usual in PIXELS.items()}
    # A smaller picture is smaller in training too.
    sizes = [f"{name}={options[name]}" for name in ("min_pixels", "max_pixels") if options[name]]
    return Wanted(
        target=target,
        tiny=tiny,
        retrain=retrain,
        changes=(*sizes, *options["changes"]),
        asking=asking,
        out=options["out"] or Path("runs/reproduce") / (target + ("-tiny" if tiny else "")),
        models={name: options[name] for name in NAMED if options[name] is not None},
        viscot=options["viscot"] or Path("viscot_363k.json"),
        image_root=options["image_root"] or Path("images"),
        instruction="Answer in a few words." if options["instruction"] is None else options["instruction"],
        **{name: options[name] for name in ("traces", "data_root", "limit", "trace_limit", "batch_size", "device")},
    )


def print_reproduction(plan: Plan, again: str) -> None:
    """The table or figure, what it says, and the page about it."""
    from perception_gap.cli.reproduction.findings import finding, printed_beside
    from perception_gap.cli.reproduction.present import page, present
    from perception_gap.storage.files import write_text
    from reports.sources import open_sources

    files, text = present(plan)
    beside = printed_beside(plan.wanted.target)
    sentences = " ".join(filter(None, (finding(plan, open_sources(plan.sources)), beside)))
    about = plan.wanted.out / f"REPRODUCTION-{plan.wanted.target}.md"
    write_text(about, page(plan, again, sentences, files))
    click.echo(f"\n{text}\n\n{sentences}")
    for note in plan.notes:
        click.echo(f"note: {note}")
    click.echo(f"{', '.join(str(file) for file in files)}; {about}")
