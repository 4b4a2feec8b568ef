"""Papers by id or by file, and one figure, one task's figures or all figures of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.published.entries import pick
from benchmarks.published.figure import CellOf, Published
from benchmarks.published.model import RECORD, Paper
from benchmarks.published.reading import read
from perception_gap.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

PAPERS = Path(__file__).with_name("papers")


def papers() -> tuple[str, ...]:
    """The ids of the papers that ship with the package."""
    return tuple(sorted(path.stem for path in PAPERS.glob("*.toml")))


def load(paper: str | Path | Paper) -> Paper:
    """The paper of an id, or of a TOML file of one's own. UsageError with near matches for anything else."""
    if isinstance(paper, Paper):
        return paper
    name = str(paper)
    if name in papers():
        return _shipped(name)
    path = Path(paper)
    if path.suffix == ".toml" or path.exists():
        return read(path)
    try:
        return _shipped(pick(name, {known: known for known in papers()}, "paper"))
    except UsageError as error:
        raise UsageError(f"{error}, or a file NAME.toml") from None


@cache
def _shipped(name: str) -> Paper:
    return read(PAPERS / f"{name}.toml")


def value(paper: str | Path | Paper, table: str, row: str, column: str) -> Published | None:
    """One figure; None where the paper prints none. UsageError with near matches for a name that it does not have."""
    return load(paper).cell(CellOf(table, row, column))


def for_task(task: str, among: Iterable[str | Path | Paper] | None = None) -> list[Published]:
    """Every figure of an lmms-eval task, in the order of papers, tables and rows; empty where none was published.

    Each has model, params, variant, group, value, printed, n, starred, paper and table. `among` takes papers other
    than those that ship. One model may occur in several tables (`variant` and `table` tell them apart).
    """
    chosen = papers() if among is None else among
    return [figure for paper in chosen for figure in load(paper).figures() if figure.task == task]


def records(paper: str | Path | Paper, tables: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
    """One dict a figure, tidy: where it stands, what it is, and the row's settings under their own names."""
    for table in load(paper).chosen(tables):
        for row in table.rows:
            for figure in row.cells.values():
                yield {name: getattr(figure, name) for name in RECORD} | dict(row.settings)


def frame(among: Iterable[str | Path | Paper] | None = None, tables: Iterable[str] | None = None) -> pd.DataFrame:
    """The records of papers (those that ship) as a DataFrame: one row a figure; settings that a row lacks are NaN."""
    import pandas as pd

    chosen = papers() if among is None else among
    names = None if tables is None else list(tables)
    return pd.DataFrame([record for paper in chosen for record in records(paper, names)])
