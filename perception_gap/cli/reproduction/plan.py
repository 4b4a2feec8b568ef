"""A reproduction as it was asked for, and the steps that it takes: `--dry-run` prints the very ones that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perception_gap.cli.reproduction.recipes import TARGETS, Role, Target, models_of
from perception_gap.storage.redaction import public_command

HUB = {
    "teacher": "Qwen/Qwen2.5-VL-32B-Instruct",
    "middle": "Qwen/Qwen2.5-VL-7B-Instruct",
    "student": "Qwen/Qwen2.5-VL-3B-Instruct",
}
# The image size of training (table A1), for every model: their own would compare models that see more with others.
PIXELS = {"min-pixels": 200704, "max-pixels": 1003520}
SAMPLES, TINY_SAMPLES = 1000, 480  # the paper's figure 2; the held-out scenes of docs/tiny-reproduction.md


@dataclass(frozen=True)
class Step:
    """One gapcheck command: its models, and its options by name, without those that are None, False or empty.

    loads: the models that it reads, one at a time, a trained one by what it started from.
    """

    command: str
    models: tuple[str, ...]
    options: Mapping[str, Any]
    about: str = ""
    loads: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        """The command line after `gapcheck`: a true option alone, one of a tuple for each of its values."""
        words = [self.command, *self.models]
        for name, value in self.options.items():
            for each in value if isinstance(value, tuple) else (value,):
                if each not in (None, False, ""):
                    words += [f"--{name}"] if each is True else [f"--{name}", str(each)]
        return words

    @property
    def line(self) -> str:
        """What a shell takes."""
        return public_command(self.argv)


@dataclass(frozen=True)
class Wanted:
    """The options of `gapcheck reproduce`. models: names or folders by role; asking: options of every measurement."""

    target: str
    out: Path
    tiny: bool = False
    retrain: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    traces: Path | None = None
    data_root: Path | None = None
    viscot: Path | None = None
    image_root: Path | None = None
    instruction: str = ""
    limit: int | None = None
    trace_limit: int | None = None
    changes: tuple[str, ...] = ()
    batch_size: int | None = None
    asking: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None

    @property
    def recipe(self) -> Target:
        return TARGETS[self.target]


class Plan:
    """The steps in their order, each once, and the folders that the table or figure is made of.

    sources: measurements, in the order of their models. rows: model -> published row. names: role -> model.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.roles = models_of(wanted.target, tiny=wanted.tiny, retrain=wanted.retrain)
        self.steps: list[Step] = []
        self.names = {name: self._model(name, role) for name, role in self.roles.items()}
        self.rows = {self.names[name]: role.row for name, role in self.roles.items()}
        self.sources = self._benchmarks() if wanted.recipe.suite else self._analyses()
        recipe = wanted.recipe
        self.notes = recipe.notes + recipe.tiny_notes * wanted.tiny
        self.notes += recipe.embedded_notes * (wanted.tiny and not wanted.retrain)

    @property
    def kind(self) -> str:
        return "table" if self.wanted.recipe.is_table else "figure"

    @property
    def given(self) -> list[str]:
        """The models that no step trains."""
        trained = {str(self.wanted.out / name / "model") for name in self.names}
        return [name for name in self.names.values() if name not in trained]

    def _add(self, about: str, command: str, models: tuple[str, ...], options: dict[str, Any], out: str) -> Path:
        """The step's folder."""
        folder = self.wanted.out / out
        loads = tuple(dict.fromkeys(self._started_from(model) for model in models))
        step = Step(command, models, {**options, "out": folder}, about, loads)
        if step not in self.steps:
            self.steps.append(step)
        return folder

    def _started_from(self, model: str) -> str:
        """The model itself, or the student that a step before trains."""
        trained = any(step.command == "train" and model == f"{step.options['out']}/model" for step in self.steps)
        return self._base("student") if trained else model

    def _model(self, name: str, role: Role) -> str:
        """The model of a role: given, embedded, on the hub, or trained by steps that are added."""
        wanted = self.wanted
        if name in wanted.models:
            return wanted.models[name]
        if wanted.tiny and role.tiny and not (wanted.retrain and role.preset):
            return role.tiny
        return self._trained(name, role) if role.preset else HUB[name]

    def _base(self, name: str) -> str:
        """Teacher or student, which need no step."""
        return self.wanted.models.get(name) or (f"tiny:{name}" if self.wanted.tiny else HUB[name])

    def _traces(self) -> Path:
        wanted = self.wanted
        if wanted.traces is not None:
            return wanted.traces
        options = {**self._data(), **self._asking(48), "limit": wanted.trace_limit or (14400 if wanted.tiny else None)}
        if wanted.tiny:
            # Blind guessing is right half the time on two-choice scenes: the filter would leave one answer.
            options |= {"no-difficulty": True, "max-new-tokens": 16}
        return self._add("the teacher's answers, gaze and states", "trace", (self._base("teacher"),), options, "traces")

    def _trained(self, name: str, role: Role) -> str:
        wanted = self.wanted
        options: dict[str, Any] = {"traces": self._traces(), "preset": role.preset}
        if wanted.tiny:
            options |= {"scale": "tiny", "cache-vision": wanted.out / "cache"}
        memory = () if wanted.tiny else ("bf16=true", "checkpointing=true")
        options |= {"set": (*role.changes, *memory, *wanted.changes), "device": wanted.device}
        return str(self._add(f"trains {role.row}", "train", (self._base("student"),), options, name) / "model")

    def _asking(self, tiny_batch: int) -> dict[str, Any]:
        wanted = self.wanted
        return {**wanted.asking, "batch-size": wanted.batch_size or (tiny_batch if wanted.tiny else None)}

    def _data(self) -> dict[str, Any]:
        """Pictures with boxes: drawn scenes, or Visual-CoT."""
        wanted = self.wanted
        if wanted.tiny:
            return {"data": "scenes"}
        return {"data": f"viscot:{wanted.viscot}", "image-root": wanted.image_root, "instruction": wanted.instruction}

    def _benchmarks(self) -> list[Path]:
        wanted, recipe, models = self.wanted, self.wanted.recipe, tuple(self.names.values())
        data = {"suite": recipe.tiny_suite} if wanted.tiny else {"suite": recipe.suite, "data-root": wanted.data_root}
        options = {**data, "limit": wanted.limit, "gaze": recipe.gaze, **self._asking(40)}
        baseline = {"baseline": self.names.get(recipe.baseline)}
        # Table 2 and figure 4 are one measurement: in one --out it is done once.
        out = "bench-relative-depth" if recipe.gaze else f"bench-{wanted.target}"
        runs = [self._add("asks every model the same questions", "bench", models, baseline | options, out)]
        if recipe.masked:
            about, hidden = "the first again, with its latents hidden from the answer", {"latents": "mask"}
            runs.append(self._add(about, "bench", models[:1], hidden | options, f"{out}-mask"))
        return runs

    def _analyses(self) -> list[Path]:
        """The teacher first, whose stored pass the others are compared with."""
        wanted = self.wanted
        limit = wanted.limit or (TINY_SAMPLES if wanted.tiny else SAMPLES)
        shared = {**self._data(), "limit": limit, **self._asking(48), "max-new-tokens": 16 if wanted.tiny else None}
        runs = []
        for name, model in self.names.items():
            first = name == "teacher"
            about = "the teacher's own answers and maps" if first else "the same pictures, the same text"
            options = {"teacher": None if first else wanted.out / "teacher", **shared, "no-figures": True}
            runs.append(self._add(about, "analyze", (model,), options, name if first else f"{name}-vs-teacher"))
        return runs
