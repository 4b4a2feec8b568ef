"""Is a printed accuracy k of n questions? Of 150 questions one can answer 32.00 % right, or 32.67 %, never 32.30 %."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.published.check import Check, check_of, meets
from benchmarks.published.model import Column, Paper, Published, Table

WHOLE = {"percent": 100, "fraction": 1}


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
    own = [(n, 0, f" {what}") for what, n in (column.n or {}).items()]
    # Smallest n first, and a column's first n before its others: the plainest reading of a share names it.
    others = sorted(
        (n, place, f", as in {other.key}")
        for other in table.columns
        if other.key != column.key and other.unit in WHOLE
        for place, n in enumerate((other.n or {}).values())
    )
    found: dict[Fraction, str] = {}
    for n, _, what in (*own, *others):
        if tells(figure, n) and fits_n(figure, n):
            k, share = nearest(figure, n)
            found.setdefault(share, f"{k} of {n}{what}")
    reasons = [f"but {' or '.join(found.values())}"] if found else []
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
            for what, n in (column.n or {}).items():
                cells = [row.cells[column.key] for row in table.rows if column.key in row.cells]
                figures.setdefault((column.key, what, n), []).extend(
                    cell for cell in cells if cell.unit in WHOLE and tells(cell, n)
                )
    return [
        Fit(paper.id, column, what, n, len(cells), sum(fits_n(cell, n) for cell in cells))
        for (column, what, n), cells in figures.items()
    ]
