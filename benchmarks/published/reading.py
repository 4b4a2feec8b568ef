"""One TOML file to one paper, checked: an error names the file, the table, the row and what was expected."""

from __future__ import annotations

import dataclasses
import datetime
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.published.declared import DECLARED
from benchmarks.published.fields import Place, Printed, figure_text
from benchmarks.published.model import RECORD, TASKS, UNITS, CellOf, Column, Paper, Published, Row, RowOf, Table
from perception_gap.errors import UsageError

PAPER = {"id": str, "title": str, "source": str, "date": datetime.date}
PAPER_MORE = {"arxiv": str, "note": str, "other_tasks": list}
COLUMN = {"title": str, "unit": str}
COLUMN_MORE = {"task": str, "split": str, "n": (int, dict), "note": str}
TABLE = {"title": str, "columns": list, "rows": list}
TABLE_MORE = {"settings": str, "note": str, "gains": list}
ROW = {"values": dict}
ROW_MORE = {"name": str, "model": str, "params": str, "variant": str, "group": str, "settings": dict,
            "starred": list, "unit": str}  # fmt: skip


def read(path: Path) -> Paper:
    """The paper in a file of the layout of docs/published.md. UsageError where it is anything else."""
    place = Place(str(path))
    try:
        # Printed keeps the digits of a number: 32.0 and 32.00 say different things about what was rounded.
        data = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Printed)
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, nested or long beyond Python's limits
        raise place.wrong(f"not TOML ({error}); see docs/published.md for the layout") from None
    except OSError as error:
        raise place.wrong(f"cannot be read ({error.strerror}); give a TOML file of published figures") from None
    place.fields(data, {"paper": dict, "columns": dict, "tables": dict}, {"recompute": list})
    head = data["paper"]
    place.at("[paper]").fields(head, PAPER, PAPER_MORE)
    tasks = (*TASKS, *place.at("[paper]").texts(head.get("other_tasks", []), "other_tasks"))
    columns = {key: _column(key, entry, tasks, place.at(f"column {key}")) for key, entry in data["columns"].items()}
    tables = tuple(_table(head["id"], key, entry, columns, place) for key, entry in data["tables"].items())
    paper = Paper(
        head["id"], head["title"], head["source"], head["date"], head.get("arxiv", ""), head.get("note", ""), tables
    )
    return dataclasses.replace(paper, recompute=_declared(data.get("recompute", []), paper, place))


def _column(key: str, entry: Any, tasks: tuple[str, ...], place: Place) -> Column:
    place.fields(entry, COLUMN, COLUMN_MORE)
    place.one_of(entry["unit"], UNITS, "unit")
    if "task" in entry:
        place.one_of(entry["task"], tasks, "task", "; list another lmms-eval task in other_tasks of [paper]")
    n = entry.get("n")
    n = {"questions": n} if isinstance(n, int) else n
    for what, count in (n or {}).items():
        if type(count) is not int or count < 1:
            raise place.wrong(f"n of {what} is {count!r}; expected a whole number above 0")
    return Column(
        key, entry["title"], entry["unit"], entry.get("task"), entry.get("split", ""), n, entry.get("note", "")
    )


def _table(paper: str, key: str, entry: Any, columns: Mapping[str, Column], place: Place) -> Table:
    place = place.at(f"table {key}")
    place.fields(entry, TABLE, TABLE_MORE)
    for name in (names := place.texts(entry["columns"], "columns")):
        place.one_of(name, columns, "column", "; define it as [columns.NAME]")
    mine = {name: columns[name] for name in names}
    rows: dict[str, Row] = {}
    for number, item in enumerate(entry["rows"], start=1):
        row = _row((paper, key), item, mine, place, number)
        if row.name in rows:
            raise place.at(f"row {row.name!r}").wrong("appears twice; expected one row of a name: give it a variant")
        rows[row.name] = row
    gains = tuple(_gain(item, rows, place) for item in entry.get("gains", []))
    return Table(
        key, entry["title"], entry.get("settings", ""), entry.get("note", ""), tuple(mine.values()),
        tuple(rows.values()), gains,
    )  # fmt: skip


