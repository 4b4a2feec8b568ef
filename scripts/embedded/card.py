"""Measure the trained embedded models and write their cards: `python -m scripts.embedded.card --work runs/tiny`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from perception_gap.measure.analyze import AnalyzeOptions, analyze
from perception_gap.measure.settings import Settings
from perception_gap.runs.run import Run
from perception_gap.tiny import WEIGHTS
from scripts.embedded.train import RECIPES

CARD = """# tiny:{name}

A {parameters:,}-parameter model of the real Qwen2.5-VL architecture (`Qwen2_5_VLForConditionalGeneration`, its own
processor, byte-level BPE tokenizer), trained from scratch on drawn scenes. It exists so that every command of gapcheck
runs for real on a laptop; it knows nothing but these scenes.

| what | value |
|---|---|
| command | `python -m scripts.embedded.train tower` then `python -m scripts.embedded.train {name}` |
| training scenes | {scenes:,} (six tasks, split `train`, seed 0) |
| vision tower | {tower_steps:,} steps on dense labels (shape, colour, size, look, depth, albedo, position), \
{tower_hours} h; shared by all embedded models, then frozen |
| language model | {layers} layers, {steps:,} steps of {batch}, learning rate {lr}, seed {seed}, {hours} h |
| attention guided to the boxes | {guided} |
| machine | two CPU cores, shared with other work, so the hours are an upper bound |
| weights | float16 |

## What it scores
`{command}`

{n} held-out scenes, greedy, exact option or sentence; 95 % intervals, clustered by picture or pair.

| task | accuracy | 95 % interval | n | chance |
|---|---|---|---|---|
{table}

Chance is blind guessing over the possible answers. Focus (share of the answer's map inside the boxes): {focus}.
"""


def accuracies(summary: dict[str, Any]) -> str:
    """Rows of a card's table: every task, then all."""

    def percent(metric: dict[str, Any]) -> str:
        low, high = metric["ci"]
        return f"{100 * metric['mean']:.1f} % | {100 * low:.1f} – {100 * high:.1f} % | {metric['n']}"

    tasks = summary["accuracy_by_task"].items()
    lines = [f"| {task} | {percent(metric)} | {100 * metric['chance']:.1f} % |" for task, metric in tasks]
    return "\n".join([*lines, f"| all | {percent(summary['accuracy'])} | |"])


def write_card(name: str, run: Run, command: str) -> None:
    facts = json.loads((WEIGHTS / name / "training.json").read_text())
    recipe, summary = facts.pop("recipe"), run.summary
    focus, chance = summary["focus_score"], summary["focus_score"]["chance"]
    low, high = focus["ci"]
    card = CARD.format(
        **(facts | recipe),
        guided=f"yes: −{recipe['guide']} · log focus added to the loss"
        if recipe["guide"]
        else "no: it never sees boxes",
        command=command,
        n=summary["n_samples"],
        table=accuracies(summary),
        focus=f"{focus['mean']:.3f} [{low:.3f}, {high:.3f}], of a uniform map {chance['mean']:.3f}",
    )
    (WEIGHTS / name / "README.md").write_text(card)


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/tiny"), show_default=True)
@click.option("--limit", default=1800, show_default=True)
def main(names: tuple[str, ...], work: Path, limit: int) -> None:
    for name in names or [n for n in RECIPES if (work / "weights" / n).exists()]:
        trained = work / "weights" / name
        if trained.exists():
            shutil.copytree(trained, WEIGHTS / name, dirs_exist_ok=True)
        command = f"gapcheck analyze tiny:{name} --data scenes --limit {limit}"
        options = AnalyzeOptions(
            model=f"tiny:{name}",
            limit=limit,
            batch_size=24,
            out=work / "cards" / name,
            settings=Settings(max_new_tokens=16),
            command=command,
        )
        write_card(name, analyze(options), command)


if __name__ == "__main__":
    main()
