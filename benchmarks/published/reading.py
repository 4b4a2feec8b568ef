"""One TOML file to one paper: pydantic tells its shape, here names become what they name. Errors name the place."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.published.declared import Declared
from benchmarks.published.entries import Entry, Printed, first_fault, pick
from benchmarks.published.figure import Published, digits_of
from benchmarks.published.model import TASKS, Column, Head, Paper, Row, Table
from perception_gap.errors import UsageError


class File(Entry):
    """The layout of docs/published.md."""

    paper: Head
    columns: dict[str, Column]
    tables: dict[str, Table]
    recompute: tuple[Declared, ...] = ()


def read(path: Path) -> Paper:
    """The paper in a file of the layout of docs/published.md. UsageError where it is anything else."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Printed)
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, nested or long beyond Python's limits
        raise UsageError(f"{path}: not TOML ({error}); see docs/published.md for the layout") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a TOML file of published figures") from None
    with _at(str(path)):
        try:
            file = File.model_validate(data)
        except ValidationError as error:
            raise UsageError(first_fault(error, data)) from None
        return _paper(file)


def _paper(file: File) -> Paper:
    """Each recomputation runs once, so that a name that leads nowhere shows here."""
    tasks = dict.fromkeys((*TASKS, *file.paper.other_tasks))
    for key, column in file.columns.items():
        column.key = key
        if column.task is not None:
            with _at(f"columns.{key}.task"):
                pick(column.task, tasks, "lmms-eval task here, nor in other_tasks of [paper],")
    for key, table in file.tables.items():
        table.id = key
        with _at(f"tables.{key}"):
            table.columns = tuple(pick(name, file.columns, "[columns.NAME]") for name in table.names)
            table.require_names()
        for row in table.rows:
            row.cells = _cells(file.paper.id, table, row)
    paper = Paper.model_construct(**dict(file.paper), tables=tuple(file.tables.values()), recompute=file.recompute)
    for number, declared in enumerate(paper.recompute, start=1):
        with _at(f"recompute.{number}"):
            list(declared.checks(paper))
    return paper


def _cells(paper: str, table: Table, row: Row) -> dict[str, Published]:
    """The row's figures by column, in the order of the table's columns."""
    cells = {}
    about: dict[str, Any] = {"paper": paper, "table": table.id, "row": row.name}
    about |= {name: getattr(row, name) for name in ("model", "params", "variant", "group")}
    for column in (column for column in table.columns if column.key in row.values):
        key, unit, n = column.key, row.unit or column.unit, next(iter(column.n.values()), None)
        with _at(f"tables.{table.id}.rows.{row.name!r}.{key}"):
            printed = digits_of(row.values[key], unit)
        of_column: dict[str, Any] = {"column": key, "task": column.task, "split": column.split, "n": n}
        cells[key] = Published(printed=printed, unit=unit, starred=key in row.starred, **about, **of_column)
    return cells


@contextmanager
def _at(place: str) -> Iterator[None]:
    """What is wrong inside, with its place."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
