"""Tables as Markdown: figures with their intervals in one cell, the points of a column below each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perception_gap.grid import grid
from reports.tables.model import Cell, Column, Row, Table, padded, plain

RANKS = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}


def render(tables: Sequence[Table]) -> str:
    """A heading, the table and its notes for each."""
    return "\n\n".join(_rendered(table) for table in tables) + "\n"


def _rendered(table: Table) -> str:
    lines = []
    for title, rows in table.groups():
        lines += [[f"*{_escaped(title)}*"]] if title else []
        lines += [_line(table, row) for row in rows]
    heads = [*table.stubs, *(_head(table, column) for column in table.columns)]
    right = [table.stubs.index("n")] if table.shows_n else []
    notes = "\n".join(f"- {note}" for note in table.footnotes("<sup>{}</sup> ", _escaped))
    title = f"**{_escaped(table.caption)}** ({_escaped(table.id)})"
    return "\n\n".join(part for part in (title, grid(heads, lines, "markdown", right), notes) if part)


def _head(table: Table, column: Column) -> str:
    n = f", n {column.n:,}" if column.n is not None else ""
    return f"{_escaped(column.head)}{n}{_marks(table.marked(column.notes))}"


def _line(table: Table, row: Row) -> list[str]:
    cells = ((column, row.cells.get(column.key)) for column in table.columns)
    figures = ["" if cell is None else _cell(table, column, cell) for column, cell in cells]
    return [*table.before(row, _escaped(row.label) + _marks(table.marked(row.notes))), *figures]


def _cell(table: Table, column: Column, cell: Cell) -> str:
    before, after = padded(cell.figure, table.padding(column))
    star = "\\*" if cell.starred else ""
    figure = RANKS[cell.rank].format(_escaped(cell.figure)) + star + _marks(table.marked(cell.notes))
    more = " ".join(text for text in (cell.interval, cell.count) if text)
    return f"{before}{figure}{after} {more}" if more else f"{before}{figure}"


def _marks(marks: str) -> str:
    return f"<sup>{marks}</sup>" if marks else ""


def _escaped(text: str) -> str:
    """What Markdown would read as markup, or as a link, or as an entity."""
    return re.sub(r"[\\*_<>|#\[\]`~&]|(?<=:)//|(?<=www)\.", r"\\\g<0>", plain(text))
