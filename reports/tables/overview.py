"""Everything that runs say, without a layout of the paper: a table or several for each run, benchmark, matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perception_gap.errors import UsageError
from perception_gap.runs.run import Run
from reports.names import frames
from reports.rows import COLUMN_UNITS, compared_rows, own_rows
from reports.sources import BenchRun, CompareRun, Matrix, Source, Training, labels, teacher_or_reason
from reports.summary import finding, lookup
from reports.tables import bench, compared, matrix
from reports.tables.model import DECIMALS, Cell, Column, Row, Table, estimate, n_in_rows
from reports.tables.own import absent

SHOWN = {"percent": "%"}


def build(sources: Sequence[Source]) -> list[Table]:
    """Runs over the same samples share a table. UsageError where nothing is finished."""
    missing = [line for source in sources for line in absent(source)]
    groups: dict[str, list[Run]] = {}
    for source in sources:
        if isinstance(source, Run):
            groups.setdefault(source.info["data"]["hash"], []).append(source)
    tables = [table for source in sources if isinstance(source, CompareRun) for table in compared.build(source)]
    tables += [_runs(group) for group in groups.values()]
    for source in sources:
        if isinstance(source, BenchRun):
            tables += bench.build(source)
        elif isinstance(source, Matrix):
            tables += matrix.build(source)
    trainings = [source for source in sources if isinstance(source, Training)]
    tables += [_trainings(trainings)] if trainings else []
    if not tables:
        raise UsageError(f"nothing to show: {'; '.join(missing) or 'no finished model in these folders'}")
    return _told_apart([replace(tables[0], about=(*tables[0].about, *missing)), *tables[1:]])


def _told_apart(tables: Sequence[Table]) -> list[Table]:
    """The tables with ids and captions that stand once: a later one has its number behind, `runs 2`.

    Two data sets, or two folders of one name, would make lines of the CSV that nobody can tell apart and one label of
    LaTeX for two tables.
    """
    apart: list[Table] = []
    for table in tables:
        ids, captions = {other.id for other in apart}, {other.caption for other in apart}
        numbered = (f"{table.id} {i}" for i in range(2, len(tables) + 2))
        name = next(other for other in (table.id, *numbered) if other not in ids)
        # Tables of other folders may share their caption, which their ids tell apart in every layout but LaTeX.
        caption = f"{table.caption} ({name})" if name != table.id and table.caption in captions else table.caption
        apart.append(replace(table, id=name, caption=caption))
    return apart


def _runs(runs: Sequence[Run]) -> Table:
    """Metrics by models, each teacher once and before its students."""
    opened: dict[str, Run] = {}
    teachers: dict[str, Run | None] = {}
    for run in runs:
        teachers[str(run.path.resolve())] = teacher = teacher_or_reason(run)[0]
        for shown in (teacher, run) if teacher else (run,):
            opened.setdefault(str(shown.path.resolve()), shown)
    columns = [Column(key, label, "") for key, label in zip(opened, labels(list(opened.values())), strict=True)]
    rows, compared_paths = [], {path for _, path, _ in compared_rows()}
    for label, path, unit in _metrics([run.summary for run in opened.values()]):
        cells = {}
        for key, run in opened.items():
            metric = (
                lookup(run.summary, path) if isinstance(path, str) else run.summary["accuracy_by_task"].get(path[0])
            )
            alone = run.info.get("teacher") is None  # nothing to be compared with: neither undefined nor a figure
            if metric is not None and not (alone and path in compared_paths):
                notes = _chance(metric) if isinstance(path, tuple) else ()
                cells[key] = estimate(metric, unit, notes=notes)
        rows.append(Row(label, "ours", cells))
    about = [
        f"{column.title}: {run.summary['n_samples']:,} samples, {run.summary['n_failed']:,} failed (wrong, without map)"
        for column, run in zip(columns, opened.values(), strict=True)
    ]
    met = frames(list(opened.values()))
    about += [f"maps of two models meet on the {met}"] if met else []
    if " and " in met:
        about[-1] += ": divergences on different frames do not compare"
    for key, teacher in teachers.items():
        sentence = finding(opened[key].summary, None if teacher is None else teacher.summary)
        about.append(f"{next(c.title for c in columns if c.key == key)}: {sentence}")
    spec = runs[0].info["data"]["spec"]
    return Table(
        "runs", f"Answers and attention maps on {spec}", tuple(columns), n_in_rows(rows), "metric", tuple(about)
    )


def _metrics(summaries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str | tuple[str], str]]:
    """(label with unit, path or (task,), unit) of every metric that one of the summaries has."""
    yield "accuracy (%)", "accuracy", "percent"
    for task in dict.fromkeys(task for summary in summaries for task in summary["accuracy_by_task"]):
        yield f"accuracy, {task} (%)", (task,), "percent"
    family = ""
    for label, path, written in (*own_rows(), *compared_rows()):
        family = family if label.startswith(" ") else label
        unit = COLUMN_UNITS.get(written, written)
        name = label if not label.startswith(" ") else f"{family}: {label.strip()}"
        if any(lookup(summary, path) for summary in summaries):
            yield f"{name} ({SHOWN.get(unit, unit or written)})" if unit or written else name, path, unit


def _chance(metric: Mapping[str, Any]) -> tuple[str, ...]:
    chance = metric.get("chance")
    return () if chance is None else (f"chance {100 * chance:.1f} %",)


def _trainings(trainings: Sequence[Training]) -> Table:
    """Steps asked for and done, the losses of the last step."""
    losses = ("loss", "ntp", "concept", "trajectory")
    columns = [Column("asked", "steps asked for", ""), Column("done", "steps logged", "")]
    columns += [Column(name, name, "") for name in losses if any(name in training.log for training in trainings)]
    rows = []
    for training in trainings:
        last = dict(training.log.iloc[-1]) if len(training.log) else {}
        cells = {
            "asked": Cell(training.info["settings"]["steps"], decimals=0),
            "done": Cell(last.get("step", 0), decimals=0),
        }
        cells |= {name: Cell(last[name], decimals=DECIMALS["nats"]) for name in losses if name in last}
        notes = () if training.finished else ("not finished: no model yet; the same train command goes on with it",)
        rows.append(Row(f"{training.label} ({training.path})", "ours", cells, notes=notes))
    about = ("losses are those of the last step, of one batch: they have no interval",)
    return Table("trainings", "Trainings", tuple(columns), tuple(rows), "training", about)
