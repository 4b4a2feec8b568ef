"""What of a paper's figures recomputes, what follows without being printed, and which rows print the same figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from benchmarks.published.check import Check
from benchmarks.published.declared import SameRows
from benchmarks.published.denominators import share_checks
from benchmarks.published.model import Paper, Published, Row, RowOf

# Rows that share fewer columns than this may well be equal by chance.
FEWEST_EQUAL = 3


@dataclass(frozen=True)
class Gain:
    """How far a row lies above another in one column, as the difference of the prints; the paper does not print it."""

    paper: str
    table: str
    row: str
    over: str
    column: str
    points: float
    decimals: int
    starred: bool  # one of the two was taken from elsewhere


@dataclass(frozen=True)
class Coincidence:
    """Two rows, not declared to be the same, that print equal figures in every column in percent that they share."""

    paper: str
    first: RowOf
    second: RowOf
    columns: tuple[str, ...]


def checks(paper: Paper, tables: Iterable[str] | None = None) -> list[Check]:
    """Every recomputation: those that the paper's file declares, then k of n for every figure with a known n.

    Of figures in all tables, or in those named.
    """
    names = {table.id for table in paper.chosen(tables)}
    declared = (check for declaration in paper.recompute for check in declaration.checks(paper))
    return [check for check in (*declared, *share_checks(paper)) if check.table in names]


def gains(paper: Paper, tables: Iterable[str] | None = None) -> list[Gain]:
    """The differences that the tables' `gains` ask for, in points, over the columns in percent that both rows have."""
    found = []
    for table in paper.chosen(tables):
        for name, over in table.gains:
            base = table.row(over).cells
            rows = [table.row(name)] if name else [row for row in table.rows if row.name != over]
            for row in rows:
                pairs = [(cell, base[key]) for key, cell in row.cells.items() if key in base and cell.unit == "percent"]
                found += [_gain(ours, theirs) for ours, theirs in pairs]
    return found


def _gain(ours: Published, theirs: Published) -> Gain:
    decimals = max(ours.decimals, theirs.decimals)
    points = float(ours.exact - theirs.exact)
    starred = ours.starred or theirs.starred
    return Gain(ours.paper, ours.table, ours.row, theirs.row, ours.column, points, decimals, starred)


def coincidences(paper: Paper, tables: Iterable[str] | None = None) -> list[Coincidence]:
    """Pairs of rows that share at least FEWEST_EQUAL columns in percent and print equal figures in all of them.

    At least one of the two is in the tables named.
    """
    names = {table.id for table in paper.chosen(tables)}
    same = [set(entry.rows) for entry in paper.recompute if isinstance(entry, SameRows)]
    all_rows = [(RowOf(table.id, row.name), row) for table in paper.tables for row in table.rows]
    found = []
    for (first, a), (second, b) in combinations(all_rows, 2):
        columns = _equal_columns(a, b)
        if (
            names & {first.table, second.table}
            and len(columns) >= FEWEST_EQUAL
            and not any({first, second} <= group for group in same)
        ):
            found.append(Coincidence(paper.id, first, second, columns))
    return found


def _equal_columns(a: Row, b: Row) -> tuple[str, ...]:
    """The shared columns in percent, when all of them are equal."""
    shared = [key for key in a.cells if key in b.cells and a.cells[key].unit == b.cells[key].unit == "percent"]
    return tuple(shared) if all(a.cells[key].exact == b.cells[key].exact for key in shared) else ()
