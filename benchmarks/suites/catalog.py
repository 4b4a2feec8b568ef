"""Names of suites and tasks, and the definition that lmms-eval has for each."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import published
from perception_gap.data.scenes import TASKS
from perception_gap.errors import UsageError

PAPER = published.TASKS  # table 1 of the paper, in its order
SCENES = tuple(f"scenes_{task}" for task in TASKS)
# Groups of lmms-eval (blink, hrbench) and its tags are found by their own names.
SUITES: dict[str, tuple[str, ...]] = {
    "paper": PAPER,
    "scenes": SCENES,
    "vstar": ("vstar_bench_direct_attributes", "vstar_bench_relative_position"),
}
SCENES_FOLDER = Path(__file__).parent / "scenes"


def choose(names: Sequence[str]) -> list[str]:
    """Task ids of suites, groups, tags and tasks, once each, in the order asked for.

    UsageError names what is unknown, all of it, with near matches.
    """
    wanted = [name.strip() for name in names if name.strip()]
    if not wanted:
        raise UsageError(
            f"--suite {','.join(names)!r}: names no suite or task; expected {', '.join(SUITES)} or task ids"
        )
    tasks: list[str] = []
    unknown = []
    for name in wanted:
        if name in SUITES:
            tasks += SUITES[name]
        elif name in SCENES:
            tasks.append(name)
        else:
            members = _members(name)
            tasks += members
            unknown += [] if members else [name]
    if unknown:
        raise UsageError("; ".join(_near(name) for name in unknown) + "; nothing was run")
    return list(dict.fromkeys(tasks))


def definition(task: str) -> dict[str, Any]:
    """The task's configuration, with lmms-eval's own functions in it. UsageError for a kind that cannot be run."""
    from lmms_eval import utils

    if task in SCENES:
        return utils.load_yaml_config(str(SCENES_FOLDER / f"{task}.yaml"), mode="full")
    entry = _index().task_index[task]
    if entry["type"] == "python_task":
        raise UsageError(f"task {task!r} is a Python class of its own: run it with lmms-eval and --model gapcheck_hf")
    try:
        return _index()._get_config(task)
    # The definitions are other people's code: some miss packages, keys or data as soon as they are imported.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UsageError(f"task {task!r}: its definition does not load ({reason}); give it what it needs") from error


def _members(name: str) -> list[str]:
    index = _index().task_index
    if name not in index:
        return []
    kind = index[name]["type"]
    if kind in ("task", "python_task"):
        return [name]
    members = index[name]["task"]
    if members == -1:
        members = _index()._get_config(name)["task"]
    absent = [member for member in members if isinstance(member, str) and member not in index]
    if absent:
        raise UsageError(f"group {name!r} names tasks that this lmms-eval does not have: {', '.join(absent)}")
    if not all(isinstance(member, str) for member in members):
        raise UsageError(f"group {name!r} changes the settings of its tasks: name the tasks instead")
    return [task for member in members for task in _members(member)]


def _near(name: str) -> str:
    known = [*SUITES, *SCENES, *_index().all_tasks]
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"expected {', '.join(SUITES)} or a task id of lmms-eval"
    return f"unknown task or suite {name!r}: {hint}"


@cache
def _index() -> Any:
    """lmms-eval's index of about 2,000 tasks; reading it takes seconds, which scenes do not need."""
    from lmms_eval.tasks import TaskManager

    return TaskManager()
