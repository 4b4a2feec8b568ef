"""Options that several commands have in the same words."""

from __future__ import annotations

from collections.abc import Callable

import click

from perception_gap.cli.model_options import Command

_ROWS = ("question", "answer", "latent", "response")
_MODES = ("force", "none", "mask", "template", "blind")
_EVERYTHING_DRAWN = "Of drawn scenes, floors and tests."

rows = click.option(
    "--rows", default="answer", show_default=True, type=click.Choice(_ROWS), help="Whose attention is the map."
)
layers = click.option("--layers", default="all", show_default=True, help="all, lastN, or comma-separated indices.")
layers_of_maps = click.option("--layers", default="all", show_default=True, help="Of the maps: all, lastN, or indices.")
instruction = click.option("--instruction", default="", help="A line after every question, e.g. 'Answer in one word.'")
system = click.option("--system", help="System prompt.")
max_new_tokens = click.option("--max-new-tokens", default=32, show_default=True, type=click.IntRange(min=1))
batch_size = click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1))
seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help=_EVERYTHING_DRAWN)
seed_of_scenes = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of drawn scenes."
)
dry_run = click.option(
    "--dry-run", is_flag=True, help="Run one batch; print bytes, peak memory and hours for the whole."
)
strict = click.option("--strict", is_flag=True, help="Exit 1 if any sample failed.")


def latents(help: str) -> Callable[[Command], Command]:
    return click.option("--latents", default="force", show_default=True, type=click.Choice(_MODES), help=help)


def raster(help: str, default: str | None = None) -> Callable[[Command], Command]:
    return click.option("--raster", default=default, show_default=True, metavar="ROWSxCOLS", help=help)
