"""Tables as Markdown: figures with their intervals in one cell, the points of a column below each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from reports.tables.model import Cell, Column, Row, Table, padded, plain

RANKS = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}


def render(tables: Sequence[Table]) -> str:
    """A heading, the table and its notes for each."""
    return "\n\n".join(_one(table) for table in tables) + "\n"


def _one(table: Table) -> str:
    lines = []
    group = ""
    for row in table.rows:
        if row.group and row.group != group:
            lines.append([f"*{_escaped(row.group)}*"])
        group = row.group
        lines.append(_line(table, row))
    head = [table.stub, *(["figures"] if table.shows_source else []), *(["n"] if table.shows_n else [])]
    heads = [*head, *(_head(table, column) for column in table.columns)]
    align = ["right" if name == "n" else "left" for name in head] + ["left"] * len(table.columns)
    grid = tabulate(
        [line + [""] * (len(heads) - len(line)) for line in lines], heads, "github",
        disable_numparse=True, preserve_whitespace=True, colalign=align,
    )  # fmt: skip
    title = f"**{_escaped(table.caption)}** ({_escaped(table.id)})"
    return "\n\n".join(part for part in (title, grid, _notes(table)) if part)


def _head(table: Table, column: Column) -> str:
    n = f", n {column.n:,}" if column.n is not None else ""
    return f"{_escaped(column.head)}{n}{_marks(table.marked(column.notes))}"


def _line(table: Table, row: Row) -> list[str]:
    label = _escaped(row.label) + _marks(table.marked(row.notes))
    line = [label, *([row.source] if table.shows_source else [])]
    line += ["" if row.n is None else f"{row.n:,}"] if table.shows_n else []
    return line + [
        _cell(table, column, row.cells[column.key]) if column.key in row.cells else "" for column in table.columns
    ]


def _cell(table: Table, column: Column, cell: Cell) -> str:
    before, after = padded(cell.figure, table.padding(column))
    figure = (
        RANKS[cell.rank].format(_escaped(cell.figure))
        + ("\\*" if cell.starred else "")
        + _marks(table.marked(cell.notes))
    )
    more = " ".join(text for text in (cell.interval, cell.count) if text)
    return f"{before}{figure}{after} {more}" if more else f"{before}{figure}"


def _marks(marks: str) -> str:
    return f"<sup>{marks}</sup>" if marks else ""


def _notes(table: Table) -> str:
    lines = [f"<sup>{mark}</sup> {_escaped(text)}" for text, mark in table.marks.items()]
    lines += ["\\* taken from elsewhere by the paper itself"] if table.starred else []
    return "\n".join(f"- {line}" for line in (*lines, *(_escaped(text) for text in table.about)))


def _escaped(text: str) -> str:
    """What Markdown would read as markup, or as a link, or as an entity."""
    return re.sub(r"[\\*_<>|#\[\]`~&]|(?<=:)//|(?<=www)\.", r"\\\g<0>", plain(text))
