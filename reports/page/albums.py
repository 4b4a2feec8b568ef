"""Which models can be looked at side by side: an album is models over the same samples, the teacher first.

Runs of one data set and one teacher, read in one way, form an album, and so do the models of a benchmark; other data
are another album, so that nothing is ever compared across data sets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from perception_gap.geometry import TokenGeometry
from perception_gap.runs.rows import geometry_of
from perception_gap.runs.run import Run
from perception_gap.storage.intact import Arrays
from reports.names import frame
from reports.pictures import OUTSIDE, PictureError, open_pictures
from reports.sources import BenchModel, BenchRun, Source, labels, teacher_or_reason
from reports.style import TEACHER, look


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
    picture_folders: Sequence[Path]  # below which pictures may be read
    samples: pd.DataFrame
    map_of: Callable[[str, str], np.ndarray | None]  # (sample id, kind)
    words: pd.DataFrame = field(default_factory=pd.DataFrame)
    shared: str = "own"  # the kind of map on the text that the album's models share
    has_maps: bool = True  # a benchmark without --gaze has none
    hash_of_pixels: bool = False  # what a benchmark keeps of its pictures

    @cached_property
    def _words(self) -> dict[tuple[str, str], slice]:
        """(sample, text) -> its rows, which stand together; a group-by would take seconds of a large run."""
        if self.words.empty:
            return {}
        ids, texts = self.words["sample_id"].to_numpy(), self.words["text"].to_numpy()
        starts = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]) | (texts[1:] != texts[:-1])))
        stops = np.append(starts[1:], len(ids))
        return {(ids[a], texts[a]): slice(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)}

    def row(self, sample_id: str) -> dict[Any, Any]:
        return self.samples.loc[sample_id].to_dict()

    def pictures(self, sample_id: str) -> list[Image.Image]:
        """PictureError where they are not to be shown."""
        row = self.row(sample_id)
        paths = [self.folder / path for path in row["images"]]
        return open_pictures(paths, row["image_hash"], self.picture_folders, of_pixels=self.hash_of_pixels)

    def geometry(self, sample_id: str) -> TokenGeometry:
        return geometry_of(self.row(sample_id))

    def text(self, sample_id: str, kind: str) -> Text | None:
        """The words of the `own` or `shared` text; None without maps of them."""
        at, maps = self._words.get((sample_id, kind)), self.map_of(sample_id, f"{kind}_words")
        if at is None or maps is None or at.stop - at.start != len(maps):
            return None
        rows = self.words.iloc[at]
        numbers = (rows[name].to_numpy(dtype=float) for name in ("kl", "focus_score"))
        return Text(rows["word"].tolist(), rows["category"].tolist(), maps, *numbers)


@dataclass
class Album:
    """Models over the same samples. `runs`: the analyses behind it, without the teacher's, in the order given.

    teacher: their teacher's run, None where they have none or where it is gone.
    """

    title: str
    members: list[Member]
    runs: list[Run] = field(default_factory=list)
    teacher: Run | None = None
    outside: set[Path] = field(default_factory=set)  # folders of pictures that may not be read

    @property
    def first(self) -> Member:
        """The first that is no teacher: its rows say what was asked, a teacher's may be another question."""
        return self.members[0 if self.teacher is None else 1]

    @cached_property
    def ids(self) -> list[str]:
        """The samples that every member has, as the same question about the same pictures, in the order of `first`."""
        asked = self.first.samples[["question", "image_hash"]]
        common = pd.Series(True, index=asked.index)
        for member in self.members:
            theirs = member.samples[["question", "image_hash"]].reindex(asked.index)
            common &= (theirs == asked).all(axis=1)
        return common.index[common].tolist()

    def label(self, run: Run) -> str:
        """What the page calls the model of one of `runs`."""
        return next(member.label for member in self.members if member.folder == run.path)

    def pictures(self, sample_id: str) -> list[Image.Image]:
        """Those of the first member that can show them; the PictureError of `first` where none can."""
        try:
            return self.first.pictures(sample_id)
        except PictureError as error:
            for member in self.members:
                with suppress(PictureError):
                    return member.pictures(sample_id)
            self.outside |= {error.path.parent} if str(error) == OUTSIDE else set()
            raise


