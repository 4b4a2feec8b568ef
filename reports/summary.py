"""The terminal table of a run and what it found, in words that claim no more than the intervals allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from perception_gap.grid import grid
from perception_gap.runs.run import Run
from perception_gap.stats.estimates import side
from perception_gap.stats.permutation import TOO_FEW
from reports.rows import compared_rows, own_rows

Metric = Mapping[str, Any]

Line = tuple[str, Metric, Metric | None, str]


def summary_table(run: Run) -> str:
    """Metrics with 95 % intervals and n (the teacher's own beside them), accuracy per task with chance, the finding."""
    teacher = run.teacher()
    summary, other = run.summary, None if teacher is None else teacher.summary
    asked_alike = teacher is not None and set(teacher.samples["sample_id"]) == set(run.samples["sample_id"])
    counts = f"{summary['model']}: {_counted(summary)}"
    head = ["metric", "value [95 %]" if other is None else "student [95 %]", "n"]
    if other is not None:
        head.append("teacher [95 %]")
        counts += f"; teacher {summary['teacher']}: {_counted(other)}"
        counts += "" if asked_alike else " (other samples than the student's: read its column as its own run's)"
    rows = []
    for label, metric, beside, unit in _lines(summary, other):
        cells = [label, written(metric, unit), f"{metric['n']:,}"]
        rows.append(cells if other is None else [*cells, written(beside, unit) if beside else ""])
    sentences = [finding(summary, other), *_per_layer(summary), *_knockout(summary)]
    return "\n\n".join([counts, grid(head, rows, right=[2]), *sentences])


def _per_layer(summary: Mapping[str, Any]) -> list[str]:
    """What the layers of a run with --per-layer say."""
    return [summary["per_layer"]["finding"]] if "per_layer" in summary else []


def _knockout(summary: Mapping[str, Any]) -> list[str]:
    """The block of a run with a knockout."""
    from reports import knockout  # which writes its numbers as this module does

    return [knockout.block(summary["knockout"])] if "knockout" in summary else []


def _counted(summary: Mapping[str, Any]) -> str:
    return f"{summary['n_samples']:,} samples, {summary['n_failed']:,} failed"


def _lines(summary: Mapping[str, Any], teacher: Mapping[str, Any] | None) -> Iterator[Line]:
    """(label, metric, the teacher's own or None, unit) of every line: accuracy, its tasks, then the fixed rows."""
    beside = teacher or {}
    yield "accuracy", summary["accuracy"], beside.get("accuracy"), "%"
    for task, metric in summary["accuracy_by_task"].items():
        chance = "" if metric.get("chance") is None else f" (chance {100 * metric['chance']:.1f} %)"
        yield f"  {task}{chance}", metric, beside.get("accuracy_by_task", {}).get(task), "%"
    for label, path, unit in own_rows():
        if value := lookup(summary, path):
            yield label, value, lookup(beside, path), unit
    for label, path, unit in compared_rows() if teacher else ():
        if value := lookup(summary, path):
            yield label, value, None, unit


def lookup(summary: Mapping[str, Any], path: str) -> Metric | None:
    """The metric at a dotted path of summary.json, None when the run does not have it."""
    node: Any = summary
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) and "mean" in node else None


def defined(metric: Metric | None) -> TypeGuard[Metric]:
    return metric is not None and metric["mean"] is not None and math.isfinite(metric["mean"])


def interval_of(metric: Metric) -> tuple[float, float] | None:
    """The 95 % interval, None where it is undefined."""
    ci = metric["ci"]
    return (ci[0], ci[1]) if ci else None


def too_few(metric: Metric | None) -> bool:
    """Whether no data of this size could have established anything."""
    return metric is not None and metric.get("reason") == TOO_FEW


def written(metric: Metric | None, unit: str = "") -> str:
    """`61.0 % [55.2, 66.8]`; "%" and "points" multiply by 100, another unit is appended; "undefined" for null."""
    if not defined(metric):
        return "undefined"
    scale, digits = (100, 1) if unit in ("%", "points") else (1, 1 if unit == "tokens" else 2)
    mean = f"{metric['mean'] * scale:.{digits}f}".replace("-", "−") + (f" {unit}" if unit else "")
    if not metric["ci"]:
        return mean
    low, high = (f"{bound * scale:.{digits}f}".replace("-", "−") for bound in metric["ci"])
    return f"{mean} [{low}, {high}]"


def finding(summary: Mapping[str, Any], teacher: Mapping[str, Any] | None) -> str:
    """One sentence with its uncertainty; what `side` does not establish is not claimed."""
    who = "model" if teacher is None else "student"
    if summary["n_failed"] == summary["n_samples"]:
        return f"None of the {who}'s {summary['n_samples']:,} samples is valid: every one failed."
    clauses = [f"The {who} answers {written(summary['accuracy'], '%')}"]
    if not defined(summary["accuracy"]):
        clauses = [f"The {who}'s accuracy is undefined"]
    elif teacher is not None:
        clauses[0] += f" of the questions (teacher {written(teacher['accuracy'], '%')})"
    else:
        clauses[0] += " of the questions"
    if teacher is not None:
        clauses.append(_gap(lookup(summary, "kl.sample"), summary["kl"]["against_floor"]))
    clauses.append(_focus(summary))
    return "; ".join(clauses) + "."


def why_no_focus(summary: Mapping[str, Any]) -> str:
    """Why no sample has a focus score: chance is defined for every valid sample with boxes, whatever the answer is."""
    return "no answer with a word in it" if defined(lookup(summary, "focus_score.chance")) else "no boxes"


def _gap(kl: Metric | None, pair: Mapping[str, Metric]) -> str:
    """pair: value, floor and floor − value, all of the same samples; the paired difference decides."""
    if not defined(kl):
        return "the divergence of its maps from the teacher's is undefined"
    if not pair["value"]["n"]:
        alone = " (no floor: no other sample of the same task)"
        return f"its maps differ from the teacher's by KL {written(kl, 'nats')}{alone}"
    difference = pair["difference"]
    text = f"its maps differ from the teacher's by KL {written(pair['value'], 'nats')}"
    other = f"the {written(pair['floor'], 'nats')} to the teacher's map of another picture (n = {difference['n']:,}"
    if too_few(difference):
        return f"{text}, beside {other}: too few to say more)"
    words = {1: "less than", -1: "more than", 0: "not distinguishable from"}
    return f"{text}, {words[side(difference)]} {other})"


def _focus(summary: Mapping[str, Any]) -> str:
    """What focus says about being right, task by task, beside the two means that mix them."""
    from reports.decides import FOCUS, clause  # which writes its numbers as this module does

    focus = summary["focus_score"]
    if not defined(focus):
        return f"focus is undefined ({why_no_focus(summary)})"
    right, wrong = focus["correct_mean"], focus["incorrect_mean"]
    if not defined(right) or not defined(wrong):
        only = "right" if defined(right) else "wrong"
        alone = defined(right) != defined(wrong)
        return "focus of right and wrong answers cannot be compared" + (f" (all answers are {only})" if alone else "")
    return clause(focus["decides"], FOCUS)
