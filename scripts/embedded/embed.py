"""Ship a trained tiny student in half precision with its card: `python -m scripts.embedded.embed NAME RUN`.

RUN is a folder of `gapcheck train`; the model becomes `tiny:NAME`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file, save_file

from lavit.checkpoint import opener
from lavit.manifest import MANIFEST
from perception_gap.measure.analyze import AnalyzeOptions, analyze
from perception_gap.measure.settings import Settings
from perception_gap.runs.run import Run
from perception_gap.storage.files import write_json
from perception_gap.tiny import WEIGHTS
from scripts.embedded.card import accuracies

CARD = """# tiny:{name}

`{student}` trained further on {traces:,} traces of `{teacher}` with the preset `{preset}` at scale tiny: {steps} steps
of {batch}, learning rate {lr}, seed {seed}. {latents} Weights in float16.

| what | value |
|---|---|
| trained by | `{command}` |
| shipped by | `python -m scripts.embedded.embed {name} RUN` |

## What it scores
`{measured}`

{n} held-out scenes, greedy, exact option or sentence; 95 % intervals, clustered by picture or pair.

| task | accuracy | 95 % interval | n | chance |
|---|---|---|---|---|
{table}

Focus of the answers (share of the map inside the boxes): {focus}, of a uniform map {chance:.3f}. KL(teacher ‖ student)
of the answers' maps: {kl} nats, floor {floor}. What this shows and what not: `docs/tiny-reproduction.md`.
"""


def halved(source: Path, target: Path) -> None:
    """A checkpoint's copy with all weights in float16."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=shutil.copyfile)  # not the modes: Trainer writes for its owner alone
    (target / MANIFEST).unlink(missing_ok=True)  # of other weights
    for path in target.glob("*.safetensors"):
        weights = {k: v.half() for k, v in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    write_json(target / "config.json", config | {"dtype": str(torch.float16).removeprefix("torch.")})


def interval(metric: dict[str, Any]) -> str:
    low, high = metric["ci"]
    return f"{metric['mean']:.2f} [{low:.2f}, {high:.2f}]"


def write_card(name: str, training: dict[str, Any], tokens: list[str], run: Run, measured: str) -> None:
    settings, summary = training["settings"], run.summary
    text = CARD.format(
        name=name,
        student=training["student"]["name"],
        teacher=training["traces"]["teacher"]["name"],
        traces=training["traces"]["n"],
        preset=training["preset"],
        steps=settings["steps"],
        batch=settings["batch_size"],
        lr=settings["learning_rate"],
        seed=settings["seed"],
        measured=measured,
        command=f"gapcheck train {training['student']['name']} --traces {training['traces']['path']} "
        f"--preset {training['preset']} --scale {training['scale']} --set seed={settings['seed']} --out RUN",
        latents=f"Latent tokens: {' '.join(tokens)}." if tokens else "No latent tokens.",
        n=summary["n_samples"],
        table=accuracies(summary),
        focus=interval(summary["focus_score"]),
        chance=summary["focus_score"]["chance"]["mean"],
        kl=interval(summary["kl"]["sample"]),
        floor=interval(summary["kl"]["sample_floor"]),
    )
    (WEIGHTS / name / "README.md").write_text(text)


@click.command(help=__doc__)
@click.argument("name")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--limit", default=1200, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/tiny/cards"), show_default=True)
def main(name: str, run: Path, limit: int, work: Path) -> None:
    halved(run / "model", WEIGHTS / name)
    training = json.loads((run / "train.json").read_text())
    tokens = json.loads((WEIGHTS / name / "lavit.json").read_text())["latents"]["tokens"]
    measured = f"gapcheck analyze tiny:{name} --teacher tiny:teacher --data scenes --limit {limit} --max-new-tokens 16"
    options = AnalyzeOptions(
        model=f"tiny:{name}",
        teacher="tiny:teacher",
        limit=limit,
        batch_size=48,
        out=work / name,
        settings=Settings(text="teacher", max_new_tokens=16),
        command=measured,
    )
    write_card(name, training, tokens, analyze(options, opener=opener), measured)


if __name__ == "__main__":
    main()
