"""What follows from a paper's figures: k of n, points over other rows, and which rows print the same figures.

Of 150 questions one can answer 32.00 % right, or 32.67 %, never 32.30 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from benchmarks.published.declared import Check, SameRows, check_of, meets
from benchmarks.published.figure import Published, RowOf
from benchmarks.published.model import Column, Paper, Row, Table

WHOLE = {"percent": 100, "fraction": 1}
# Rows that share fewer columns than this may well be equal by chance.
FEWEST_EQUAL = 3


@dataclass(frozen=True)
class Fit:
    """How many of a column's figures are k of n, over the tables that have the column."""

    paper: str
    column: str
    what: str  # what is counted: questions, pairs
    n: int
    figures: int
    fitting: int


def nearest(figure: Published, n: int) -> tuple[int, Fraction]:
    """(k, k/n in the figure's unit): the share of n that lies nearest to the print."""
    whole = WHOLE[figure.unit]
    k = round(figure.exact * n / whole)
    return k, Fraction(k * whole, n)


def fits_n(figure: Published, n: int) -> bool:
    """Whether some k of n rounds to the print."""
    share = nearest(figure, n)[1]
    return meets(figure, share, share)


def tells(figure: Published, n: int) -> bool:
    """Whether k of n can fail to fit: where two shares lie closer than one printed digit, every print fits."""
    return Fraction(WHOLE[figure.unit], n) > 2 * figure.half


def share_checks(paper: Paper) -> Iterator[Check]:
    """One check a figure of a column with known n that its digits can decide.

    Against the column's first n. Where that fails the remark says which other n would do: another of the column's own
    (pairs instead of questions), or that of another column of the table, as when cells are shifted.
    """
    for table in paper.tables:
        for column in table.columns:
            if not column.n or column.unit not in WHOLE:
                continue
            what, n = next(iter(column.n.items()))
            for row in table.rows:
                figure = row.cells.get(column.key)
                if figure is None or figure.unit not in WHOLE or not tells(figure, n):
                    continue
                k, share = nearest(figure, n)
                agrees = fits_n(figure, n)
                remark = "" if agrees else _explained(figure, column, table)
                yield check_of(figure, "k of n", f"{k} of {n} {what}", share, agrees, remark)


def _explained(figure: Published, column: Column, table: Table) -> str:
    """What else the figure could be a share of: the column's own other counts first, one text a share."""
    own = [(n, 0, f" {what}") for what, n in column.n.items()]
    # Smallest n first, and a column's first n before its others: the plainest reading of a share names it.
    others = sorted(
        (n, place, f", as in {other.key}")
        for other in table.columns
        if other.key != column.key and other.unit in WHOLE
        for place, n in enumerate(other.n.values())
    )
    counts: dict[Fraction, str] = {}
    for n, _, what in (*own, *others):
        if tells(figure, n) and fits_n(figure, n):
            k, share = nearest(figure, n)
            counts.setdefault(share, f"{k} of {n}{what}")
    reasons = [f"but {' or '.join(counts.values())}"] if counts else []
    return "; ".join([*reasons, *(["starred: taken from elsewhere"] if figure.starred else [])])


def fits(paper: Paper, tables: Iterable[str] | None = None) -> list[Fit]:
    """For every column and each n that it may have, how many of the figures that can tell are k of n.

    Over all tables, or those named.
    """
    figures: dict[tuple[str, str, int], list[Published]] = {}
    for table in paper.chosen(tables):
        for column in table.columns:
            if column.unit not in WHOLE:
                continue
            for what, n in column.n.items():
                cells = [row.cells[column.key] for row in table.rows if column.key in row.cells]
                figures.setdefault((column.key, what, n), []).extend(
                    cell for cell in cells if cell.unit in WHOLE and tells(cell, n)
                )
    return [
        Fit(paper.id, column, what, n, len(cells), sum(fits_n(cell, n) for cell in cells))
        for (column, what, n), cells in figures.items()
    ]


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
    differences = []
    for table in paper.chosen(tables):
        for gain in table.gains:
            base = table.row(gain.over).cells
            rows = [table.row(gain.row)] if gain.row else [row for row in table.rows if row.name != gain.over]
            for row in rows:
                pairs = [(cell, base[key]) for key, cell in row.cells.items() if key in base and cell.unit == "percent"]
                differences += [_gain(ours, theirs) for ours, theirs in pairs]
    return differences


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
    equal = []
    for (first, a), (second, b) in combinations(all_rows, 2):
        columns = _equal_columns(a, b)
        if (
            names & {first.table, second.table}
            and len(columns) >= FEWEST_EQUAL
            and not any({first, second} <= group for group in same)
        ):
            equal.append(Coincidence(paper.id, first, second, columns))
    return equal


def _equal_columns(a: Row, b: Row) -> tuple[str, ...]:
    """The shared columns in percent, when all of them are equal."""
    shared = [key for key in a.cells if key in b.cells and a.cells[key].unit == b.cells[key].unit == "percent"]
    return tuple(shared) if all(a.cells[key].exact == b.cells[key].exact for key in shared) else ()
