"""Finished comparisons without a model: synthetic runs, compared and written by `perception_gap.compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from perception_gap.compare import run
from perception_gap.compare.pairs import Member
from perception_gap.compare.run import CompareOptions
from perception_gap.data import Dataset
from reports.compared import CompareRun
from reports.sources import open_source
from tests.unit.reports import synthetic_run
from tests.unit.reports.synthetic_run import Model

STUDENTS = (synthetic_run.STUDENT, Model("tiny:lavit", gain=9.0, accuracy=0.8))


def write_comparison(
    out: Path, students: Sequence[Model] = STUDENTS, n: int = 28, failed: Mapping[str, str] | None = None, **options
) -> CompareRun:
    """A teacher and students over n scenes; failed: further models and why they were not measured."""
    drawn, gone = list(synthetic_run.scenes(n=n)), dict(failed or {})
    teacher = synthetic_run.write_run(out / "teacher", drawn, synthetic_run.TEACHER)
    folders = {model.name: model.name.replace(":", "-").replace("/", "-") for model in students}
    runs = [
        synthetic_run.write_run(out / folders[model.name], drawn, model, teacher, seed=i, **options)
        for i, model in enumerate(students)
    ]
    for one in (teacher, *runs):
        one.info["model"]["parameters"] = 1000
    members = [Member("tiny:teacher", teacher, "own")]
    members += [Member(model.name, one) for model, one in zip(students, runs, strict=True)]
    folders |= {name: name.replace(":", "-").replace("/", "-") for name in gone}
    request = CompareOptions(tuple(folders), teacher="tiny:teacher", out=out, command="gapcheck compare ..")
    data = Dataset("scenes", [None] * n, "0")  # type: ignore[list-item]  # only counted
    budgets: dict[str, int | None] = {"tiny:teacher": None} | dict.fromkeys(folders, 4096)
    run.describe(request, folders, budgets, "pictures: at most 4,096 pixels", data, teacher)
    run.finish(request, tuple(members), budgets, gone)
    found = open_source(out)
    assert isinstance(found, CompareRun)
    return found
