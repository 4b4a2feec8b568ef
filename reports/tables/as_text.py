"""Tables for a terminal: figures and intervals in one cell, below each other where a line would be too long."""

from __future__ import annotations

from collections.abc import Sequence

from perception_gap.grid import grid
from reports.tables.model import Cell, Column, Row, Table, plain

WIDEST = 110  # characters of a line, before intervals go below their figures


def render(tables: Sequence[Table]) -> str:
    """Caption, grid and notes of each."""
    return "\n\n".join(_rendered(table) for table in tables) + "\n"


def _rendered(table: Table) -> str:
    lines = _grid(table, " ")
    if max(map(len, lines.splitlines()), default=0) > WIDEST:
        lines = _grid(table, "\n")
    return "\n".join([plain(table.caption), "", lines, *(f"  {note}" for note in table.footnotes("{}: ", plain))])


def _grid(table: Table, gap: str) -> str:
    stubs = table.stubs
    lines = []
    for title, rows in table.groups():
        lines += [[plain(title)]] if title else []
        lines += [_line(table, row, gap) for row in rows]
    heads = [*stubs, *(_head(table, column, gap) for column in table.columns)]
    return grid(heads, lines, right=[i for i in range(len(heads)) if i >= len(stubs) or stubs[i] == "n"])


def _head(table: Table, column: Column, gap: str) -> str:
    title = plain(column.head) + _marks(table, column.notes)
    return title if column.n is None else f"{title},{gap}n {column.n:,}"


def _line(table: Table, row: Row, gap: str) -> list[str]:
    cells = (row.cells.get(column.key) for column in table.columns)
    figures = ["" if cell is None else _cell(table, cell, gap) for cell in cells]
    return [*table.before(row, plain(row.label) + _marks(table, row.notes)), *figures]


def _cell(table: Table, cell: Cell, gap: str) -> str:
    figure = cell.figure + ("*" if cell.starred else "") + _marks(table, cell.notes)
    return gap.join(text for text in (figure, cell.interval, cell.count) if text)


def _marks(table: Table, notes: Sequence[str]) -> str:
    return f" {table.marked(notes)}" if notes else ""
