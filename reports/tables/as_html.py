"""Tables as HTML fragments: a <table class="figures"> each, without style of their own.

Classes: `number` (cells of figures: tabular digits), `best`, `second`, `interval`, `n`, `ours`, `published`,
`difference`, `gain` (rows), `group`, `notes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from reports.tables.model import Cell, Column, Row, Table, padded

MARK = "<sup>{}</sup> "
RANKS = {"": "{}", "best": '<strong class="best">{}</strong>', "second": '<u class="second">{}</u>'}


def render(tables: Sequence[Table]) -> str:
    """The fragments, one after the other."""
    return "\n".join(_rendered(table) for table in tables) + "\n"


def _rendered(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(stub)}</th>' for stub in table.stubs)
    heads += "".join(_head(table, column) for column in table.columns)
    width = len(table.stubs) + len(table.columns)
    notes = [f'<tr class="notes"><td colspan="{width}">{note}</td></tr>' for note in table.footnotes(MARK, escape)]
    lines = [
        f'<table class="figures" data-table="{escape(table.id)}">',
        f"<caption>{escape(table.caption)}</caption>",
        f"<thead><tr>{heads}</tr></thead>",
        *_bodies(table, width),
        f"<tfoot>{''.join(notes)}</tfoot>" if notes else "",
        "</table>",
    ]
    return "\n".join(line for line in lines if line)


def _bodies(table: Table, width: int) -> list[str]:
    """A <tbody> a group."""
    lines: list[str] = []
    for title, rows in table.groups():
        head = f'<tr class="group"><th scope="rowgroup" colspan="{width}">{escape(title)}</th></tr>' if title else ""
        lines += ["<tbody>", *([head] if head else []), *(_line(table, row) for row in rows), "</tbody>"]
    return lines


def _head(table: Table, column: Column) -> str:
    n = f' <span class="n">n\u00a0{column.n:,}</span>' if column.n is not None else ""
    return f'<th scope="col" class="number">{escape(column.head)}{_marks(table.marked(column.notes))}{n}</th>'


def _line(table: Table, row: Row) -> str:
    cells = f'<th scope="row">{escape(row.label)}{_marks(table.marked(row.notes))}</th>'
    cells += f'<td class="source">{row.source}</td>' if table.shows_source else ""
    if table.shows_n:
        cells += f'<td class="number n">{"" if row.n is None else f"{row.n:,}"}</td>'
    for column in table.columns:
        cell = row.cells.get(column.key)
        cells += f'<td class="number">{"" if cell is None else _cell(table, column, cell)}</td>'
    return f'<tr class="{row.source}">{cells}</tr>'


def _cell(table: Table, column: Column, cell: Cell) -> str:
    before, after = padded(cell.figure, table.padding(column))
    figure = RANKS[cell.rank].format(escape(cell.figure)) + ("*" if cell.starred else "")
    text = before + figure + _marks(table.marked(cell.notes)) + after
    text += f' <span class="interval">{cell.interval}</span>' if cell.interval else ""
    return text + (f' <span class="n">{cell.count}</span>' if cell.count else "")


def _marks(marks: str) -> str:
    return f"<sup>{marks}</sup>" if marks else ""
