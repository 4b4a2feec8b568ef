"""The models of a figure: what they are called, in which colour, and which of their maps is shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pandas as pd

from perception_gap.errors import UsageError
from perception_gap.runs.rows import answered
from perception_gap.runs.run import Run
from reports.overlays.picture import shown_pictures
from reports.pictures import PictureError
from reports.sources import labels
from reports.style import STUDENTS, TEACHER


class Model(NamedTuple):
    """kind: the map that is shown, "own" (of the model's own answer) or "shared" (of the text all models read)."""

    name: str
    color: str
    run: Run
    kind: str
    compared: bool  # with the teacher

    def row(self, sample: pd.Series) -> pd.Series | None:
        """The model's row of this sample, None where the run lacks it."""
        return self.run.row(sample["sample_id"]) if sample["sample_id"] in self.run else None

    def map(self, sample: pd.Series, of_words: bool = False) -> np.ndarray | str:
        """Weights [N], of words [W, N], or in words why there are none."""
        row = self.row(sample)
        if row is None:
            return "not in this run"
        if row["status"] != "ok":
            return f"failed: {row['error']}"
        if not answered(row, sample["question"], sample["image_hash"], sample["options"]):
            return "another question in this run"
        weights = self.run.map(sample["sample_id"], self.kind + ("_words" if of_words else ""))
        return "no map of the shared text" if weights is None else weights


def as_models(runs: Run | Sequence[Run], teacher: Run | None, *, named: bool = False) -> list[Model]:
    """The teacher, if any, then the runs. A single pair has its roles for names, unless `named`; several have labels.

    UsageError when there is no run, and when the runs were not compared on one text with this teacher.
    """
    students = [runs] if isinstance(runs, Run) else list(runs)
    if not students:
        raise UsageError("overlays: no run to show; give at least one")
    everyone = students if teacher is None else [teacher, *students]
    names = labels(everyone)
    if len(students) == 1 and not named:
        names = ["model"] if teacher is None else ["teacher", "student"]
    elif teacher is not None and "teacher" not in names[0].lower():
        names[0] += " (teacher)"
    colors = [STUDENTS[i % len(STUDENTS)] for i in range(len(students))]
    if teacher is None:
        # Models of a comparison were read on one text without a teacher; an analysis without one has none.
        alike = all(run.info["settings"]["text"] == "reference" for run in students)
        kind = "shared" if alike else "own"
        return [Model(n, c, r, kind, False) for n, c, r in zip(names, colors, students, strict=True)]
    # On the teacher's text its own map is the shared one; on the reference all have a shared map.
    kind = "own" if _one_text(students, teacher) == "teacher" else "shared"
    beside = [Model(n, c, r, "shared", True) for n, c, r in zip(names[1:], colors, students, strict=True)]
    return [Model(names[0], TEACHER, teacher, kind, False), *beside]


def _one_text(students: Sequence[Run], teacher: Run) -> str:
    """Which text the runs were compared on, "teacher" or "reference"."""
    texts = {run.info["settings"]["text"] for run in students}
    if len(texts) > 1:
        names = ", ".join(sorted(texts))
        raise UsageError(f"overlays: the runs were read on different texts ({names}); analyze them with one --text")
    for run in students:
        theirs = run.info["teacher"]
        if theirs and theirs["revision"] != teacher.info["model"]["revision"]:
            raise UsageError(f"overlays: {run.path} was compared with another teacher ({theirs['name']})")
    return texts.pop()


def sample_of(models: Sequence[Model], sample_id: str) -> tuple[Run, pd.Series]:
    """The sample's row in a run that measured it, if one did, and that run: the first that can show the pictures.

    UsageError where no run has the sample.
    """
    runs = [model.run for model in models if sample_id in model.run]
    if not runs:
        raise UsageError(f"sample {sample_id!r} is in none of these runs; samples.parquet lists those that are")
    measured = [run for run in runs if run.row(sample_id)["status"] == "ok"] or runs
    for run in measured:
        with suppress(PictureError):
            shown_pictures(run, sample_id)
            return run, run.row(sample_id)
    return measured[0], measured[0].row(sample_id)
