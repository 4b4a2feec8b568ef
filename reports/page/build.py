"""Assemble the page: blocks of samples, tables, figures, words; one file, with further samples in scripts beside it.

Scripts, since a page opened from disk may not fetch: `REPORT_samples/aABBB.js` calls `gapcheckBlock`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from perception_gap.store import Run, write_text
from reports import figures, style, tables
from reports.page.albums import Album, albums
from reports.page.choice import facts, telling
from reports.page.headline import lead
from reports.page.payload import SIDE, Shapes, index_of, sample_payload
from reports.page.provenance import notices, provenance
from reports.sources import Source, Training, Unfinished

BLOCK = 50  # samples of a block: what the page reads at once
EMBEDDED = 500


@dataclass(frozen=True)
class Page:
    """What was written: the file, the script files beside it, how many samples it holds of how many there are."""

    path: Path
    chunks: list[Path]
    samples: int
    of: int


def write_page(
    sources: Sequence[Source], out: Path, *, title: str = "gapcheck report", samples: int | None = EMBEDDED,
    embedded: int = EMBEDDED, side: int = SIDE, command: str = "", say: Callable[[str], None] = lambda _: None,
) -> Page:  # fmt: skip
    """Write the page of these sources to `out`.

    samples: how many of each album the browser holds (None: all), the most telling first; embedded: how many of them
    lie in the page itself, in whole blocks of BLOCK; side: long side of the thumbnails in pixels.
    """
    found = albums(sources)
    beside = out.with_name(f"{out.stem}_samples")
    shutil.rmtree(beside, ignore_errors=True)
    inside: list[dict[str, str]] = []
    chunks: list[Path] = []
    indexes = []
    for a, album in enumerate(found):
        about = facts(album)
        ids = telling(about)[:samples]
        indexes.append(_album_index(album, about, ids, beside.name))
        for number, block in enumerate(_blocks(album, ids, side)):
            name, text = f"a{a}b{number:04d}", _json(block)
            if number * BLOCK < embedded:
                inside.append({"name": name, "json": text})
                continue
            chunks.append(beside / f"{name}.js")
            write_text(chunks[-1], f'gapcheckBlock("{name}", {text});\n')
            say(f"{album.title}: {min((number + 1) * BLOCK, len(ids)):,} of {len(ids):,} samples")
    page = _environment().get_template("page.html.j2").render(
        title=title, command=command, answers=lead(found), notices=notices(sources, found), albums=found,
        index=Markup(_json(indexes)), blocks=[(b["name"], Markup(b["json"])) for b in inside],
        colors=Markup(_json(_color_map())), figures=_figures(sources), tables=_tables(sources),
        provenance=provenance(sources),
    )  # fmt: skip
    write_text(out, page)
    return Page(out, chunks, sum(len(i["id"]) for i in indexes), sum(len(album.ids) for album in found))


def _album_index(album: Album, about: Any, ids: list[str], beside: str) -> dict[str, Any]:
    members = [{"label": m.label, "color": m.color, "role": m.role} for m in album.members]
    return {"title": album.title, "members": members, "block": BLOCK, "beside": beside} | index_of(album, about, ids)


def _blocks(album: Album, ids: Sequence[str], side: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(ids), BLOCK):
        shapes = Shapes()
        payloads = [sample_payload(album, i, shapes, side) for i in ids[start : start + BLOCK]]
        yield {"shapes": shapes.found, "samples": payloads}


def _figures(sources: Sequence[Source]) -> list[dict[str, Any]]:
    return [
        {"name": made.name, "title": made.title, "alt": made.alt, "svg": Markup(style.svg(made.figure, made.name))}
        for made in figures.figures_of(sources)
    ]


def _tables(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Every table that these sources fill, [] where no sample is valid."""
    usable = [source for source in sources if not isinstance(source, Run) or (source.samples["status"] == "ok").any()]
    if all(isinstance(source, Unfinished | Training) for source in usable):
        return []
    made = tables.build(None, usable)
    return [{"title": table.caption, "html": Markup(tables.render([table], "html"))} for table in made]


def _color_map() -> list[list[int]]:
    """32 colours of the map that the overlays of the figures use, as RGB bytes."""
    colors = matplotlib.colormaps["magma"]([0.35 + 0.65 * i / 31 for i in range(32)])[:, :3]
    return (255 * colors).round().astype(int).tolist()


def _json(value: Any) -> str:
    """JSON that may stand in a script element: no `<` that could close it, no line separators of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _environment() -> Environment:
    """Templates of this package, escaped; css and js are included as they are."""
    return Environment(
        loader=PackageLoader("reports.page", "template"), autoescape=select_autoescape(["html", "j2"]),
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
