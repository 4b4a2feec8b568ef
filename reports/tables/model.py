"""A table before it has a layout: rows of figures with intervals, numbers of samples, marks and footnotes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from string import ascii_lowercase
from typing import Literal

UNDEFINED = "–"
FIGURE_SPACE, PUNCTUATION_SPACE = "\u2007", "\u2008"  # as wide as a digit, as a point
Where = Literal["ours", "published", "difference", "gain"]
Rank = Literal["", "best", "second"]
# unit -> digits after the point of figures of ours; a published column has as many as its longest print.
DECIMALS = {"percent": 2, "points": 2, "nats": 3, "tokens": 1, "count": 0, "s": 3}


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def plain(text: str) -> str:
    """A text of somebody's run on one line, without control characters and turns of the writing direction."""
    return _CONTROL.sub(" ", text)


@dataclass(frozen=True)
class Cell:
    """One figure in the unit of its column, None or NaN where undefined; `low`, `high`: 95 % interval, or None.

    `printed`: a published figure's digits, kept as they are. `n`: the samples that it rests on. `show_n`: they are
    said in the cell, since they are not those of the whole column or row. `notes`: footnotes.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    decimals: int = 2
    printed: str = ""
    signed: bool = False
    p_value: bool = False
    starred: bool = False
    rank: Rank = ""
    show_n: bool = False
    notes: tuple[str, ...] = ()

    @property
    def defined(self) -> bool:
        return self.value is not None and math.isfinite(self.value)

    @property
    def figure(self) -> str:
        """`82.61`, `+1.20`, `< 0.001`; a dash where undefined."""
        if not self.defined:
            return UNDEFINED
        if self.printed:
            return self.printed
        if self.p_value and self.value is not None and self.value < 0.001:
            return "< 0.001"
        return self._written(self.value, self.signed)

    @property
    def interval(self) -> str:
        """`[80.10, 84.90]`, or nothing."""
        if not self.defined or self.low is None or self.high is None or not math.isfinite(self.low + self.high):
            return ""
        return f"[{self._written(self.low)}, {self._written(self.high)}]"

    @property
    def count(self) -> str:
        """`n 198` where the cell has to say it."""
        return f"n {self.n:,}" if self.show_n and self.n is not None else ""

    def minus(self, published: float) -> Cell:
        """The difference from a published figure, whose own uncertainty is unknown: the interval is ours, moved."""
        if self.value is None:
            return Cell(None)
        low, high = (None if end is None else end - published for end in (self.low, self.high))
        return Cell(self.value - published, low, high, self.n, self.decimals, signed=True)

    def _written(self, value: float | None, signed: bool = False) -> str:
        rounded = round(value or 0.0, self.decimals) + 0.0  # no "-0.00"
        text = f"{rounded:{'+' if signed else ''}.{self.decimals}f}"
        return text.replace("-", "−")


@dataclass(frozen=True)
class Column:
    """`n`: of every own figure of the column, None where they differ or the rows say it."""

    key: str
    title: str
    unit: str = "percent"
    n: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The title with its unit, unless that is percent, which the caption says, or the title itself."""
        return self.title if self.unit in ("percent", "points", "") else f"{self.title} ({self.unit})"


