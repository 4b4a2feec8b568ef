"""Does looking decide whether an answer is right? What `perception_gap.stats.decides` stored, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perception_gap.stats.estimates import side
from perception_gap.stats.permutation import TOO_FEW
from reports.summary import written

NULL = 0.5  # AUROC of a measure that says nothing
SILENT = {"at chance": "accuracy not above guessing"}  # else as `perception_gap.stats.decides` says it


class Looking(NamedTuple):
    """One measure of a map against being right. sign: +1 where a larger value is expected of right answers, else −1."""

    name: str
    sign: int


FOCUS = Looking("focus", 1)
KL = Looking("KL from the teacher", -1)


def verdict(decides: Mapping[str, Any], looking: Looking) -> str:
    """`In pairs`, `Over 2 tasks together`, `Not established`, `Too few to say`, .."""
    sides = _sides(decides, looking)
    if not sides:
        guessed = any(of_task["cannot_tell"] == "at chance" for of_task in decides["by_task"].values())
        return "Too few to say" if _few(decides) and not guessed else "Cannot be told"
    parts = []
    for sign, ending in ((1, ""), (-1, ": the other way round")):
        tasks = [task for task, claimed in sides.items() if claimed == sign and task]
        if tasks:
            parts.append(f"in {', '.join(tasks)}{ending}")
        elif sides.get("") == sign:
            parts.append(f"over {len(decides['overall']['tasks'])} tasks together{ending}")
    text = "; ".join(parts) or "not established"
    return text[0].upper() + text[1:]


def reason(decides: Mapping[str, Any], looking: Looking) -> str:
    """Every task's number with n right and wrong and p, the tasks together, and who cannot tell; no full stop."""
    by_task, overall = decides["by_task"], decides["overall"]
    if not by_task:
        return "no sample has both a value and a verdict (n = 0)"
    numbers = [f"{task} {_numbers(by_task[task])}" for task in overall["tasks"]]
    parts = []
    if numbers:
        parts.append(f"AUROC of {looking.name}, right over wrong answers: {'; '.join(numbers)}")
    if len(numbers) > 1:
        parts.append(f"all {len(numbers)} together {_numbers(overall)}")
    if few := _few(decides):
        tasks = ", ".join(
            f"{task} {_counts(of_task)}" for task, of_task in by_task.items() if of_task["cannot_tell"] == TOO_FEW
        )
        parts.append(f"{few:,} comparable samples: {TOO_FEW} ({tasks})")
    return "; ".join([*parts, *_silent(by_task)])


def _silent(by_task: Mapping[str, Any]) -> list[str]:
    """The tasks that are no evidence, by the reason; [] where all are."""
    reasons: dict[str, list[str]] = {}
    for task, of_task in by_task.items():
        if of_task["cannot_tell"] not in (None, TOO_FEW):
            reasons.setdefault(of_task["cannot_tell"], []).append(f"{task} ({_silence(of_task)})")
    parts = [f"{SILENT.get(why, why)}: {', '.join(tasks)}" for why, tasks in reasons.items()]
    return [f"cannot tell, {'; '.join(parts)}"] if parts else []


def clause(decides: Mapping[str, Any], looking: Looking) -> str:
    """For the finding of a terminal: the claim, then its numbers."""
    answer = verdict(decides, looking)
    return f"does {looking.name} go with being right? {answer[0].lower()}{answer[1:]}: {reason(decides, looking)}"


def claims(decides: Mapping[str, Any], looking: Looking) -> bool:
    """Whether anything is established."""
    return any(_sides(decides, looking).values())


def _sides(decides: Mapping[str, Any], looking: Looking) -> dict[str, int]:
    """task → +1 as expected, −1 the other way round, 0 not established, of those that can tell; "" for all together."""
    overall = decides["overall"]
    every = {task: decides["by_task"][task] for task in overall["tasks"]}
    if len(every) > 1:
        every[""] = overall
    return {
        task: looking.sign * side(of_task["auroc"] | {"p_holm": of_task["p_holm"]}, NULL)
        for task, of_task in every.items()
    }


def _few(decides: Mapping[str, Any]) -> int:
    """Samples of the tasks that have right and wrong answers, and too few of them."""
    tasks = [of_task for of_task in decides["by_task"].values() if of_task["cannot_tell"] == TOO_FEW]
    return sum(of_task["n_right"] + of_task["n_wrong"] for of_task in tasks)


def _numbers(of_task: Mapping[str, Any]) -> str:
    return f"{written(of_task['auroc'])} ({_counts(of_task)}, {p_value(of_task['p_holm'])})"


def _counts(of_task: Mapping[str, Any]) -> str:
    return f"{of_task['n_right']:,} right, {of_task['n_wrong']:,} wrong"


def _silence(of_task: Mapping[str, Any]) -> str:
    """The numbers that say why a task cannot tell."""
    n = f"n = {of_task['n_right'] + of_task['n_wrong']:,}"
    if of_task["cannot_tell"] == "at chance":
        return f"{written(of_task['accuracy'], '%')}, guessing {100 * of_task['chance']:.1f} %, {n}"
    return n


def p_value(p: float | None) -> str:
    """`p = 0.031`, `p < 0.001`."""
    if p is None:
        return "no test"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
