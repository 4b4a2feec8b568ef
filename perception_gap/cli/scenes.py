"""`gapcheck scenes`: draw scenes with known boxes."""

from __future__ import annotations

from pathlib import Path

import click

from perception_gap.cli.output import OutFolder


@click.command("scenes")
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="A task id, or all; repeatable. Default: all.")
@click.option("--n", "n", type=click.IntRange(min=1), default=300, show_default=True, help="Scenes in all.")
@click.option("--out", type=OutFolder(path_type=Path, file_okay=False), required=True, help="Folder to write into.")
@click.option("--split", default="heldout", show_default=True, help="heldout or train: they never share a scene.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def command(tasks: tuple[str, ...], n: int, out: Path, split: str, seed: int) -> None:
    """Draw scenes: PNG images, and scenes.jsonl with questions, answers and boxes, as `gapcheck analyze` reads it.

    \b
    Tasks:
      attribute             the colour of one small object among larger ones
      relative_depth        which of two marked points is closer
      relative_reflectance  which of two marked points has the darker surface
      spatial_relation      where one object lies, seen from another
      pairs                 two pictures that differ in one detail
      iq                    the missing shape of a pattern

    \b
    Example:
      gapcheck scenes --task attribute --task pairs --n 50 --out runs/scenes
      gapcheck analyze tiny:student --data runs/scenes/scenes.jsonl
    """
    from perception_gap.data.scenes_files import write_scenes

    path = write_scenes(out, tasks or ("all",), n, split, seed)
    click.echo(f"{n} scenes: {path}")