@dataclass(frozen=True)
class Row:
    """`cells` by column key; a column in which nothing was printed or measured is absent."""

    label: str
    source: Where
    cells: Mapping[str, Cell]
    group: str = ""
    n: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """`about`: what holds of the whole table, below its footnotes. `stub`: head of the row labels."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    stub: str = "model"
    about: tuple[str, ...] = ()

    @cached_property
    def marks(self) -> dict[str, str]:
        """Text of a footnote -> its mark, in reading order."""
        return {text: mark(i) for i, text in enumerate(dict.fromkeys(self._notes()))}

    def _notes(self) -> Iterator[str]:
        """Footnotes in reading order."""
        for column in self.columns:
            yield from column.notes
        for row in self.rows:
            yield from row.notes
            for column in self.columns:
                yield from row.cells[column.key].notes if column.key in row.cells else ()

    @property
    def sources(self) -> tuple[Where, ...]:
        return tuple(dict.fromkeys(row.source for row in self.rows))

    @property
    def shows_source(self) -> bool:
        """Whether rows have to say whose figures they are."""
        return len(self.sources) > 1

    @property
    def shows_n(self) -> bool:
        """Whether there is a column with the n of each row."""
        return any(row.n is not None for row in self.rows)

    @property
    def starred(self) -> bool:
        return any(cell.starred for row in self.rows for cell in row.cells.values())

    @property
    def stubs(self) -> list[str]:
        """Heads of what stands before the figures of a row; see `before`."""
        return [self.stub, *(["figures"] if self.shows_source else []), *(["n"] if self.shows_n else [])]

    def before(self, row: Row, label: str) -> list[str]:
        """The label as a layout writes it, and, where the table shows them, whose figures the row has and its n."""
        n = ["" if row.n is None else f"{row.n:,}"] if self.shows_n else []
        return [label, *([row.source] if self.shows_source else []), *n]

    def groups(self) -> Iterator[tuple[str, list[Row]]]:
        """(title or "", the rows below it) in their order."""
        for title, rows in groupby(self.rows, key=lambda row: row.group):
            yield title, list(rows)

    def footnotes(self, mark: str, escaped: Callable[[str], str]) -> list[str]:
        """Every line below the table. mark: how a layout writes one, `<sup>{}</sup> `; escaped: its texts."""
        starred = [f"{escaped('*')} taken from elsewhere by the paper itself"] if self.starred else []
        marked = [mark.format(letters) + escaped(text) for text, letters in self.marks.items()]
        return [*marked, *starred, *map(escaped, self.about)]

    def marked(self, notes: Sequence[str]) -> str:
        """`a,c`: the marks of these footnotes."""
        return ",".join(self.marks[note] for note in notes)

    def padding(self, column: Column) -> tuple[int, int]:
        """(most characters before the point, most after it) of the column's figures, for aligning them."""
        figures = [row.cells[column.key].figure for row in self.rows if column.key in row.cells]
        split = [figure.partition(".") for figure in figures]
        return max((len(whole) for whole, _, _ in split), default=0), max((len(part) for *_, part in split), default=0)


def mark(i: int) -> str:
    """a .. z, aa, ab, .."""
    return (mark(i // 26 - 1) if i >= 26 else "") + ascii_lowercase[i % 26]


def padded(figure: str, width: tuple[int, int]) -> tuple[str, str]:
    """Spaces (of a digit's width) before and after a figure, so that the points of a column stand below each other."""
    whole, point, part = figure.partition(".")
    behind = FIGURE_SPACE * (width[1] - len(part)) + (PUNCTUATION_SPACE if width[1] and not point else "")
    return FIGURE_SPACE * (width[0] - len(whole)), behind


def n_in_heads(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """The n that most of our figures of a column have in its head, another one in the cell that rests on it."""
    heads = []
    for column in columns:
        cells = [row.cells[column.key] for row in rows if row.source == "ours" and column.key in row.cells]
        counts = Counter(cell.n for cell in cells if cell.n is not None)
        heads.append(replace(column, n=max(counts, key=lambda n: (counts[n], n)) if counts else None))
    usual = {head.key: head.n for head in heads}
    return tuple(heads), tuple(_with_n(row, usual) for row in rows)


def _with_n(row: Row, usual: Mapping[str, int | None]) -> Row:
    """What is published rests on the published n, which is not ours to repeat."""
    if row.source == "published":
        return row
    cells = {
        key: replace(cell, show_n=cell.n is not None and cell.n != usual.get(key)) for key, cell in row.cells.items()
    }
    return replace(row, cells=cells)


def n_in_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """n beside the row's label where all its figures have one, else in each cell."""
    counted = []
    for row in rows:
        counts = {cell.n for cell in row.cells.values() if cell.n is not None}
        cells = {key: replace(cell, show_n=len(counts) > 1 and cell.n is not None) for key, cell in row.cells.items()}
        counted.append(replace(row, cells=cells, n=counts.pop() if len(counts) == 1 else None))
    return tuple(counted)


def estimate(
    metric: Mapping | None, unit: str, *, signed: bool = False, notes: tuple[str, ...] = (), decimals: int | None = None
) -> Cell:
    """A cell of {mean, ci, n}, in fractions for percent and points; undefined for None."""
    if metric is None:
        return Cell(None, notes=notes)
    scale = 100 if unit in ("percent", "points") else 1
    low, high = (None, None) if metric.get("ci") is None else (scale * bound for bound in metric["ci"])
    value = None if metric["mean"] is None else scale * metric["mean"]
    digits = DECIMALS.get(unit, 3) if decimals is None else decimals
    return Cell(value, low, high, int(metric["n"]), digits, signed=signed, notes=notes)
