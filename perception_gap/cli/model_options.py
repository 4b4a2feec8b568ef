"""The options of every command that loads a model, and what of them goes to `perception_gap.load`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Decorator: adds the options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


model_options = together(
    click.option("--min-pixels", type=click.IntRange(min=1), help="Lower pixel limit of each image."),
    click.option("--max-pixels", type=click.IntRange(min=1), help="Upper pixel limit of each image."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
    click.option("--device-map", help="accelerate's device map, e.g. auto."),
    click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16, float16."),
    click.option("--quantization", type=click.Choice(["4bit", "8bit"]), help="Through bitsandbytes."),
    click.option("--attn", default="sdpa", show_default=True, type=click.Choice(["sdpa", "eager"])),
    click.option("--revision", help="Revision of a hub model."),
    click.option("--trust-remote-code", is_flag=True),
)
_PLACEMENT = ("device", "device_map", "dtype", "attn", "quantization")
_NAMES = (*_PLACEMENT, "revision", "trust_remote_code", "min_pixels", "max_pixels")


def pop_load(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the model options out of a command's options; defaults stay out, so that they change no run's key."""
    chosen = {name: options.pop(name) for name in _NAMES}
    return {k: v for k, v in chosen.items() if v not in (None, False, "auto")}
