"""Tables as one tidy CSV: a line a cell, numbers as they are, no layout."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from perception_gap.storage.spreadsheet import escaped
from reports.tables.model import Cell, Row, Table

COLUMNS = ("table", "row", "column", "source", "value", "low", "high", "n", "starred", "note")


def render(tables: Sequence[Table]) -> str:
    """COLUMNS; value, low, high in the unit of the column, empty where undefined; notes separated by `; `.

    A text that a spreadsheet would run has a ' in front (`perception_gap.storage.spreadsheet`).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                if column.key in row.cells:
                    notes = (*column.notes, *row.notes, *row.cells[column.key].notes)
                    name = f"{column.title} ({column.unit})" if column.unit else column.title
                    writer.writerow(map(escaped, (table.id, *_line(row, name, row.cells[column.key], notes))))
    return text.getvalue()


def _line(row: Row, column: str, cell: Cell, notes: Sequence[str]) -> tuple[str, ...]:
    value = cell.printed or _number(cell.value)
    n = "" if cell.n is None else str(cell.n)
    starred = str(cell.starred).lower()
    return (row.label, column, row.source, value, _number(cell.low), _number(cell.high), n, starred, "; ".join(notes))


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.10g}"