def _row(at: tuple[str, str], item: Any, columns: Mapping[str, Column], place: Place, number: int) -> Row:
    place.at(f"row {number}").fields(item, ROW, ROW_MORE)
    about = {key: item.get(key, "") for key in ("model", "params", "variant", "group")}
    name = item.get("name") or ", ".join(
        filter(None, (f"{about['model']} {about['params']}".strip(), about["variant"]))
    )
    if not name:
        raise place.at(f"row {number}").wrong("has no name; expected `name`, or `model` with `params` and `variant`")
    place = place.at(f"row {name!r}")
    starred = place.texts(item.get("starred", []), "starred")
    for key in starred:
        place.one_of(key, item["values"], "starred column")
    if "unit" in item:
        place.one_of(item["unit"], UNITS, "unit")
    for key in item["values"]:
        place.one_of(key, columns, "column")
    cells = {}
    for key, column in columns.items():
        if key not in item["values"]:
            continue
        unit = item.get("unit", column.unit)
        n = next(iter(column.n.values())) if column.n else None
        cells[key] = Published(
            *at, name, key, figure_text(item["values"][key], unit, place.at(key)), unit, key in starred,
            about["model"], about["params"], about["variant"], about["group"], column.task, column.split, n,
        )  # fmt: skip
    settings = {key: _setting(key, value, place.at("settings")) for key, value in item.get("settings", {}).items()}
    return Row(name, about["group"], about["model"], about["params"], about["variant"], settings, cells)


def _setting(key: str, value: Any, place: Place) -> int | float | str:
    if key in RECORD:
        raise place.wrong(f"{key!r} is the name of a column of the tidy table; expected another name")
    if isinstance(value, Printed):
        return float(value)
    if not isinstance(value, int | str):
        raise place.wrong(f"{key} is {value!r}; expected a number or a text")
    return value


def _gain(item: Any, rows: Mapping[str, Row], place: Place) -> tuple[str | None, str]:
    place = place.at("gains")
    place.fields(item, {"over": str}, {"row": str})
    for name in item.values():
        place.one_of(name, rows, "row")
    return item.get("row"), item["over"]


def _declared(entries: list, paper: Paper, place: Place) -> tuple:
    """Each entry becomes the class of its kind, and runs once, so that a name that leads nowhere shows here."""
    found = []
    for number, entry in enumerate(entries, start=1):
        here = place.at(f"recompute {number}")
        kind = entry.get("kind") if isinstance(entry, dict) else None
        kind = here.one_of(kind, DECLARED, "kind")
        fields = {field.name: str(field.type) for field in dataclasses.fields(DECLARED[kind])}
        here.fields(entry, {"kind": str} | {name: str if of == "str" else list for name, of in fields.items()}, {})
        declared = DECLARED[kind](**{name: _reference(entry[name], of, here.at(name)) for name, of in fields.items()})
        try:
            list(declared.checks(paper))
        except UsageError as error:
            raise here.wrong(str(error)) from None
        found.append(declared)
    return tuple(found)


def _reference(value: Any, of: str, place: Place) -> Any:
    """`of` is the annotation of the field: str, RowOf, CellOf, or a tuple of these."""
    if of == "str":
        return value
    if of.startswith("tuple"):
        if len(value) < 2:
            raise place.wrong(f"has {len(value)} entries; expected two or more that should agree")
        return tuple(_reference(item, "CellOf" if "CellOf" in of else "RowOf", place) for item in value)
    to = CellOf if of == "CellOf" else RowOf
    if not (isinstance(value, list) and len(value) == len(to._fields) and all(type(part) is str for part in value)):
        raise place.wrong(f"is {value!r}; expected [{', '.join(to._fields)}]")
    return to(*value)
