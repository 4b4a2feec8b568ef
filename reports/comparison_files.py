"""What `gapcheck compare` leaves beside its numbers: figures, overlays of telling samples, tables and the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from perception_gap.storage.files import write_text
from reports import tables
from reports.compared import CompareRun
from reports.figures import figures_of
from reports.overlays import overlay_figure
from reports.page import Page, write_page
from reports.page.albums import albums
from reports.page.choice import facts, telling
from reports.sources import with_members
from reports.style import save

TELLING = 4  # samples in the overlays
WHY = "Samples: tasks in turn, first where verdicts differ, then where an answer is wrong."


def write_files(comparison: CompareRun, command: str = "") -> tuple[list[Path], Page]:
    """OUT/figures/*.{png,pdf}, OUT/overlays.png, OUT/tables.md, OUT/report.html: (all but the page, the page)."""
    paths = [
        path
        for drawn in figures_of([comparison])
        for path in save(drawn.figure, comparison.path / "figures", drawn.name)
    ]
    paths += write_overlays(comparison)
    text = comparison.path / "tables.md"
    write_text(text, tables.render(tables.build(None, [comparison]), "md"))
    out, title = comparison.path / "report.html", f"Where {len(comparison.labels)} models look"
    return [*paths, text], write_page([comparison], out, title=title, command=command)


def write_overlays(comparison: CompareRun) -> Iterator[Path]:
    """OUT/overlays.png: the first samples of the page's browser, in all models; nothing where they share none."""
    first = next((album for album in albums(with_members([comparison])) if album.ids), None)
    if first is None or not comparison.students:
        return
    ids = telling(facts(first))[:TELLING]
    figure = overlay_figure(comparison.students, comparison.teacher, samples=ids, why=WHY)
    yield from save(figure, comparison.path, "overlays", ("png",))
