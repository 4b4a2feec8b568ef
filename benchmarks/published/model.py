"""What a paper printed: papers have tables, tables have rows, a row has one figure a column, or none."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import NamedTuple, TypeVar

from perception_gap.errors import UsageError

Entry = TypeVar("Entry")

# unit -> (smallest, largest) value; None: unbounded. "setting" may also be text or true/false.
UNITS: dict[str, tuple[float | None, float | None]] = {
    "percent": (0, 100),
    "points": (-100, 100),
    "fraction": (0, 1),
    "ratio": (0, None),
    "nats": (0, None),
    "cosine distance": (0, 2),
    "count": (0, None),
    "tokens": (0, None),
    "words": (0, None),
    "pixels": (0, None),
    "setting": (None, None),
}
# lmms-eval task ids of the suites here; a file that uses another one lists it in `other_tasks`.
TASKS = (
    "mmvp",
    "vstar_bench_direct_attributes",
    "blink_relative_depth",
    "blink_iq_test",
    "blink_relative_reflectance",
    "blink_spatial_relation",
    "mmstar",
)
# What the tidy table says of every figure, in this order; a row's settings follow under their own names.
RECORD = (
    "paper", "table", "row", "group", "model", "params", "variant", "column", "task",
    "value", "printed", "unit", "starred", "split", "n",
)  # fmt: skip


class RowOf(NamedTuple):
    """Names a row of a table."""

    table: str
    row: str


class CellOf(NamedTuple):
    """Names a cell of a table."""

    table: str
    row: str
    column: str


@dataclass(frozen=True)
class Column:
    """A column's meaning. `n`: what is counted -> how many, the first being what a figure is taken to be a share of."""

    key: str
    title: str
    unit: str
    task: str | None = None
    split: str = ""
    n: Mapping[str, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class Published:
    """One figure as printed, with everything that says where it stands and what it is."""

    paper: str
    table: str
    row: str
    column: str
    printed: str
    unit: str
    starred: bool  # the paper itself took it from elsewhere
    model: str = ""
    params: str = ""
    variant: str = ""
    group: str = ""
    task: str | None = None
    split: str = ""
    n: int | None = None

    @property
    def value(self) -> float:
        """The figure in its unit; NaN for text."""
        try:
            return float(self.exact)
        except ValueError:
            return float("nan")

    @property
    def exact(self) -> Fraction:
        """The printed digits without binary rounding. ValueError for text."""
        return Fraction(self.printed)

    @property
    def decimals(self) -> int:
        """Printed digits after the point, 6 for 5e-6."""
        mantissa, _, exponent = self.printed.lower().partition("e")
        return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))

    @property
    def half(self) -> Fraction:
        """Half a unit of the last printed digit: how far the value may lie from the print. A count is exact: 0."""
        return Fraction(0) if self.unit == "count" else Fraction(1, 2 * 10**self.decimals)


@dataclass(frozen=True)
class Row:
    """`name` is unique in its table: the model, its size and its variant, or what the row is about."""

    name: str
    group: str
    model: str
    params: str
    variant: str
    settings: Mapping[str, int | float | str]
    cells: Mapping[str, Published]  # by column key; a figure that the paper does not print is absent


@dataclass(frozen=True)
class Table:
    """`gains`: (row or None for every other row, row it is compared with), both by name."""

    id: str
    title: str
    settings: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    gains: tuple[tuple[str | None, str], ...] = ()

    def row(self, name: str) -> Row:
        """UsageError with near matches when there is no such row."""
        return pick(name, {row.name: row for row in self.rows}, f"row of {self.id}")

    def column(self, key: str) -> Column:
        """UsageError with near matches when there is no such column."""
        return pick(key, {column.key: column for column in self.columns}, f"column of {self.id}")


@dataclass(frozen=True)
class Paper:
    """`recompute` holds what the file declares to be computable from other figures (`recompute.py`)."""

    id: str
    title: str
    source: str
    date: datetime.date
    arxiv: str
    note: str
    tables: tuple[Table, ...]
    recompute: tuple = ()

    def table(self, name: str) -> Table:
        """UsageError with near matches when there is no such table."""
        return pick(name, {table.id: table for table in self.tables}, f"table of {self.id}")

    def chosen(self, names: Iterable[str] | None) -> tuple[Table, ...]:
        """The tables of those names, all of them for None. UsageError with near matches for an unknown one."""
        return self.tables if names is None else tuple(self.table(name) for name in dict.fromkeys(names))

    def cell(self, at: CellOf) -> Published | None:
        """None where the paper prints nothing. UsageError with near matches for an unknown table, row or column."""
        table = self.table(at.table)
        return table.row(at.row).cells.get(table.column(at.column).key)

    def figures(self, tables: Iterable[str] | None = None) -> Iterator[Published]:
        """Every figure, of all tables or those named: table by table, row by row, in the order of the columns."""
        for table in self.chosen(tables):
            for row in table.rows:
                yield from row.cells.values()


def pick(name: str, among: Mapping[str, Entry], kind: str) -> Entry:
    """The entry of that name, or a UsageError that names what is near, else all there is."""
    if name in among:
        return among[name]
    near = get_close_matches(name, among, n=3, cutoff=0.5)
    raise UsageError(f"no {kind} {name!r}: expected {'one like ' if near else ''}{', '.join(near or among) or 'none'}")
