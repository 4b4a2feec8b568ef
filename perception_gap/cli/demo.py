"""`gapcheck demo`: the main job on the embedded models, with a page at the end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perception_gap.cli.output import command_line

if TYPE_CHECKING:
    from perception_gap.runs.run import Run

STUDENTS = ("student", "lavit")  # as it was, and what training with the teacher's gaze made of it


@click.command(epilog="Example: gapcheck demo --out runs/demo --limit 60")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--limit", default=240, show_default=True, type=click.IntRange(min=1), help="Number of drawn scenes.")
def command(out: Path, limit: int) -> None:
    """Compare two embedded students with their teacher on drawn scenes: no download, about a minute on two cores.

    tiny:student, and tiny:lavit, which was trained from it to look where tiny:teacher looks. Ends with a page.
    """
    from lavit.checkpoint import opener
    from perception_gap.cli.analyze import print_summary
    from perception_gap.cli.report import write
    from perception_gap.measure.analyze import AnalyzeOptions, analyze
    from perception_gap.measure.settings import Settings
    from reports.overlays import overlay_figure
    from reports.style import save

    runs: list[Run] = []
    status = 0
    settings = Settings(text="teacher", max_new_tokens=16)
    shared = AnalyzeOptions("", limit=limit, batch_size=24, settings=settings, command=command_line())
    for name in STUDENTS:
        teacher = str(runs[0].path / "teacher") if runs else "tiny:teacher"
        request = replace(shared, model=f"tiny:{name}", teacher=teacher, out=out / name)
        runs.append(analyze(request, say=click.echo, opener=opener))
        status = max(status, print_summary(runs[-1], strict=False, figures=False))
        click.echo("")
    save(overlay_figure(runs, runs[0].teacher(), k=3), out, "overlays", ("png",))
    page = write(
        [run.path for run in runs], out / "report.html", title="Does the student look where its teacher looks?"
    )
    click.echo(f"picture {out / 'overlays.png'}\nOpen {page.resolve().as_uri()}")
    sys.exit(status)
