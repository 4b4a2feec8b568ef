"""Who stands in a figure: the models of the runs, or of a benchmark, each with one label and one look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from perception_gap.metrics.means import of_gaze
from perception_gap.runs.run import Run
from reports.names import frames
from reports.sources import BenchRun, labels, teacher_or_reason
from reports.style import TEACHER_LOOK, Look, look


class NamedFigure(NamedTuple):
    """A finished figure. name: file stem, one of NAMES, with "-FOLDER" behind it where a name would stand twice.

    alt: what it shows in words with the decisive numbers, for captions and for those who cannot see it.
    """

    name: str
    title: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Model:
    """One model in a figure. samples: a row a question (samples.parquet); path: of its run, None of a benchmark.

    summary: its run's, `gaze` of a benchmark's; focus, entropy and salient regions are always of these very samples.
    """

    label: str
    samples: pd.DataFrame
    summary: Mapping[str, Any]
    look: Look
    is_teacher: bool = False
    path: Path | None = None

    @property
    def valid(self) -> pd.DataFrame:
        return self.samples[self.samples["status"] == "ok"]


@dataclass(frozen=True)
class Group:
    """Models that stand in one figure, the teacher first where there is one.

    notes: whole sentences that a reader has to know (other samples, a teacher that is gone); compared: whether the
    models have a divergence from a teacher; warning: what a figure itself has to say, in a few words; frame: on which
    their divergences are, as `reports.names.frames`.
    """

    models: tuple[Model, ...]
    notes: tuple[str, ...] = ()
    compared: bool = False
    warning: str = ""
    frame: str = ""

    @property
    def teacher(self) -> Model | None:
        return self.models[0] if self.models and self.models[0].is_teacher else None

    @property
    def students(self) -> tuple[Model, ...]:
        return self.models[self.teacher is not None :]


def of_runs(runs: Sequence[Run]) -> Group:
    """The teacher of the first run that has one, on the samples of the runs, and each run that is not this teacher."""
    teacher, notes = _teacher(runs)
    if teacher is not None:
        where = teacher.path.resolve()
        runs = [run for run in runs if run.path.resolve() != where]
    names = labels([*([teacher] if teacher else []), *runs])
    models = []
    if teacher is not None:
        asked = set().union(*(run.samples["sample_id"] for run in runs))
        same = teacher.samples[teacher.samples["sample_id"].isin(asked)]
        chosen = {} if len(same) == len(teacher.samples) else of_gaze(same)
        models.append(Model(names.pop(0), same, teacher.summary | chosen, TEACHER_LOOK, is_teacher=True, path=where))
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        models.append(Model(name, run.samples, run.summary, look(i), path=run.path.resolve()))
    differ = len({run.info["data"]["hash"] for run in runs}) > 1
    if differ:
        notes.append("The runs have different samples: differences between models are also differences of samples.")
    if len({_teacher_name(run) for run in runs} - {None}) > 1:
        notes.append("The runs have different teachers: each divergence is from its own.")
    compared = any(run.info.get("teacher") for run in runs)
    met = frames(runs)
    if " and " in met:
        notes.append(f"The maps of these runs met on different frames, {met}: their divergences do not compare.")
    return Group(tuple(models), tuple(notes), compared, "the runs have different samples" if differ else "", met)


def by_teacher(runs: Sequence[Run], group: Group) -> list[tuple[str, Group]]:
    """(folder of its first run, Group) for each data set and teacher of the runs, labelled and drawn as in `group`.

    Runs without a teacher are in none. Where there are several, each says in words which it is.
    """
    parts: dict[tuple, list[Run]] = {}
    for run in runs:
        if teacher := _teacher_name(run):
            parts.setdefault((run.info["data"]["hash"], *teacher), []).append(run)
    known = {model.path: model for model in group.models}
    groups = []
    for part in parts.values():
        own = of_runs(part)
        there = [(model, known.get(model.path, model)) for model in own.models]
        drawn = [
            replace(model, label=same.label, look=model.look if model.is_teacher else same.look)
            for model, same in there
        ]
        own = replace(own, models=tuple(drawn))
        if len(parts) > 1:
            which = f"on {part[0].info['data']['spec']}, teacher {part[0].info['teacher']['name']}"
            note = f"Only the runs {which}: those of other samples or of another teacher are not comparable with them."
            own = replace(own, notes=(*own.notes, note), warning=f"only the runs {which}")
        groups.append((part[0].path.resolve().name, own))
    return groups


def _teacher(runs: Sequence[Run]) -> tuple[Run | None, list[str]]:
    """The first teacher that can be opened; a sentence for every one that cannot."""
    notes: list[str] = []
    for run in runs:
        teacher, reason = teacher_or_reason(run)
        if teacher is not None:
            return teacher, notes
        if reason:
            notes.append(f"The run of {run.info['teacher']['name']}, the teacher, is gone: it is not shown.")
    return None, notes


def _teacher_name(run: Run) -> tuple[str, str] | None:
    teacher = run.info.get("teacher")
    return (teacher["name"], teacher.get("revision", "")) if teacher else None


def of_bench(bench: BenchRun, known: Mapping[str, Look]) -> Group:
    """The models of a benchmark in its order, none of them a teacher; those in `known` look as they do there."""
    names = [model.label for model in bench.models]
    twice = [f"{n} ({m.folder.name})" if names.count(n) > 1 else n for n, m in zip(names, bench.models, strict=True)]
    looks = dict(known)
    for name in twice:
        looks.setdefault(name, look(sum(other != TEACHER_LOOK for other in looks.values())))
    models = [
        Model(name, model.samples, model.summary.get("gaze", {}), looks[name])
        for name, model in zip(twice, bench.models, strict=True)
    ]
    notes = [f"Not summarised yet: {', '.join(bench.missing)}."] if bench.missing else []
    return Group(tuple(models), tuple(notes))


def without(group: Group, column: str) -> Group:
    """The group's models that were measured by this column at all; the others are named in a note."""
    have = tuple(model for model in group.models if column in model.samples and column in model.summary)
    gone = [model.label for model in group.models if all(model is not other for other in have)]
    return replace(group, models=have, notes=(*group.notes, *([f"Not measured: {', '.join(gone)}."] if gone else [])))
