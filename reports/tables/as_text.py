"""Tables for a terminal: figures and intervals in one cell, below each other where a line would be too long."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from reports.tables.model import Cell, Column, Row, Table, plain

WIDEST = 110  # characters of a line, before intervals go below their figures


def render(tables: Sequence[Table]) -> str:
    """Caption, grid and notes of each."""
    return "\n\n".join(_one(table) for table in tables) + "\n"


def _one(table: Table) -> str:
    grid = _grid(table, " ")
    if max(map(len, grid.splitlines()), default=0) > WIDEST:
        grid = _grid(table, "\n")
    notes = [f"  {mark}: {plain(text)}" for text, mark in table.marks.items()]
    notes += ["  * taken from elsewhere by the paper itself"] if table.starred else []
    return "\n".join([plain(table.caption), "", grid, *notes, *(f"  {plain(text)}" for text in table.about)])


def _grid(table: Table, gap: str) -> str:
    heads = [table.stub, *(["figures"] if table.shows_source else []), *(["n"] if table.shows_n else [])]
    align = ["right" if head == "n" else "left" for head in heads] + ["right"] * len(table.columns)
    heads += [_head(table, column, gap) for column in table.columns]
    lines: list[list[str]] = []
    group = ""
    for row in table.rows:
        if row.group and row.group != group:
            lines.append([plain(row.group)] + [""] * (len(heads) - 1))
        group = row.group
        lines.append(_line(table, row, gap))
    return tabulate(lines, heads, "simple", disable_numparse=True, preserve_whitespace=True, colalign=align)


def _head(table: Table, column: Column, gap: str) -> str:
    title = plain(column.head) + _marks(table, column.notes)
    return title if column.n is None else f"{title},{gap}n {column.n:,}"


def _line(table: Table, row: Row, gap: str) -> list[str]:
    line = [plain(row.label) + _marks(table, row.notes), *([row.source] if table.shows_source else [])]
    line += ["" if row.n is None else f"{row.n:,}"] if table.shows_n else []
    return line + [
        _cell(table, row.cells[column.key], gap) if column.key in row.cells else "" for column in table.columns
    ]


def _cell(table: Table, cell: Cell, gap: str) -> str:
    figure = cell.figure + ("*" if cell.starred else "") + _marks(table, cell.notes)
    return gap.join(text for text in (figure, cell.interval, cell.count) if text)


def _marks(table: Table, notes: Sequence[str]) -> str:
    return f" {table.marked(notes)}" if notes else ""
