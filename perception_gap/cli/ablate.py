"""`gapcheck ablate`: train and measure a matrix of presets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perception_gap.cli import common_options
from perception_gap.cli.data_options import data_options, pop_reading
from perception_gap.cli.output import command_line
from perception_gap.grid import grid

if TYPE_CHECKING:
    import pandas as pd


@click.command(
    epilog="Example: gapcheck ablate --student tiny:student --teacher tiny:teacher --traces runs/traces "
    "--presets naive-sft,paper --seeds 0 --scale tiny --limit 240 --out runs/ablation"
)
@click.option("--student", required=True, help="Model that every training starts from.")
@click.option("--teacher", required=True, help="Model whose maps the students' are compared with.")
@click.option("--traces", required=True, type=click.Path(path_type=Path), help="The teacher's traces (gapcheck trace).")
@click.option("--presets", required=True, metavar="NAME[*N],..", help="Presets; *N: the first N seeds only.")
@click.option("--seeds", default="0", show_default=True, metavar="N,..")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the matrix.")
@click.option("--scale", default="full", show_default=True, help="full, or tiny: optimiser and steps for tiny models.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting of every preset.")
@data_options(help="Samples to measure on, held out.")
@click.option("--hidden-limit", type=click.IntRange(min=1), help="How many of them also with the latents hidden.")
@click.option("--instruction", help="A line after every question [default: that of the traces].")
@common_options.max_new_tokens
@click.option("--batch-size", default=48, show_default=True, type=click.IntRange(min=1), help="Of the evaluation.")
@click.option("--device", default="auto", show_default=True)
@click.option("--cache-vision", type=click.Path(path_type=Path), metavar="DIR", help="As in gapcheck train.")
def command(presets: str, seeds: str, changes: tuple[str, ...], cache_vision: Path | None, **options: Any) -> None:
    """Train every preset and seed on the same traces, measure each on the same held-out samples, write one tidy CSV.

    The same command resumes; more presets may be added. OUT/results.csv: preset, seed, rows, task, metric, value,
    low, high, n. OUT/means.csv: means over the seeds. OUT/comparisons.csv: paired differences, sample by sample.
    """
    from lavit.ablation import TABLES, AblationOptions, ablate, parse_runs
    from lavit.evaluation import Evaluation
    from lavit.settings import parse_changes
    from perception_gap.storage.files import write_text
    from perception_gap.storage.locks import locked
    from reports import tables
    from reports.sources import open_source

    try:
        listed = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise click.UsageError(f"--seeds {seeds!r}: expected whole numbers such as 0,1,2") from None
    if options["instruction"] is None:
        from lavit.traces import Traces

        options["instruction"] = Traces.open(options["traces"]).info["settings"].get("instruction") or ""
    names = ("data", "image_root", "limit", "hidden_limit", "instruction", "max_new_tokens", "batch_size")
    of_evaluation = {"reading": pop_reading(options)} | {name: options.pop(name) for name in names}
    matrix = AblationOptions(
        runs=parse_runs(presets.split(","), listed),
        changes=parse_changes(changes),
        cache=cache_vision,
        evaluation=Evaluation(command=command_line(), **of_evaluation),
        **options,
    )
    with locked(matrix.out):
        results = ablate(matrix, say=click.echo)
        write_text(matrix.out / TABLES, tables.render(tables.build(None, [open_source(matrix.out)]), "md"))
    print_results(results)
    click.echo(f"{matrix.out}: results.csv, means.csv, comparisons.csv")


def print_results(results: pd.DataFrame) -> None:
    """One line a preset and seed: the numbers that answer the question."""
    answers = [("answer", name) for name in ("accuracy", "kl", "focus", "accuracy_mask", "accuracy_template")]
    wanted = [*answers[:3], ("last latent", "kl"), ("last latent", "target_kl"), *answers[3:]]
    values = results[results["task"] == "all"].set_index(["preset", "seed", "rows", "metric"])["value"]
    lines = []
    for preset, seed in dict.fromkeys(zip(results["preset"], results["seed"], strict=True)):
        numbers = (values.get((preset, seed, *key), float("nan")) for key in wanted)
        lines.append([preset, seed, *(f"{number:.3f}" for number in numbers)])
    head = ["preset", "seed", *(f"{rows} {metric}" for rows, metric in wanted)]
    click.echo(grid(head, lines, right=range(1, len(head))))
