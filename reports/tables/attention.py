"""Table 2: salient regions and entropy of the attention maps on relative depth, over samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import published
from perception_gap.errors import UsageError
from perception_gap.runs.run import Run
from reports.sources import BenchModel, BenchRun, Matrix, Source, Training, short_name
from reports.tables.match import PAPER, chosen_rows, given_row, row_of, title
from reports.tables.model import Column, Row, Table, estimate, n_in_heads
from reports.tables.own import absent, names_of
from reports.tables.published_cells import disagreements, figure, source_lines

TASKS = ("blink_relative_depth", "scenes_relative_depth", "relative_depth")
MEASURES = {"salient": "salient_regions", "entropy": "entropy"}  # prefix of the published columns -> ours
DRAWN = "on drawn scenes: other pictures and grids, so no difference from the published figure"
UNMATCHED = "no published row"


@dataclass(frozen=True)
class Looked:
    """One model on one task of relative depth, as its summary has it; `drawn`: scenes, not the paper's questions.

    spreads: MEASURES' values → {mean, std, cv, min, max}, each {mean, ci, n}; of n questions n_failed have no map.
    """

    label: str
    name: str
    latents: str
    spreads: Mapping[str, Mapping[str, Any]]
    n: int
    n_failed: int
    drawn: bool
    names: frozenset[str]


def build(sources: Sequence[Source], rows: Mapping[str, str]) -> Table:
    """UsageError where no run has a map of a relative depth question."""
    paper = published.load(PAPER)
    printed = paper.table("table2")
    looked, missing = _gathered(sources)
    if not looked:
        raise UsageError(
            f"table2: no attention maps of relative depth questions ({'; '.join(missing) or 'no finished run'}); "
            "give a folder of gapcheck analyze, or of gapcheck bench --gaze, with that task"
        )
    chosen = (
        chosen_rows(rows, [model.names for model in looked], ("table1", "table2", "table3", "tableA2")) if rows else {}
    )
    checked = disagreements(paper, "table2")
    lines: list[Row] = []
    matched = {id(model): _row_of(model, chosen, printed) for model in looked}
    for row in printed.rows:
        mine = [model for model in looked if matched[id(model)] == row.name]
        lines += [_own_row(model, printed, "") for model in mine]
        lines.append(Row(title(row), "published", {key: figure(cell, checked) for key, cell in row.cells.items()}))
        lines += [_difference(model, row, printed) for model in mine if not model.drawn]
    lines += [_own_row(model, printed, UNMATCHED) for model in looked if matched[id(model)] is None]
    columns, final = n_in_heads([Column(c.key, c.title, c.unit) for c in printed.columns], lines)
    notes = [f"{column.title}: {column.note}" for column in printed.columns if column.note]
    about = (
        *source_lines(paper, printed),
        "; ".join(notes),
        "standard deviations divide by the number of samples",
        *missing,
    )
    return Table("table2", printed.title, columns, final, about=about)


def _gathered(sources: Sequence[Source]) -> tuple[list[Looked], list[str]]:
    """Runs, their teachers (each once) and the models of benchmarks that looked; what did not, in words."""
    every, missing = [], []
    opened: dict[str, Run] = {}
    for source in sources:
        missing += absent(source)
        if isinstance(source, Run):
            teacher = source.teacher()
            for run in (teacher, source) if teacher else (source,):
                opened[str(run.path.resolve())] = run
        elif isinstance(source, Matrix | Training):
            kind = "a matrix, whose runs are its PRESET-sSEED/eval" if isinstance(source, Matrix) else "a training"
            missing.append(f"{source.path}: {kind}; it has no samples of its own")
        elif isinstance(source, BenchRun):
            for model in source.models:
                looked = list(_of_bench(model))
                missing += [] if looked else [f"{source.path}, {model.label}: no maps of relative depth"]
                every += looked
    for run in opened.values():
        looked = list(_of_run(run))
        missing += [] if looked else [f"{run.path}: no maps of relative depth"]
        every += looked
    return _told_apart(every), missing


def _of_run(run: Run) -> Iterator[Looked]:
    """A row for each of TASKS that the run has maps of."""
    name, latents = run.info["model"]["name"], run.info["settings"].get("latents", "force")
    scenes = run.info["data"]["spec"].split(":")[0] == "scenes"
    tasks = [task for task in TASKS if _known(run.summary, task)]
    for task in tasks:
        asked = run.samples[run.samples["task"] == task]
        failed = int((asked["status"] != "ok").sum())
        label = short_name(name, latents)
        shown, drawn = _shown(label, task, tasks), scenes or task == "scenes_relative_depth"
        spreads, names = _spreads(run.summary, task), names_of(label, name, latents)
        yield Looked(shown, name, latents, spreads, len(asked), failed, drawn, names)


def _of_bench(model: BenchModel) -> Iterator[Looked]:
    """The same of a benchmark with --gaze."""
    latents, by_task = model.info["asked"]["latents"], model.summary["tasks"]
    tasks = [task for task in TASKS if _known(by_task.get(task, {}).get("gaze", {}), task)]
    for task in tasks:
        n, failed = by_task[task]["n"], by_task[task].get("n_failed", 0)
        shown, drawn = _shown(model.label, task, tasks), task == "scenes_relative_depth"
        spreads, names = _spreads(by_task[task]["gaze"], task), names_of(model.label, model.name, latents)
        yield Looked(shown, model.name, latents, spreads, n, failed, drawn, names)


def _spreads(summary: Mapping[str, Any], task: str) -> dict[str, Mapping[str, Any]]:
    return {column: summary[column]["by_task"].get(task, {}) for column in MEASURES.values()}


def _known(summary: Mapping[str, Any], task: str) -> bool:
    """Whether a summary, or the `gaze` of one, has maps of the task."""
    spread = summary.get("entropy", {}).get("by_task", {}).get(task)
    return bool(spread) and spread["mean"]["n"] > 0


def _shown(label: str, task: str, tasks: Sequence[str]) -> str:
    """Of several tasks each names its own: they are other questions, and their spreads are not to be pooled."""
    return f"{label} ({task})" if len(tasks) > 1 else label


def _told_apart(looked: Sequence[Looked]) -> list[Looked]:
    """Labels that would stand twice get a number."""
    apart: list[Looked] = []
    seen = Counter[str]()
    for model in looked:
        seen[model.label] += 1
        label = model.label if seen[model.label] == 1 else f"{model.label} ({seen[model.label]})"
        apart.append(replace(model, label=label, names=model.names | {label}))
    return apart


def _row_of(model: Looked, chosen: Mapping[str, str], printed: published.Table) -> str | None:
    row = given_row(model.names, chosen) or row_of(model.name, model.latents, printed)
    return row if row in {of_table.name for of_table in printed.rows} else None


def _own_row(model: Looked, printed: published.Table, group: str) -> Row:
    decimals = {
        column.key: max(row.cells[column.key].decimals for row in printed.rows if column.key in row.cells)
        for column in printed.columns
    }
    cells = {
        f"{prefix}_{name}": estimate(metric, "", decimals=decimals[f"{prefix}_{name}"])
        for prefix, column in MEASURES.items()
        for name, metric in model.spreads[column].items()
        if f"{prefix}_{name}" in decimals
    }
    notes = (f"{model.label}: {model.n_failed} of {model.n} failed and have no map",) if model.n_failed else ()
    return Row(model.label, "ours", cells, group, notes=(*notes, *((DRAWN,) if model.drawn else ())))


def _difference(model: Looked, row: published.Row, printed: published.Table) -> Row:
    """Ours minus the published figure, where both are defined."""
    mine = _own_row(model, printed, "").cells
    both = [key for key, cell in mine.items() if key in row.cells and cell.value is not None]
    cells = {key: mine[key].minus(row.cells[key].value) for key in both}
    return Row(f"{model.label} − {title(row)}", "difference", cells)
