"""How many samples each filter leaves, per task, and what that does to the distribution of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from perception_gap.scoring import normalize

TOP_ANSWERS = 8
# Stage → the drops that lie before its end.
_STAGES = {
    "correct": ("failed", "correctness"),
    "difficult": ("failed", "correctness", "difficulty"),
    "kept": ("failed", "correctness", "difficulty", "alignment"),
}


def funnel(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{"all": counts, "tasks": {task: counts}} of rows with `dropped_by`, `answer`, `gaze_index`, `boxes`, `task`.

    counts: samples, failed, correct (answered right), difficult (and not right without the image), kept (and aligned),
    kept_without_boxes, kept_without_gaze (constant map), answers_before and answers_after: the most frequent answers
    of the teacher, normalised, as [text, count], over all that it answered and over the kept. A filter that is off
    passes everything.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    return {"all": _counts(rows), "tasks": {task: _counts([r for r in rows if r["task"] == task]) for task in tasks}}


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kept = [row for row in rows if row["dropped_by"] is None]
    counts: dict[str, Any] = {
        "samples": len(rows),
        "failed": sum(row["dropped_by"] == "failed" for row in rows),
    }
    for stage, drops in _STAGES.items():
        counts[stage] = sum(row["dropped_by"] not in drops for row in rows)
    counts["kept_without_boxes"] = sum(not row["boxes"] for row in kept)
    counts["kept_without_gaze"] = sum(row["gaze_index"] is None for row in kept)
    counts["answers_before"] = _answers(row for row in rows if row["dropped_by"] != "failed")
    counts["answers_after"] = _answers(kept)
    return counts


def _answers(rows: Iterable[dict[str, Any]]) -> list[list[Any]]:
    counted = Counter(normalize(row["answer"] or "") for row in rows)
    return [[text, n] for text, n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:TOP_ANSWERS]]


def funnel_table(found: dict[str, Any]) -> str:
    """The funnel as text: one line a task, then all; below it the answers before → after."""
    from tabulate import tabulate

    named = {**found["tasks"], "all": found["all"]} if len(found["tasks"]) > 1 else {"all": found["all"]}
    head = ["task", "samples", "failed", "right", "not right blind", "aligned = kept", "of samples"]
    body = [
        [name, c["samples"], c["failed"], c["correct"], c["difficult"], c["kept"], f"{c['kept'] / c['samples']:.1%}"]
        for name, c in named.items()
    ]
    lines = [tabulate(body, head)]
    for key, text in (("kept_without_boxes", "have no boxes"), ("kept_without_gaze", "have no gaze")):
        if found["all"][key]:
            lines.append(f"{found['all'][key]} of the kept {text}")
    lines.append("\nmost frequent answers")
    for name, counts in found["tasks"].items():
        for when in ("before", "after"):
            shown = [f"{text or '(empty)'} {n}" for text, n in counts[f"answers_{when}"]]
            lines.append(f"  {name}, {when} the filters: {', '.join(shown) or 'none'}")
    return "\n".join(lines)
