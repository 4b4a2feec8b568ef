"""The recomputations that a paper's file declares (`[[recompute]]`): each gives its checks, cell by cell.

A printed figure stands for an interval: half a unit of its last digit to either side. A recomputation takes the
intervals of its inputs, in fractions, and agrees when its own interval meets that of the print: it disagrees only
where no rounding of the inputs explains the print.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from benchmarks.published.entries import Entry, LayoutError, pick
from benchmarks.published.figure import CellOf, Published, RowOf
from perception_gap.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.published.model import Paper


@dataclass(frozen=True, kw_only=True)
class Check(Published):
    """A figure and its recomputation: `recomputed` follows from the digits as printed; `agrees` allows for rounding."""

    kind: str
    what: str
    recomputed: float
    agrees: bool
    remark: str = ""

    @property
    def shown(self) -> str:
        """`recomputed` to the printed digits, and one more where it would look the same as a print it is not."""
        text = f"{self.recomputed:.{self.decimals}f}"
        return text if self.agrees or text != self.printed else f"{self.recomputed:.{self.decimals + 1}f}"


def meets(figure: Published, low: Fraction, high: Fraction) -> bool:
    """Whether the interval of a print and low..high have a value in common."""
    return low <= figure.exact + figure.half and high >= figure.exact - figure.half


def check_of(figure: Published, kind: str, what: str, recomputed: Fraction, agrees: bool, remark: str = "") -> Check:
    """The check of one cell."""
    return Check(**vars(figure), kind=kind, what=what, recomputed=float(recomputed), agrees=agrees, remark=remark)


def _place(value: Any, to: type[CellOf] | type[RowOf]) -> Any:
    if not (isinstance(value, list) and len(value) == len(to._fields) and all(type(part) is str for part in value)):
        raise LayoutError(f"is {value!r}; expected [{', '.join(to._fields)}]")
    return to(*value)


RowRef = Annotated[RowOf, BeforeValidator(lambda value: _place(value, RowOf))]
CellRef = Annotated[CellOf, BeforeValidator(lambda value: _place(value, CellOf))]


class OfColumn(Entry):
    """What a claim about a whole column names."""

    table: str
    column: str


class Ratio(OfColumn):
    """In every row, `column` is `of` divided by `over`: a coefficient of variation is the deviation over the mean."""

    kind: Literal["ratio"]
    of: str
    over: str

    def checks(self, paper: Paper) -> Iterator[Check]:
        """Rows that lack one of the three are passed over. UsageError where the divisor may be 0."""
        for row in paper.table(self.table).rows:
            places = [CellOf(self.table, row.name, key) for key in (self.column, self.of, self.over)]
            if any(paper.cell(at) is None for at in places):
                continue
            figure, of, over = (needed(paper, at) for at in places)
            if over.exact <= over.half:
                raise UsageError(
                    f"{self.table}, {row.name}: {over.printed} in {self.over} may be 0: nothing to divide by"
                )
            low, high = (of.exact - of.half) / (over.exact + over.half), (of.exact + of.half) / (over.exact - over.half)
            what = f"{of.printed} / {over.printed}"
            yield check_of(figure, self.kind, what, of.exact / over.exact, meets(figure, low, high))


class Share(OfColumn):
    """In every row, `column` is the percentage that the count in `of` is of that column's total."""

    kind: Literal["share"]
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


class Total(OfColumn):
    """The figures of a column add up to what is printed at `cell`."""

    kind: Literal["total"]
    cell: CellRef

    def checks(self, paper: Paper) -> Iterator[Check]:
        """One check. Rows without the figure add nothing."""
        key = paper.table(self.table).column(self.column).key
        cells = [row.cells[key] for row in paper.table(self.table).rows if key in row.cells]
        total = sum((cell.exact for cell in cells), Fraction(0))
        slack = sum((cell.half for cell in cells), Fraction(0))
        figure = needed(paper, self.cell)
        what = f"sum of {len(cells)} figures of {self.table}"
        yield check_of(figure, self.kind, what, total, meets(figure, total - slack, total + slack))


class LargestGain(Entry):
    """`cell` is the largest difference, over the columns in percent, between `row` and `over`."""

    kind: Literal["largest gain"]
    cell: CellRef
    row: RowRef
    over: RowRef

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


class SameRows(Entry):
    """One model in one setting, printed in several tables: the further rows agree with the first where both have it."""

    kind: Literal["same rows"]
    rows: Annotated[tuple[RowRef, ...], Field(min_length=2)]

    def checks(self, paper: Paper) -> Iterator[Check]:
        """A check for every column that a further row shares with the first."""
        first, *others = (paper.table(at.table).row(at.row).cells for at in self.rows)
        for cells in others:
            yield from (_same(cells[key], first[key], self.kind) for key in first if key in cells)


class SameCells(Entry):
    """One quantity, printed in several places: each further cell agrees with the first."""

    kind: Literal["same cells"]
    cells: Annotated[tuple[CellRef, ...], Field(min_length=2)]

    def checks(self, paper: Paper) -> Iterator[Check]:
        """A check for every further cell."""
        first, *others = (needed(paper, at) for at in self.cells)
        yield from (_same(other, first, self.kind) for other in others)


KINDS = ("ratio", "share", "total", "largest gain", "same rows", "same cells")


def _known_kind(entry: Any) -> Any:
    pick(entry.get("kind") if isinstance(entry, dict) else None, dict.fromkeys(KINDS), "kind")
    return entry


_AnyKind = Annotated[Ratio | Share | Total | LargestGain | SameRows | SameCells, Field(discriminator="kind")]
Declared = Annotated[_AnyKind, BeforeValidator(_known_kind)]


def _same(figure: Published, first: Published, kind: str) -> Check:
    """Equal, or the coarser print is a rounding of the finer one."""
    slack = Fraction(0) if figure.decimals == first.decimals else max(figure.half, first.half)
    agrees = abs(figure.exact - first.exact) <= slack
    return check_of(figure, kind, f"printed in {first.table}, {first.row}", first.exact, agrees)


def needed(paper: Paper, at: CellOf) -> Published:
    """The figure at a cell; UsageError where the paper prints none, or one that is no number."""
    figure = paper.cell(at)
    if figure is None or figure.value != figure.value:
        printed = "nothing" if figure is None else repr(figure.printed)
        raise UsageError(f"{'/'.join(at)}: {printed} is printed there; a recomputation needs a cell with a number")
    return figure
