"""An ablation matrix in tables: accuracy by task, the other metrics over all tasks, paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from perception_gap.stats.seeds import NO_INTERVAL, over_seeds, value_of
from reports.sources import Matrix
from reports.tables.model import Cell, Column, Row, Table, estimate, n_in_heads, n_in_rows

# Percent of a fraction; the other metrics are nats, or the ratio that `focus_lift` is.
SHARES = ("accuracy", "focus", "image_mass", "changed", "cost")
RATIOS = ("focus_lift",)
PAIRED = "paired by sample, seeds averaged first; the interval is that of the samples, not of training"
MEANS = "the interval is that of the samples, not of training"
ANSWER = ("accuracy", "kl", "kl_floor", "focus", "focus_lift", "entropy", "image_mass")


def build(matrix: Matrix) -> list[Table]:
    """A row a preset and seed, then means over the seeds where there are several; comparisons are such means too."""
    results = matrix.results
    name = matrix.path.name
    answers = results[results["rows"] == "answer"]
    accuracy, kl = (answers[answers["metric"] == metric] for metric in ("accuracy", "kl"))
    tables = [_wide(f"{name} accuracy", "Accuracy by task, in percent", accuracy, "task", "percent")]
    tables += _over_seeds(f"{name} accuracy, means", accuracy)
    tables += [_wide(f"{name} kl", "KL of the answers' maps by task", kl, "task", "nats")] if len(kl) else []
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


def _over_seeds(name: str, accuracy: pd.DataFrame) -> list[Table]:
    """A row a preset with several seeds, a column a task; [] without such a preset."""
    seeds = {str(preset): set(rows["seed"]) for preset, rows in accuracy.groupby("preset", sort=False)}
    several = accuracy[accuracy["preset"].map(lambda preset: len(seeds[preset]) > 1)]
    lines = []
    for preset, of_preset in several.groupby("preset", sort=False):
        by_task = of_preset.groupby("task", sort=False)
        cells = {str(task): estimate(over_seeds(rows, seeds[str(preset)]), "percent") for task, rows in by_task}
        lines.append(Row(str(preset), "ours", cells))
    columns = [Column(task, task.replace("_", " ")) for task in dict.fromkeys(several["task"])]
    caption = "Accuracy by task, means over the seeds, in percent"
    return [_table(name, caption, columns, lines, "preset", "task", (MEANS,))] if lines else []


def _wide(name: str, caption: str, results: pd.DataFrame, by: str, unit: str) -> Table:
    """A row a preset and seed, a column a task or metric."""
    units = {key: unit or _unit(key) for key in dict.fromkeys(results[by])}
    percent = {key: " (%)" if not unit and units[key] == "percent" else "" for key in units}
    columns = [Column(key, key.replace("_", " ") + percent[key], units[key]) for key in units]
    lines = []
    for (preset, seed), rows in results.groupby(["preset", "seed"], sort=False):
        cells = {row[by]: _cell(row, units[row[by]], "value") for row in rows.to_dict("records")}
        lines.append(Row(f"{preset}, seed {seed}", "ours", cells))
    return _table(name, caption, columns, lines, "preset, seed", by)


def _table(
    name: str, caption: str, columns: Sequence[Column], rows: list[Row], stub: str, by: str, about: tuple[str, ...] = ()
) -> Table:
    """n belongs to the task, and to the preset where a table is over all tasks."""
    if any(cell.defined and not cell.interval for row in rows for cell in row.cells.values()):
        about = (NO_INTERVAL, *about)
    if by == "task":
        return Table(name, caption, *n_in_heads(columns, rows), stub, about)
    return Table(name, caption, tuple(columns), n_in_rows(rows), stub, about)


def _comparisons(matrix: Matrix) -> list[Table]:
    """For each baseline: the metrics of the answer over all tasks, also of each seed, then accuracy and KL by task."""
    compared = matrix.comparisons
    if compared.empty:
        return []
    compared = compared[compared["rows"] == "answer"]
    tables = []
    for base, against in compared.groupby("against", sort=False):
        over = against[(against["task"] == "all") & against["metric"].isin(ANSWER)]
        by_task = against[against["task"] != "all"]
        name, caption = f"{matrix.path.name} minus {base},", f"Minus {base},"
        tables += _differences(f"{name} metric", f"{caption} all tasks", over, "metric")
        tables += _of_each_seed(f"{name} each seed", f"{caption} all tasks, seed by seed", over)
        accuracy, kl = (by_task[by_task["metric"] == metric] for metric in ("accuracy", "kl"))
        tables += _differences(f"{name} task", f"{caption} accuracy in points, by task", accuracy, "task")
        tables += _differences(f"{name} task, kl", f"{caption} KL by task", kl, "task")
    return tables


def _differences(name: str, caption: str, compared: pd.DataFrame, by: str) -> list[Table]:
    """A row a preset; [] without one."""
    units = {row[by]: _unit(row["metric"], "points") for row in compared.to_dict("records")}
    lines = []
    for preset, rows in compared.groupby("preset", sort=False):
        cells = {row[by]: _cell(row, units[row[by]], "mean", signed=True) for row in rows.to_dict("records")}
        lines.append(Row(str(preset), "ours", cells))
    return [_table(name, caption, _columns(units, by), lines, "preset", by, (PAIRED,))] if lines else []


def _of_each_seed(name: str, caption: str, compared: pd.DataFrame) -> list[Table]:
    """The differences of each pair of seeds, which show how far training scatters; [] where no preset has several."""
    units = {row["metric"]: _unit(row["metric"], "points") for row in compared.to_dict("records")}
    lines: dict[str, dict[str, Cell]] = {}
    for row in compared.to_dict("records"):
        of_seeds = str(row.get("of_each_seed", "")).split()
        for seed, value in enumerate(of_seeds if len(of_seeds) > 1 else ()):
            of_seed = row | {"mean": value, "low": math.nan, "high": math.nan}
            cell = _cell(of_seed, units[row["metric"]], "mean", signed=True)
            lines.setdefault(f"{row['preset']}, seed {seed}", {})[row["metric"]] = cell
    rows = [Row(label, "ours", cells) for label, cells in lines.items()]
    return [Table(name, caption, _columns(units, "metric"), n_in_rows(rows), "preset, seed")] if rows else []


def _columns(units: Mapping[str, str], by: str) -> tuple[Column, ...]:
    """A column a task or metric; points are said in the heads of metrics, and in the caption of tasks."""
    points = {key: " (points)" if by == "metric" and unit == "points" else "" for key, unit in units.items()}
    return tuple(Column(key, key.replace("_", " ") + points[key], unit) for key, unit in units.items())


def _unit(metric: str, share: str = "percent") -> str:
    """share: the unit of a fraction."""
    if metric in RATIOS:
        return ""
    return share if metric.split("_")[0] in SHARES or metric in SHARES else "nats"


def _cell(row: Mapping[Any, Any], unit: str, value: str, signed: bool = False) -> Cell:
    scale = 100 if unit in ("percent", "points") else 1
    mean = scale * (value_of(row) if value == "value" else float(row[value]))
    low, high = (scale * float(row[name]) for name in ("low", "high"))
    digits = 2 if scale == 100 else 3
    real = low < high
    return Cell(mean, low if real else None, high if real else None, int(row["n"]), digits, signed=signed)
