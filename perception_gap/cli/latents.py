"""`gapcheck latents`: does a LaViT model use its latent tokens?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from perception_gap.cli import common_options
from perception_gap.cli.data_options import data_options, pop_reading
from perception_gap.cli.output import command_line
from perception_gap.grid import grid


@click.command(epilog="Example: gapcheck latents tiny:lavit --data scenes --limit 120 --out runs/latents")
@click.argument("model")
@data_options()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the five runs.")
@click.option("--instruction", default="", help="A line after every question.")
@common_options.max_new_tokens
@common_options.batch_size
@click.option("--device", default="auto", show_default=True)
def command(model: str, out: Path, **options: Any) -> None:
    """Answer with the latents as they are, left out, and hidden from the answer, and say how far the answers change.

    Hiding is out of distribution in itself: the same is done to as many template tokens. With image and latents hidden,
    what is still right came by way of the question's tokens. Without a closing token the last latent predicts the
    first answer token itself, so that an answer of one token changes in no mode but "left out".
    """
    from lavit.checkpoint import facts_of, has_latents
    from lavit.evaluation import Evaluation, hiding_table
    from lavit.results import by_id

    if not has_latents(facts_of(model)):
        raise click.UsageError(f"{model}: has no latent tokens; give a model that gapcheck train made with latents")
    device = options.pop("device")
    load = {} if device == "auto" else {"device": device}
    evaluation = Evaluation(reading=pop_reading(options), load=load, command=command_line(), **options)
    shown = by_id(evaluation.run(model, out / "eval"))
    lines = hiding_table(shown, evaluation.hidden(model, out, shown))
    click.echo(grid(["latents", "accuracy", "answers changed", "change of accuracy", "n"], lines, right=[4]))
