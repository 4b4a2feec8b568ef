"""A finished benchmark in tables: accuracies, costs, gaze, published figures of the same tasks, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import published
from perception_gap.metrics.table import TABLE
from reports.rows import COLUMN_UNITS
from reports.sources import BenchModel, BenchRun
from reports.tables.gains import baseline_of
from reports.tables.model import DECIMALS, Cell, Column, Row, Table, estimate, n_in_rows
from reports.tables.own import losses
from reports.tables.published_cells import disagreements, figure

GAZE = ("focus_score", "entropy", "salient_regions")


def build(bench: BenchRun) -> list[Table]:
    """Those that the benchmark has something for; none where no model is finished."""
    if not bench.models:
        return []
    tables = [accuracies(bench), costs(bench), gaze(bench), beside(bench), comparisons(bench)]
    return [table for table in tables if table is not None]


def tasks_of(bench: BenchRun) -> list[str]:
    return list(dict.fromkeys(task for model in bench.models for task in model.summary["tasks"]))


def _columns(bench: BenchRun) -> tuple[Column, ...]:
    return tuple(Column(model.name, model.label) for model in bench.models)


def accuracies(bench: BenchRun) -> Table:
    """Tasks by models: lmms-eval's accuracy, that of whole pairs, and the strict one where it differs for a model."""
    rows = []
    for task in tasks_of(bench):
        answered = [(m, m.summary["tasks"][task]) for m in bench.models if task in m.summary["tasks"]]
        cells = {m.name: estimate(f["accuracy"], "percent", notes=_losses(m, task, f)) for m, f in answered}
        chance = answered[0][1]["chance"]
        beside = {"chance": Cell(None if chance is None else 100 * chance)} if chance is not None else {}
        hashes = {f["data_hash"] for _, f in answered if "data_hash" in f}
        notes = ("the models answered different questions: not comparable",) if len(hashes) > 1 else ()
        rows.append(Row(task, "ours", cells | beside, notes=notes))
        if any(f["strict_accuracy"]["mean"] != f["accuracy"]["mean"] for _, f in answered):
            strict = {m.name: estimate(f["strict_accuracy"], "percent") for m, f in answered}
            rows.append(Row(f"{task}, strict reader", "ours", strict))
        if any("pair_accuracy" in f for _, f in answered):
            pairs = {m.name: estimate(f.get("pair_accuracy"), "percent") for m, f in answered}
            rows.append(Row(f"{task}, both of a pair", "ours", pairs))
    columns = (Column("chance", "chance"), *_columns(bench))
    return Table(f"{bench.path.name} accuracy", "Accuracy in percent", columns, n_in_rows(rows), "task")


