"""Which models can be looked at side by side: an album is models over the same samples, the teacher first.

Runs of one data set and one teacher form an album, and so do the models of a benchmark; other data are another album,
so that nothing is ever compared across data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from safetensors import safe_open

from perception_gap.geometry import TokenGeometry
from perception_gap.store import Run, geometry_of
from reports.sources import BenchModel, BenchRun, Source, labels
from reports.style import STUDENTS, TEACHER


class Text(NamedTuple):
    """One text and where a model looked while it was said: words [W], their categories, maps [W, N], KL and focus [W].

    KL is NaN on a text that the teacher was not read on.
    """

    words: list[str]
    categories: list[str]
    maps: np.ndarray
    kl: np.ndarray
    focus: np.ndarray


@dataclass
class Member:
    """One model of an album. `samples` is indexed by id, each once; ids of a benchmark are TASK/SAMPLE."""

    label: str
    color: str
    role: str  # "teacher", "student" or "model"
    folder: Path  # image paths are relative to it
    samples: pd.DataFrame
    map_of: Callable[[str, str], np.ndarray | None]  # (sample id, kind)
    tokens: pd.DataFrame = field(default_factory=pd.DataFrame)
    shared: str = "own"  # the kind of map on the text that the album's models share

    @cached_property
    def _words(self) -> dict[tuple[str, str], slice]:
        """(sample, text) -> its rows, which stand together; a group-by would take seconds of a large run."""
        if self.tokens.empty:
            return {}
        ids, texts = self.tokens["sample_id"].to_numpy(), self.tokens["text"].to_numpy()
        starts = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]) | (texts[1:] != texts[:-1])))
        stops = np.append(starts[1:], len(ids))
        return {(ids[a], texts[a]): slice(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)}

    def geometry(self, sample_id: str) -> TokenGeometry:
        return geometry_of(self.samples.loc[sample_id].to_dict())

    def text(self, sample_id: str, kind: str) -> Text | None:
        """The words of the `own` or `shared` text; None without maps of them."""
        at, maps = self._words.get((sample_id, kind)), self.map_of(sample_id, f"{kind}_words")
        if at is None or maps is None or at.stop - at.start != len(maps):
            return None
        rows = self.tokens.iloc[at]
        numbers = (rows[name].to_numpy(dtype=float) for name in ("kl", "focus_score"))
        return Text(rows["word"].tolist(), rows["category"].tolist(), maps, *numbers)


@dataclass
class Album:
    """Models over the same samples. `runs`: the analyses behind it, without the teacher's, in the order given."""

    title: str
    members: list[Member]
    runs: list[Run] = field(default_factory=list)
    teacher: Run | None = None

    @cached_property
    def ids(self) -> list[str]:
        """The samples that every member has, in the order of the first that is no teacher."""
        order = self.members[-1 if self.teacher is None else 1].samples.index
        common = set(order).intersection(*(member.samples.index for member in self.members))
        return [i for i in order if i in common]


def albums(sources: Sequence[Source]) -> list[Album]:
    """Albums in the order of their first source; a run that is another's teacher is no album of its own."""
    runs = [source for source in sources if isinstance(source, Run)]
    teachers = {run.path.resolve(): run.teacher() for run in runs}
    are_teachers = {teacher.path.resolve() for teacher in teachers.values() if teacher is not None}
    groups: dict[tuple[str, Path | None], list[Run]] = {}
    for run in runs:
        teacher = teachers[run.path.resolve()]
        if run.path.resolve() not in are_teachers:
            place = teacher.path.resolve() if teacher else None
            groups.setdefault((run.info["data"]["hash"], place), []).append(run)
    found = [_of_runs(group, teachers[group[0].path.resolve()]) for group in groups.values()]
    return found + [_of_bench(source) for source in sources if isinstance(source, BenchRun) and source.models]


def _of_runs(runs: list[Run], teacher: Run | None) -> Album:
    names = labels([*([teacher] if teacher else []), *runs])
    members = [] if teacher is None else [_teacher(teacher, names.pop(0), runs[0])]
    role = "model" if teacher is None else "student"
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        kind = "own" if teacher is None else "shared"
        members.append(_member(run, name, STUDENTS[i % len(STUDENTS)], role, kind))
    spec = Path(runs[0].info["data"]["spec"]).name
    return Album(f"{spec}, {len(runs[0].samples):,} samples", members, runs, teacher)


def _teacher(teacher: Run, name: str, student: Run) -> Member:
    # On the teacher's text its own map is the shared one; on the reference it has a shared map too.
    kind = "own" if student.info["settings"]["text"] == "teacher" else "shared"
    return _member(teacher, name, TEACHER, "teacher", kind)


def _member(run: Run, name: str, color: str, role: str, shared: str) -> Member:
    samples = run.samples.set_index("sample_id", drop=False)
    return Member(name, color, role, run.path, samples, run.map, run.tokens, shared)


def _of_bench(bench: BenchRun) -> Album:
    members = []
    for i, model in enumerate(bench.models):
        samples = model.samples.assign(sample_id=model.samples["task"] + "/" + model.samples["sample_id"].astype(str))
        samples = samples.rename(columns={"prompt": "asked"}).set_index("sample_id", drop=False)
        samples["reference"] = [" | ".join(map(str, references)) for references in samples["references"]]
        color = STUDENTS[i % len(STUDENTS)]
        members.append(Member(model.label, color, "model", bench.path, samples, _maps_of(model)))
    n = len(members[0].samples)
    return Album(f"benchmark {bench.path.name}, {n:,} questions", members)


def _maps_of(model: BenchModel) -> Callable[[str, str], np.ndarray | None]:
    path = model.folder / "maps.safetensors"
    if not path.exists():
        return lambda sample_id, kind: None
    file = safe_open(path, framework="numpy")
    names = set(file.keys())
    return lambda sample_id, kind: file.get_tensor(name) if (name := f"{sample_id}/{kind}") in names else None
