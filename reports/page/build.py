"""Assemble the page: blocks of samples, tables, figures, words; one file, with further samples in scripts beside it.

Scripts, since a page opened from disk may not fetch: `REPORT_samples/aAbBBBB.HASH.js` calls `gapcheckBlock`. The hash
is that of the choice of samples: a page that is there finds its own scripts until the new one has its place. The page
names the folder percent-encoded, so that every name of a file is one of a page.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from perception_gap.runs.run import Run
from perception_gap.storage.files import write_text
from reports import comparison, figures, style, tables
from reports.answer import Answer
from reports.page.albums import Album, albums
from reports.page.choice import facts, telling
from reports.page.headline import lead
from reports.page.payload import SIDE, Shapes, index_of, sample_payload
from reports.page.provenance import notices, provenance
from reports.pictures import OUTSIDE
from reports.sources import BenchRun, CompareRun, Matrix, Source, Training, with_members

BLOCK = 50  # samples of a block: what the page reads at once
EMBEDDED = 500


@dataclass(frozen=True)
class Page:
    """What was written: the file, scripts beside it, how many samples of how many, what it answers and warns of."""

    path: Path
    chunks: list[Path]
    samples: int
    of: int
    answers: list[Answer]
    notices: list[str]


def write_page(
    sources: Sequence[Source],
    out: Path,
    *,
    title: str = "gapcheck report",
    samples: int | None = EMBEDDED,
    embedded: int = EMBEDDED,
    side: int = SIDE,
    command: str = "",
) -> Page:
    """Write the page of these sources to `out`; of a comparison with its members' runs, and its headline.

    samples: how many of each album the browser holds (None: all), the most telling first; embedded: how many of them
    lie in the page itself, in whole blocks of BLOCK; side: long side of the thumbnails in pixels.
    """
    sources = with_members(sources)
    listed = albums(sources)
    inside: list[tuple[str, Markup]] = []
    chunks: list[Path] = []
    indexes, warned = [], notices(sources, listed)
    for a, album in enumerate(listed):
        about = facts(album)
        ids = telling(about)[:samples]
        indexes.append(_album_index(album, about, ids, out))
        lost = Counter[str]()
        for number, block in enumerate(_blocks(album, ids, side)):
            name, text = f"a{a}b{number:04d}", _json(block)
            lost.update(missing(block["samples"], album))
            if number * BLOCK < embedded:
                inside.append((name, Markup(text)))
                continue
            chunks.append(_beside(out) / f"{name}.{indexes[-1]['mark']}.js")
            write_text(chunks[-1], f'gapcheckBlock("{name}", {text});\n')
        warned += [
            f"{album.title}: {what}: {n:,} of the {len(ids):,} samples in the browser{_remedy(what, album)}."
            for what, n in lost.items()
        ]
    compared = [source for source in sources if isinstance(source, CompareRun)]
    answers = comparison.answers(compared[0]) if compared else lead(listed)
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            command=command,
            answers=answers,
            notices=warned,
            albums=listed,
            index=Markup(_json(indexes)),
            blocks=inside,
            colors=Markup(_json(_color_map())),
            figures=_figures(sources),
            tables=_tables(sources),
            provenance=provenance(sources),
        )
    )
    write_text(out, page, follow=True)
    _forget(out, set(chunks))
    held, most = sum(len(i["id"]) for i in indexes), sum(max(len(m.samples) for m in a.members) for a in listed)
    return Page(out, chunks, held, most, answers, warned)


def _beside(out: Path) -> Path:
    """The folder of the scripts; of a name as long as file systems take, the beginning with a hash."""
    stem = os.fsencode(out.stem)
    if len(stem) > 200:
        stem = stem[:180].decode(errors="ignore").encode() + b"-" + hashlib.sha256(stem).hexdigest()[:16].encode()
    return out.with_name(f"{os.fsdecode(stem)}_samples")


def _forget(out: Path, kept: set[Path]) -> None:
    """Removes the scripts of earlier pages of this name, and nothing else that lies there."""
    folder = _beside(out)
    for path in folder.glob("a*b*.js"):
        if re.fullmatch(r"a\d+b\d{4,}\.[0-9a-f]{8}\.js", path.name) and path not in kept:
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def missing(samples: Sequence[dict[str, Any]], album: Album) -> Iterator[str]:
    """What of each sample cannot be shown though it was measured."""
    for sample in samples:
        if sample["lost"]:
            yield f"a picture {sample['lost']}"
        pairs = zip(sample["models"], album.members, strict=True)
        if any(member.has_maps and "error" not in model and "whole" not in model for model, member in pairs):
            yield "a map is missing"


def _remedy(what: str, album: Album) -> str:
    if not what.endswith(OUTSIDE):
        return ""
    folder = os.path.commonpath([os.path.realpath(folder) for folder in album.outside])
    return f"; if its files are yours to show, add --image-root {shlex.quote(folder)}"


def _album_index(album: Album, about: Any, ids: list[str], out: Path) -> dict[str, Any]:
    members = [{"label": m.label, "color": m.color, "role": m.role} for m in album.members]
    index = {"title": album.title, "members": members, "block": BLOCK} | index_of(album, about, ids)
    mark = hashlib.sha256(_json(index).encode()).hexdigest()[:8]
    return index | {"beside": quote(os.fsencode(_beside(out).name), safe=""), "mark": mark}


def _blocks(album: Album, ids: Sequence[str], side: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(ids), BLOCK):
        shapes = Shapes()
        payloads = [sample_payload(album, i, shapes, side) for i in ids[start : start + BLOCK]]
        yield {"shapes": shapes.listed, "samples": payloads}


def _figures(sources: Sequence[Source]) -> list[dict[str, Any]]:
    return [
        {
            "name": figure.name,
            "title": figure.title,
            "alt": figure.alt,
            "svg": Markup(style.svg(figure.figure, figure.name)),
        }
        for figure in figures.figures_of(sources)
    ]


def _tables(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Every table that these sources fill, [] where no sample is valid."""
    usable = [source for source in sources if _has_table(source)]
    if not usable:
        return []
    built = tables.build(None, usable)
    return [{"title": table.caption, "html": Markup(tables.render([table], "html"))} for table in built]


def _has_table(source: Source) -> bool:
    """Whether anything in it is whole."""
    if isinstance(source, Run):
        return bool((source.samples["status"] == "ok").any())
    if isinstance(source, BenchRun):
        return bool(source.models)
    return isinstance(source, CompareRun | Matrix) or (isinstance(source, Training) and not source.log.empty)


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
        loader=PackageLoader("reports.page", "template"),
        autoescape=select_autoescape(["html", "j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
