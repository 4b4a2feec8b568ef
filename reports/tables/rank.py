"""The best figure of a column and the one after it: ours among ours, published among published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports.tables.model import Cell, Column, Rank, Row


def ranked(rows: Sequence[Row], columns: Sequence[Column], comparable: Mapping[str, set[str]]) -> tuple[Row, ...]:
    """The rows with `rank` set; higher is better, equal figures as they are shown share a rank.

    comparable: column key -> labels of our rows whose figures are of the same questions; the others get no rank.
    A column with fewer than two figures of one kind has no best one.
    """
    ranks: dict[tuple[int, str], Rank] = {}
    for column in columns:
        for source in ("ours", "published"):
            cells = {
                i: row.cells[column.key]
                for i, row in enumerate(rows)
                if row.source == source and column.key in row.cells and row.cells[column.key].defined
                if source == "published" or row.label in comparable.get(column.key, set())
            }
            ranks |= {(i, column.key): rank for i, rank in _ranks(cells).items()}
    return tuple(
        replace(row, cells={key: replace(cell, rank=ranks.get((i, key), "")) for key, cell in row.cells.items()})
        for i, row in enumerate(rows)
    )


def _ranks(cells: Mapping[int, Cell]) -> dict[int, Rank]:
    # The published 30.0 and 30.00 are equal, and so are two of ours that one cannot tell apart in the table.
    shown = {i: float(cell.figure.replace("−", "-")) for i, cell in cells.items()}
    order = sorted(set(shown.values()), reverse=True)
    if len(shown) < 2:
        return {}
    names: tuple[Rank, ...] = ("best", "second")
    return {i: names[order.index(value)] for i, value in shown.items() if order.index(value) < 2}
