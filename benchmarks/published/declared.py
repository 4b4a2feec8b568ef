"""The recomputations that a paper's file declares (`[[recompute]]`): each gives its checks, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from benchmarks.published.check import Check, check_of, meets
from benchmarks.published.model import CellOf, Paper, Published, RowOf
from perception_gap.errors import UsageError


@dataclass(frozen=True)
class Ratio:
    """In every row, `column` is `of` divided by `over`: a coefficient of variation is the deviation over the mean."""

    kind: ClassVar[str] = "ratio"
    table: str
    column: str
    of: str
    over: str

    def checks(self, paper: Paper) -> Iterator[Check]:
        """Rows that lack one of the three are passed over. UsageError where the divisor may be 0."""
        for row in paper.table(self.table).rows:
            cells = [paper.cell(CellOf(self.table, row.name, key)) for key in (self.column, self.of, self.over)]
            if None in cells:
                continue
            figure, of, over = (numeric(cell, CellOf(self.table, row.name, "")) for cell in cells)
            if over.exact <= over.half:
                raise UsageError(
                    f"{self.table}, {row.name}: {over.printed} in {self.over} may be 0: nothing to divide by"
                )
            low, high = (of.exact - of.half) / (over.exact + over.half), (of.exact + of.half) / (over.exact - over.half)
            what = f"{of.printed} / {over.printed}"
            yield check_of(figure, self.kind, what, of.exact / over.exact, meets(figure, low, high))


@dataclass(frozen=True)
class Share:
    """In every row, `column` is the percentage that the count in `of` is of that column's total."""

    kind: ClassVar[str] = "share"
    table: str
    column: str
    of: str

    def checks(self, paper: Paper) -> Iterator[Check]:
        """Every row needs the count; a percentage may lack."""
        rows = paper.table(self.table).rows
        counts = {row.name: needed(paper, CellOf(self.table, row.name, self.of)) for row in rows}
        total = sum((count.exact for count in counts.values()), Fraction(0))
        if total == 0:
            raise UsageError(f"{self.table}: {self.of} adds up to 0: no share to take")
        for name, count in counts.items():
            figure = paper.cell(CellOf(self.table, name, self.column))
            if figure is not None:
                share = count.exact * 100 / total
                yield check_of(figure, self.kind, f"{count.printed} of {total}", share, meets(figure, share, share))


@dataclass(frozen=True)
class Total:
    """The figures of a column add up to what is printed at `cell`."""

    kind: ClassVar[str] = "total"
    table: str
    column: str
    cell: CellOf

    def checks(self, paper: Paper) -> Iterator[Check]:
        """One check. Rows without the figure add nothing."""
        key = paper.table(self.table).column(self.column).key
        cells = [row.cells[key] for row in paper.table(self.table).rows if key in row.cells]
        total = sum((cell.exact for cell in cells), Fraction(0))
        slack = sum((cell.half for cell in cells), Fraction(0))
        figure = needed(paper, self.cell)
        what = f"sum of {len(cells)} figures of {self.table}"
        yield check_of(figure, self.kind, what, total, meets(figure, total - slack, total + slack))


@dataclass(frozen=True)
class LargestGain:
    """`cell` is the largest difference, over the columns in percent, between `row` and `over`."""

    kind: ClassVar[str] = "largest gain"
    cell: CellOf
    row: RowOf
    over: RowOf

    def checks(self, paper: Paper) -> Iterator[Check]:
        """One check, whose remark names the column."""
        ours, theirs = (paper.table(at.table).row(at.row).cells for at in (self.row, self.over))
        both = [(ours[k], theirs[k]) for k in ours if k in theirs and ours[k].unit == theirs[k].unit == "percent"]
        if not both:
            raise UsageError(
                f"{'/'.join(self.row)} and {'/'.join(self.over)} share no column in percent: name two that do"
            )
        a, b = max(both, key=lambda pair: pair[0].exact - pair[1].exact)
        gain, slack = a.exact - b.exact, a.half + b.half
        figure = needed(paper, self.cell)
        agrees = meets(figure, gain - slack, gain + slack)
        yield check_of(figure, self.kind, f"{a.printed} - {b.printed}", gain, agrees, f"points, {a.column}")


@dataclass(frozen=True)
class SameRows:
    """One model in one setting, printed in several tables: the further rows agree with the first where both have it."""

    kind: ClassVar[str] = "same rows"
    rows: tuple[RowOf, ...]

    def checks(self, paper: Paper) -> Iterator[Check]:
        """A check for every column that a further row shares with the first."""
        first, *others = (paper.table(at.table).row(at.row).cells for at in self.rows)
        for cells in others:
            yield from (_same(cells[key], first[key], self.kind) for key in first if key in cells)


@dataclass(frozen=True)
class SameCells:
    """One quantity, printed in several places: each further cell agrees with the first."""

    kind: ClassVar[str] = "same cells"
    cells: tuple[CellOf, ...]

    def checks(self, paper: Paper) -> Iterator[Check]:
        """A check for every further cell."""
        first, *others = (needed(paper, at) for at in self.cells)
        yield from (_same(other, first, self.kind) for other in others)


Declared = Ratio | Share | Total | LargestGain | SameRows | SameCells
DECLARED: dict[str, type[Declared]] = {
    kind.kind: kind for kind in (Ratio, Share, Total, LargestGain, SameRows, SameCells)
}


def _same(figure: Published, first: Published, kind: str) -> Check:
    """Equal, or the coarser print is a rounding of the finer one."""
    slack = Fraction(0) if figure.decimals == first.decimals else max(figure.half, first.half)
    agrees = abs(figure.exact - first.exact) <= slack
    return check_of(figure, kind, f"printed in {first.table}, {first.row}", first.exact, agrees)


def needed(paper: Paper, at: CellOf) -> Published:
    """The number at a cell; UsageError where the paper prints none."""
    return numeric(paper.cell(at), at)


def numeric(figure: Published | None, at: CellOf) -> Published:
    """The figure, when it is a number."""
    if figure is None or figure.value != figure.value:
        found = "nothing" if figure is None else repr(figure.printed)
        raise UsageError(f"{'/'.join(at)}: {found} is printed there; a recomputation needs a cell with a number")
    return figure