def _losses(model: BenchModel, task: str, of_task: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(losses(model.label, task, of_task))


COSTS = (("image_tokens", "image tokens", 1), ("answer_tokens", "answer tokens", 1), ("seconds", "seconds", 3))
COUNTS = {"failed": "n_failed", "unscored": "n_unscored", "empty": "n_empty", "cut off": "n_cut"}


def costs(bench: BenchRun) -> Table:
    """What each model saw and took a question, over all tasks, and how many answers failed, said nothing, were cut."""
    rows = []
    for model in bench.models:
        means = model.summary["costs"]
        cells = {name: Cell(means[name]["mean"], n=means[name]["n"], decimals=digits) for name, _, digits in COSTS}
        tasks = model.summary["tasks"].values()
        cells |= {name: Cell(sum(task[key] for task in tasks), decimals=0) for name, key in COUNTS.items()}
        rows.append(Row(model.label, "ours", cells))
    columns = [Column(name, title, "") for name, title, _ in COSTS] + [Column(name, name, "") for name in COUNTS]
    caption = "Means of a question, and counts over all tasks"
    return Table(f"{bench.path.name} costs", caption, tuple(columns), n_in_rows(rows))


def gaze(bench: BenchRun) -> Table | None:
    """Accuracy and where the model looked, by task; None without maps."""
    rows = []
    for model in bench.models:
        for task, of_task in model.summary["tasks"].items():
            if "gaze" not in of_task:
                continue
            cells = {"accuracy": estimate(of_task["accuracy"], "percent", notes=_losses(model, task, of_task))}
            for name in GAZE:
                unit, measured = _unit(name), of_task["gaze"][name]
                cells[name] = estimate(measured, unit)
                if name != "focus_score":
                    cells[f"{name}_std"] = Cell(measured["std"], n=measured["n"], decimals=DECIMALS[unit])
            rows.append(Row(task, "ours", cells, model.label))
    columns = [Column("accuracy", "accuracy")]
    for name in GAZE:
        title, unit = TABLE[name].title, _unit(name)
        columns.append(Column(name, title, unit))
        columns += [Column(f"{name}_std", f"{title}, SD", unit)] if name != "focus_score" else []
    about = ("focus: percent of the map inside the box; SD: over samples",)
    caption = "Accuracy and attention maps"
    return Table(f"{bench.path.name} gaze", caption, tuple(columns), n_in_rows(rows), "task", about) if rows else None


def _unit(name: str) -> str:
    return COLUMN_UNITS.get(TABLE[name].unit, TABLE[name].unit)


def beside(bench: BenchRun) -> Table | None:
    """Published figures of the same tasks, once a model: its first figure, that of the main table."""
    by_label: dict[str, dict[str, Cell]] = {}
    for task in tasks_of(bench):
        for printed in published.for_task(task):
            label = " ".join(part for part in (printed.model, printed.params) if part)
            checked = disagreements(published.load(printed.paper), printed.table)
            by_label.setdefault(label, {}).setdefault(task, figure(printed, checked))
    tasks = [task for task in tasks_of(bench) if any(task in row for row in by_label.values())]
    rows = tuple(Row(label, "published", cells) for label, cells in by_label.items())
    columns = tuple(Column(task, task) for task in tasks)
    return Table(f"{bench.path.name} published", "Published, in percent", columns, rows) if rows else None


def comparisons(bench: BenchRun) -> Table | None:
    """Every model against the baseline on the same samples; None where nothing was compared."""
    if bench.comparisons.empty:
        return None
    names = {model.name: model.label for model in bench.models}
    order = [*tasks_of(bench), "all"]
    kept = bench.comparisons[bench.comparisons["model"].isin(names) & bench.comparisons["task"].isin(order)]
    rows = []
    for row in sorted(kept.to_dict("records"), key=lambda r: (list(names).index(r["model"]), order.index(r["task"]))):
        n = int(row["n"])
        points, low, high = (_points(row[f"difference{end}"]) for end in ("", "_low", "_high"))
        cells = {
            "difference": Cell(points, low, high, n, signed=True),
            "gained": Cell(int(row["only_second"]), n=n, decimals=0),
            "lost": Cell(int(row["only_first"]), n=n, decimals=0),
            "p": Cell(_number(row["p"]), n=n, decimals=3, p_value=True),
            "p_holm": Cell(_number(row["p_holm"]), n=n, decimals=3, p_value=True),
            "detectable": Cell(_points(row["detectable"]), n=n),
        }
        rows.append(Row(row["task"], "ours", cells, names[row["model"]]))
    columns = (
        Column("difference", "points", "points"),
        Column("gained", "gained", ""),
        Column("lost", "lost", ""),
        Column("p", "p", ""),
        Column("p_holm", "p (Holm)", ""),
        Column("detectable", "detectable points", "points"),
    )
    about = (
        "gained, lost: questions that only this model, only the baseline answers right; p: McNemar's exact test, whole "
        "clusters flipped where they repeat; Holm's correction over the tasks; detectable: with 80 % power",
    )
    base = baseline_of(bench) or "the baseline"
    base = names.get(base, base)
    caption = f"Differences from {base} on the same questions"
    return Table(f"{bench.path.name} comparisons", caption, columns, n_in_rows(rows), "task", about)


def _number(value: Any) -> float | None:
    return None if value != value else float(value)


def _points(value: Any) -> float | None:
    return None if value != value else 100 * float(value)