def albums(sources: Sequence[Source]) -> list[Album]:
    """Albums in the order of their first source; a run that is another's teacher is no album of its own.

    A model has one label and one colour in all of them, as in the figures.
    """
    runs = [source for source in sources if isinstance(source, Run)]
    teachers = {run.path.resolve(): teacher_or_reason(run)[0] for run in runs}
    where = {teacher.path.resolve() for teacher in teachers.values() if teacher is not None}
    runs = [run for run in runs if run.path.resolve() not in where]
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(comparable(run, teachers[run.path.resolve()]), []).append(run)
    # One pass of each group's teacher stands for all: `comparable` says that they were asked alike.
    firsts = {key: teachers[group[0].path.resolve()] for key, group in groups.items()}
    known = {t.path.resolve(): t for t in firsts.values() if t is not None}
    everyone = [*known.values(), *runs]
    names = dict(zip((model.path.resolve() for model in everyone), labels(everyone), strict=True))
    colors = {names[place]: TEACHER for place in known}
    colors |= {names[run.path.resolve()]: look(i).color for i, run in enumerate(runs)}
    listed = [_of_runs(group, firsts[key], names, colors) for key, group in groups.items()]
    return listed + [_of_bench(source, colors) for source in sources if isinstance(source, BenchRun) and source.models]


def comparable(run: Run, teacher: Run | None) -> tuple[Any, ...]:
    """Equal for runs that may be compared: the same data, read in the same way, against a teacher asked in one way, KL
    of all on one frame.

    Two passes of one teacher that lie in two folders are one.
    """
    settings = run.info["settings"]
    read = (run.info["data"]["hash"], *(settings.get(name) for name in ("text", "layers", "rows", "instruction")))
    if teacher is None:
        return (*read, None)
    model = teacher.info["model"]
    how = {name: value for name, value in teacher.info["settings"].items() if name not in ("batch_size", "seed")}
    return *read, frame(run.info), model["name"], model.get("revision"), json.dumps(how, sort_keys=True, default=str)


def _of_runs(runs: list[Run], teacher: Run | None, names: Mapping[Path, str], colors: Mapping[str, str]) -> Album:
    text = runs[0].info["settings"]["text"]
    members = []
    if teacher is not None:
        # On the teacher's text its own map is the shared one; on the reference it has a shared map too.
        members.append(_member(teacher, names, colors, "teacher", "own" if text == "teacher" else "shared"))
    role, kind = ("model", "own") if text == "own" else ("student", "shared")
    members += [_member(run, names, colors, role, kind) for run in runs]
    spec = Path(runs[0].info["data"]["spec"]).name
    return Album(f"{spec}, {len(runs[0].samples):,} samples", members, runs, teacher)


def _member(run: Run, names: Mapping[Path, str], colors: Mapping[str, str], role: str, shared: str) -> Member:
    samples, name = run.samples.set_index("sample_id", drop=False), names[run.path.resolve()]
    return Member(name, colors[name], role, run.path, run.picture_folders(), samples, run.map, run.words, shared)


def _of_bench(bench: BenchRun, colors: dict[str, str]) -> Album:
    members = []
    for model in bench.models:
        samples = model.samples.assign(sample_id=model.samples["task"] + "/" + model.samples["sample_id"].astype(str))
        samples = samples.rename(columns={"prompt": "asked"}).set_index("sample_id", drop=False)
        samples["reference"] = [" | ".join(map(str, references)) for references in samples["references"]]
        if model.label not in colors:
            colors[model.label] = look(sum(color != TEACHER for color in colors.values())).color
        maps = (model.folder / "maps.safetensors").exists()
        color = colors[model.label]
        folders = [bench.path, *bench.named]
        member = Member(model.label, color, "model", bench.path, folders, samples, _maps_of(model), has_maps=maps)
        member.hash_of_pixels = True
        members.append(member)
    return Album(f"benchmark {bench.path.name}, {len(members[0].samples):,} questions", members)


def _maps_of(model: BenchModel) -> Callable[[str, str], np.ndarray | None]:
    """DamagedError where the file of maps is not whole."""
    path = model.folder / "maps.safetensors"
    if not path.exists():
        return lambda sample_id, kind: None
    file = Arrays(path, model.summary.get("files", {}).get("maps.safetensors"))
    return lambda sample_id, kind: file.map(f"{sample_id}/{kind}")
