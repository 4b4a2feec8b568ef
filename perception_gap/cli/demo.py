"""`gapcheck demo`: the main job on the embedded pair."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(epilog="Example: gapcheck demo --out runs/demo --limit 60")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--limit", default=240, show_default=True, type=click.IntRange(min=1), help="Number of drawn scenes.")
def command(out: Path, limit: int) -> None:
    """Compare the embedded student with its teacher on drawn scenes: no download, about a minute on two cores."""
    from perception_gap import pipeline
    from perception_gap.analysis import Settings
    from perception_gap.cli.analyze import show

    request = pipeline.Request(
        model="tiny:student", teacher="tiny:teacher", data="scenes", out=out, limit=limit, batch_size=24,
        settings=Settings(text="teacher", max_new_tokens=16), command=" ".join(["gapcheck", *sys.argv[1:]]),
    )  # fmt: skip
    status = show(pipeline.analyze(request, say=click.echo), strict=False, figures=True)
    click.echo(f"Look at {out / 'figures' / 'overlays.png'}, then at {out / 'summary.json'}")
    sys.exit(status)
