"""The options of every command that reads a data set, and what of them goes to `perception_gap.data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perception_gap.cli.model_options import Command, together
from perception_gap.sample import UNITS

if TYPE_CHECKING:
    from perception_gap.data.reading import Reading

SPECS = "scenes[:TASK,..]|FILE.jsonl|viscot:FILE|coco:FILE|FILE.parquet|FOLDER|hub:NAME"


def data_options(metavar: str = SPECS, help: str = "Questions with boxes.") -> Callable[[Command], Command]:
    """Decorator: adds --data, --image-root, --boxes, --field and --limit, in this order; see `pop_reading`."""
    return together(
        click.option("--data", default="scenes", show_default=True, metavar=metavar, help=help),
        click.option("--image-root", type=click.Path(path_type=Path), help="Folder that image paths are relative to."),
        click.option(
            "--boxes",
            type=click.Choice(UNITS),
            help="What the boxes' numbers are: x0, y0, x1, y1 in pixels, fractions or thousandths of the picture, or "
            "x, y, width, height in pixels [default: what the format says; JSON Lines: pixels].",
        ),
        click.option(
            "--field",
            "fields",
            multiple=True,
            metavar="OURS=THEIRS",
            help="Which field of the data is our id, image, images, question, answer, boxes, options, task or pair; "
            "several times. THEIRS may be a path into a field (answers.0), or a text with {FIELD} in it.",
        ),
        click.option("--limit", type=click.IntRange(min=1), help="Use the first N samples (scenes: 300 by default)."),
    )


def pop_reading(options: dict[str, Any]) -> Reading:
    """Takes --boxes and --field out of a command's options. UsageError for a field that is not ours or comes twice."""
    from perception_gap.data.reading import Reading

    fields: dict[str, str] = {}
    for given in options.pop("fields"):
        ours, _, theirs = (part.strip() for part in given.partition("="))
        if not ours or not theirs or ours in fields:
            raise click.UsageError(f"--field {given!r}: expected OURS=THEIRS, each of ours once, as in question=prompt")
        fields[ours] = theirs
    return Reading(options.pop("boxes"), fields)
