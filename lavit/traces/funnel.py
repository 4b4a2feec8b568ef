"""How many samples each filter leaves, per task, and what that does to the distribution of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from perception_gap.grid import grid
from perception_gap.text.scoring import normalize

TOP_ANSWERS = 8
# Count → the filter that it is of, and what a row that passed it says.
_PASSED = {
    "correct": ("correctness", "correct", True),
    "difficult": ("difficulty", "blind_correct", False),
    "aligned": ("alignment", "aligned", True),
}


def funnel(rows: Sequence[dict[str, Any]], filters: Sequence[str]) -> dict[str, Any]:
    """{"all": counts, "tasks": {task: counts}} of rows: `task`, `boxes`, `answer`, `gaze_index`, what `decide` gives.

    counts: samples, failed, correct (answered right), difficult (and not right without the image), aligned (and looking
    at the boxes), each None where its filter is off: nobody checked. kept, kept_without_boxes, kept_without_gaze
    (constant map), answers_before and answers_after: the most frequent answers of the teacher, normalised, as
    [text, count], over all that it answered and over the kept.
    """
    tasks = {task: [row for row in rows if row["task"] == task] for task in dict.fromkeys(row["task"] for row in rows)}
    return {"all": _counts(rows, filters), "tasks": {task: _counts(some, filters) for task, some in tasks.items()}}


def _counts(rows: Sequence[dict[str, Any]], filters: Sequence[str]) -> dict[str, Any]:
    kept = [row for row in rows if row["kept"]]
    counts: dict[str, Any] = {"samples": len(rows), "failed": sum(row["dropped_by"] == "failed" for row in rows)}
    for stage, (name, field, passed) in _PASSED.items():
        counts[stage] = sum(row[field] is passed for row in rows) if name in filters else None
    counts["kept"] = len(kept)
    counts["kept_without_boxes"] = sum(not row["boxes"] for row in kept)
    counts["kept_without_gaze"] = sum(row["gaze_index"] is None for row in kept)
    counts["answers_before"] = _answers(row for row in rows if row["dropped_by"] != "failed")
    counts["answers_after"] = _answers(kept)
    return counts


def _answers(rows: Iterable[dict[str, Any]]) -> list[list[Any]]:
    counted = Counter(normalize(row["answer"] or "") for row in rows)
    return [[text, n] for text, n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:TOP_ANSWERS]]


def funnel_table(counts: dict[str, Any]) -> str:
    """What `funnel` counted as text: one line a task, then all; below it the answers before → after."""
    tasks, over_all = counts["tasks"], counts["all"]
    head = ["task", "samples", "failed", "right", "not right blind", "aligned", "kept", "of samples"]
    body = []
    for name, c in {**(tasks if len(tasks) > 1 else {}), "all": over_all}.items():
        passed = ("off" if c[stage] is None else c[stage] for stage in _PASSED)
        body.append([name, c["samples"], c["failed"], *passed, c["kept"], f"{c['kept'] / c['samples']:.1%}"])
    lines = [grid(head, body, right=range(1, len(head)))]
    for key, text in (("kept_without_boxes", "have no boxes"), ("kept_without_gaze", "have no gaze")):
        if over_all[key]:
            lines.append(f"{over_all[key]} of the kept {text}")
    lines.append("\nmost frequent answers")
    for name, of_task in tasks.items():
        for when in ("before", "after"):
            shown = [f"{text or '(empty)'} {n}" for text, n in of_task[f"answers_{when}"]]
            lines.append(f"  {name}, {when} the filters: {', '.join(shown) or 'none'}")
    return "\n".join(lines)
