"""What a paper printed: papers have tables, tables have rows, a row has one figure a column, or none."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, Strict, model_validator

from benchmarks.published.declared import Declared
from benchmarks.published.entries import Entry, LayoutError, Texts, pick
from benchmarks.published.figure import UNITS, CellOf, Published

# lmms-eval task ids of the suite `paper`; a file that uses another one lists it in `other_tasks`.
TASKS = (
    *("mmvp", "vstar_bench_direct_attributes", "blink_relative_depth", "blink_iq_test"),
    *("blink_relative_reflectance", "blink_spatial_relation", "mmstar"),
)
# What the tidy table says of every figure, in this order; a row's settings follow under their own names.
RECORD = (
    *("paper", "table", "row", "group", "model", "params", "variant", "column", "task"),
    *("value", "printed", "unit", "starred", "split", "n"),
)


def _counts(n: Any) -> Any:
    return n if isinstance(n, dict) else {"questions": n}


def _unit(unit: str) -> str:
    pick(unit, UNITS, "unit")
    return unit


Unit = Annotated[str, AfterValidator(_unit)]


class Column(Entry):
    """A column's meaning. key: its name in the file.

    n: what is counted -> how many, the first being what a figure is taken to be a share of.
    """

    title: str
    unit: Unit
    task: str | None = None
    split: str = ""
    n: Annotated[dict[str, Annotated[PositiveInt, Strict()]], BeforeValidator(_counts)] = Field({})
    note: str = ""
    key: str = Field("", exclude=True)


class Row(Entry):
    """values: by column key, as in the file. cells: the same as figures; what the paper does not print is absent."""

    values: dict[str, Any]
    given: str = Field("", alias="name")
    model: str = ""
    params: str = ""
    variant: str = ""
    group: str = ""
    settings: dict[str, Any] = Field({})
    starred: Texts = ()
    unit: Unit | None = None
    cells: dict[str, Published] = Field({}, exclude=True)

    @property
    def name(self) -> str:
        """Unique in its table: the model, its size and its variant, or what the row is about."""
        return self.given or ", ".join(filter(None, (f"{self.model} {self.params}".strip(), self.variant)))

    @model_validator(mode="after")
    def require_names(self) -> Self:
        if not self.name:
            raise LayoutError("has no name; expected `name`, or `model` with `params` and `variant`")
        for key in self.starred:
            pick(key, self.values, "starred column")
        for key, value in self.settings.items():
            if key in RECORD:
                raise LayoutError(f"settings: {key!r} is the name of a column of the tidy table; expected another name")
            if not isinstance(value, int | float | str):
                raise LayoutError(f"settings: {key} is {value!r}; expected a number or a text")
        return self


class GainOf(Entry):
    """A row, or every other row for None, over the row that it is compared with, both by name."""

    over: str
    row: str | None = None


class Table(Entry):
    """names: what the file has as `columns`. columns: what these mean; no key of the file sets them."""

    title: str
    names: Texts = Field(alias="columns")
    rows: tuple[Row, ...]
    settings: str = ""
    note: str = ""
    gains: tuple[GainOf, ...] = ()
    id: str = Field("", exclude=True)
    columns: tuple[Column, ...] = Field((), exclude=True, alias="")

    def require_names(self) -> None:
        """LayoutError for a row that stands twice, and rows and columns that are named and not there."""
        rows: dict[str, Row] = {}
        for row in self.rows:
            if row.name in rows:
                raise LayoutError(f"row {row.name!r} appears twice; expected one row of a name: give it a variant")
            rows[row.name] = row
            for key in row.values:
                pick(key, dict.fromkeys(self.names), f"column for row {row.name!r}:")
        for gain in self.gains:
            for name in filter(None, (gain.over, gain.row)):
                pick(name, rows, "row in gains")

    def row(self, name: str) -> Row:
        """UsageError with near matches when there is no such row."""
        return pick(name, {row.name: row for row in self.rows}, f"row of {self.id}")

    def column(self, key: str) -> Column:
        """UsageError with near matches when there is no such column."""
        return pick(key, {column.key: column for column in self.columns}, f"column of {self.id}")


class Head(Entry):
    """What the file says of the paper itself."""

    id: str
    title: str
    source: str
    date: Annotated[datetime.date, Strict()]
    arxiv: str = ""
    note: str = ""
    other_tasks: Texts = ()


class Paper(Head):
    """`recompute` holds what the file declares to be computable from other figures (`declared.py`)."""

    tables: tuple[Table, ...]
    recompute: tuple[Declared, ...] = ()

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
