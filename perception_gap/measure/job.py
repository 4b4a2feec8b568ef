"""One analysis: what was asked of which model, and everything that decides a row of it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import perception_gap
from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.data import Contents, Dataset
from perception_gap.errors import UsageError
from perception_gap.gaze.prompting import Prompting
from perception_gap.knockout import Knockout
from perception_gap.measure import per_layer
from perception_gap.models.loading import LoadedModel
from perception_gap.runs.paths import signed, stored_path
from perception_gap.runs.store import SCHEMA_VERSION, Run, answered
from perception_gap.sample import Sample
from perception_gap.text.categories import tagger_name


@dataclass(frozen=True)
class Settings:
    """What decides a row, beside the model, the sample and the teacher's text.

    text: which text the shared capture reads: "own" (none: the model's own answer only), "teacher" or "reference".
    most_pixels: a larger picture is shrunk to so many pixels before the model's own processor sees it (`shrink`).
    latents: what becomes of the latent tokens of a model that has them: "force", "none", "mask", "template" or
        "blind" (see `lavit.latents`).
    per_layer: whether every layer and head is measured apart (see `per_layer`).
    knockout: what is asked of it, None for none (see `knockout`).
    """

    rows: str = "answer"
    layers: str = "all"
    text: str = "own"
    max_new_tokens: int = 32
    most_pixels: int | None = None
    instruction: str = ""
    system: str | None = None
    latents: str = "force"
    per_layer: bool = False
    knockout: Knockout | None = None
    load: dict[str, Any] = field(default_factory=dict)

    @property
    def prompting(self) -> Prompting:
        return Prompting(self.instruction, self.system, self.most_pixels, self.max_new_tokens)


@dataclass(frozen=True)
class Job:
    """One model over one dataset into one folder; `teacher` is the finished run to compare with, if any."""

    model: str
    dataset: Dataset
    out: Path
    settings: Settings
    teacher: Run | None = None
    batch_size: int = 8
    seed: int = 0
    raster: tuple[int, int] | None = None  # None: the token grid where all are equal, else DEFAULT_RASTER
    fresh: bool = False
    command: str = ""


def image_hash(sample: Sample) -> str:
    """sha256 over the bytes of the sample's images (`Contents.hash`)."""
    return Contents.of(sample.images).hash


def row_key(job: Job, facts: dict, sample: Sample, images: str, shared: str | None) -> str:
    """Hash of everything that decides a row; two runs share a row only if all of it is equal. facts: `model_facts`."""
    content = asdict(sample) | {"images": [*stored_paths(job.out, sample), images]}
    # "auto" is another dtype on another machine.
    machine = [facts["dtype"], facts["device"].split(":")[0], versions()]
    decided = [SCHEMA_VERSION, content, facts["revision"], machine, asdict(job.settings), shared]
    if job.settings.per_layer:  # its divergences are measured with the row, unlike those of whole maps
        against = per_layer.reference(job.teacher, job.settings.text, sample, images)
        decided += [job.raster, against and hashlib.sha256(against.map.tobytes()).hexdigest()]
    return hashlib.sha256(json.dumps(decided, sort_keys=True, default=str).encode()).hexdigest()[:32]


@cache  # asked for every row; looking packages up takes milliseconds
def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "gapcheck": perception_gap.__version__, "tagger": tagger_name()}
    for name in ("torch", "torchvision", "transformers", "accelerate"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def shared_text(job: Job, sample: Sample, images: str) -> str | None:
    """The text that teacher and student are both read on; None where there is none (the teacher failed, say)."""
    if job.settings.text == "reference":
        return sample.answer
    if job.settings.text == "own" or job.teacher is None or not same_sample(job.teacher, sample, images):
        return None
    return job.teacher.row(sample.id)["answer"]


def same_sample(teacher: Run, sample: Sample, images: str) -> bool:
    """Whether the teacher's run holds this question, with these options, about this picture, and answered it."""
    return sample.id in teacher and answered(teacher.row(sample.id), sample.question, images, sample.options)


def model_facts(loaded: LoadedModel) -> dict:
    """Which model it was: name, revision, classes, precision, device, size."""
    return {
        "name": loaded.name,
        "revision": loaded.revision,
        "family": type(loaded.family).__name__,
        "class": type(loaded.model).__name__,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "device": str(loaded.device),
        "parameters": loaded.model.num_parameters(),
        "assumed": loaded.family.assumed,
    }


def describe(job: Job, loaded: LoadedModel) -> dict:
    """run.json: everything that made the run."""
    teacher = job.teacher and {
        "name": job.teacher.info["model"]["name"],
        "revision": job.teacher.info["model"]["revision"],
        "path": os.path.relpath(job.teacher.path, job.out),
    }
    root = job.dataset.root
    info = {
        "schema_version": SCHEMA_VERSION,
        "command": job.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model_facts(loaded),
        "layers": choose_layers(job.settings.layers, find_decoder(loaded.model)),
        "teacher": teacher,
        "settings": asdict(job.settings) | {"batch_size": job.batch_size, "seed": job.seed},
        "data": job.dataset.description() | {"root": None if root is None else stored_path(job.out, root)},
        "versions": versions(),
    }
    return signed(info)


def stored_paths(out: Path, sample: Sample) -> list[str]:
    """Image paths as a row keeps them: relative to the run folder when they lie beside or in it, else absolute."""
    return [stored_path(out, path) for path in sample.images]


def check_teacher(teacher: Run, dataset: Dataset, hashes: list[str]) -> None:
    """UsageError unless the teacher's run holds at least one of the samples; hashes: `image_hash` of each."""
    if not any(same_sample(teacher, s, h) for s, h in zip(dataset.samples, hashes, strict=True)):
        raise UsageError(
            f"teacher run {teacher.path}: none of these {len(hashes)} samples is in it (same id, question, image); "
            "analyze the teacher on the same --data, or name its model instead"
        )
