"""An ablation matrix in tables: accuracy by task, the other metrics over all tasks, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from perception_gap.stats.seeds import NO_INTERVAL, value_of
from reports.sources import Matrix
from reports.tables.model import Cell, Column, Row, Table, n_in_heads, n_in_rows

# Percent of a fraction; the other metrics are nats, or the ratio that `focus_lift` is.
SHARES = ("accuracy", "focus", "image_mass", "changed", "cost")
RATIOS = ("focus_lift",)
PAIRED = "paired by sample, seeds averaged first; the interval is that of the samples, not of training"
ANSWER = ("accuracy", "kl", "kl_floor", "focus", "focus_lift", "entropy", "image_mass")


def build(matrix: Matrix) -> list[Table]:
    """A row a preset and seed; comparisons are means over the seeds."""
    results = matrix.results
    name = matrix.path.name
    answers = results[results["rows"] == "answer"]
    accuracy = answers[answers["metric"] == "accuracy"]
    tables = [_wide(f"{name} accuracy", "Accuracy by task, in percent", accuracy, "task", "percent")]
    over = answers[(answers["task"] == "all") & answers["metric"].isin(ANSWER)]
    tables.append(_wide(f"{name} answers", "Answers and their maps, all tasks", over, "metric", ""))
    for rows in ("last latent", "latents"):
        part = results[(results["rows"] == rows) & (results["task"] == "all")]
        title = f"Maps of the {rows if rows == 'latents' else 'last latent token'}, all tasks"
        tables += [_wide(f"{name} {rows}", title, part, "metric", "")] if len(part) else []
    hidden = answers[(answers["task"] == "all") & ~answers["metric"].isin(ANSWER)]
    title = "Latents hidden from the answer, all tasks: accuracy, what it costs, answers changed"
    tables += [_wide(f"{name} hidden", title, hidden, "metric", "")] if len(hidden) else []
    return tables + _comparisons(matrix)


def _wide(name: str, caption: str, rows: pd.DataFrame, by: str, unit: str) -> Table:
    """A row a preset and seed, a column a task or metric."""
    keys = list(dict.fromkeys(rows[by]))
    columns = [Column(key, key.replace("_", " "), unit or _unit(key)) for key in keys]
    columns = [
        Column(c.key, f"{c.title} (%)" if not unit and c.unit == "percent" else c.title, c.unit) for c in columns
    ]
    made = []
    for (preset, seed), part in rows.groupby(["preset", "seed"], sort=False):
        cells = {row[by]: _cell(row, unit or _unit(row[by]), "value") for row in part.to_dict("records")}
        made.append(Row(f"{preset}, seed {seed}", "ours", cells))
    return _table(name, caption, columns, made, "preset, seed", by)


def _table(name: str, caption: str, columns: Sequence[Column], rows: list[Row], stub: str, by: str) -> Table:
    """n belongs to the task, and to the preset where a table is over all tasks."""
    about: tuple[str, ...] = (
        (NO_INTERVAL,) if any(cell.defined and not cell.interval for row in rows for cell in row.cells.values()) else ()
    )
    about += (PAIRED,) if stub == "preset" else ()
    if by == "task":
        return Table(name, caption, *n_in_heads(columns, rows), stub, about)
    return Table(name, caption, tuple(columns), n_in_rows(rows), stub, about)


def _comparisons(matrix: Matrix) -> list[Table]:
    """For each baseline: the metrics of the answer over all tasks, then accuracy by task."""
    found = matrix.comparisons
    if found.empty:
        return []
    found = found[found["rows"] == "answer"]
    tables = []
    for base in dict.fromkeys(found["against"]):
        against = found[found["against"] == base]
        over = against[(against["task"] == "all") & against["metric"].isin(ANSWER)]
        by_task = against[(against["metric"] == "accuracy") & (against["task"] != "all")]
        for part, by, what in ((over, "metric", "all tasks"), (by_task, "task", "accuracy in points, by task")):
            if len(part):
                tables.append(_differences(matrix, str(base), part, by, what))
    return tables


def _differences(matrix: Matrix, base: str, part: pd.DataFrame, by: str, what: str) -> Table:
    keys = list(dict.fromkeys(part[by]))
    units = {key: "points" if by == "task" or _unit(key) == "percent" else _unit(key) for key in keys}
    points = {key: " (points)" if by == "metric" and units[key] == "points" else "" for key in keys}
    columns = tuple(Column(key, key.replace("_", " ") + points[key], units[key]) for key in keys)
    rows = []
    for preset, of in part.groupby("preset", sort=False):
        cells = {row[by]: _cell(row, units[row[by]], "mean", signed=True) for row in of.to_dict("records")}
        rows.append(Row(str(preset), "ours", cells))
    return _table(f"{matrix.path.name} minus {base}, {by}", f"Minus {base}, {what}", columns, rows, "preset", by)


def _unit(metric: str) -> str:
    if metric in RATIOS:
        return ""
    return "percent" if metric.split("_")[0] in SHARES or metric in SHARES else "nats"


def _cell(row: Mapping[Any, Any], unit: str, value: str, signed: bool = False) -> Cell:
    scale = 100 if unit in ("percent", "points") else 1
    mean = scale * (value_of(row) if value == "value" else float(row[value]))
    low, high = (scale * float(row[name]) for name in ("low", "high"))
    digits = 2 if scale == 100 else 3
    real = low < high
    return Cell(mean, low if real else None, high if real else None, int(row["n"]), digits, signed=signed)
