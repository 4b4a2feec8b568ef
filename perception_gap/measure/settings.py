"""One analysis: what was asked of which model, and everything that decides a row of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.data import Dataset
from perception_gap.errors import UsageError
from perception_gap.gaze.prompting import Prompting
from perception_gap.knockout.conditions import Knockout
from perception_gap.measure import per_layer
from perception_gap.models.loading import LoadedModel
from perception_gap.runs.key import image_hashes, key_of, model_facts, provenance, sample_content, versions
from perception_gap.runs.paths import signed, stored_path
from perception_gap.runs.rows import answered
from perception_gap.runs.run import Run
from perception_gap.runs.samples import Work
from perception_gap.runs.schema.versions import RUN
from perception_gap.sample import Sample


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
class Analysis:
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

    def work(self, facts: dict[str, Any]) -> list[Work]:
        """Every sample with what decides its row. facts: `model_facts`. UsageError as `check_teacher`."""
        samples = list(self.dataset.samples)
        hashes = image_hashes(samples)
        if self.teacher is not None:
            check_teacher(self.teacher, samples, hashes)
        return [self.work_of(facts, sample, images) for sample, images in zip(samples, hashes, strict=True)]

    def work_of(self, facts: dict[str, Any], sample: Sample, images: str) -> Work:
        """images: hash of the sample's pictures."""
        text = shared_text(self, sample, images)
        return Work(sample, images, row_key(self, facts, sample, images, text), text)


def row_key(job: Analysis, facts: dict[str, Any], sample: Sample, images: str, shared: str | None) -> str:
    """Hash of everything that decides a row; two runs share a row only if all of it is equal. facts: `model_facts`."""
    # "auto" is another dtype on another machine.
    machine = [facts["dtype"], facts["device"].split(":")[0], versions()]
    decided = [RUN.version, sample_content(job.out, sample, images), facts["revision"], machine]
    decided += [asdict(job.settings), shared]
    if job.settings.per_layer:  # its divergences are measured with the row, unlike those of whole maps
        against = per_layer.reference(job.teacher, job.settings.text, sample, images)
        decided += [job.raster, per_layer.stored(), against and hashlib.sha256(against.map.tobytes()).hexdigest()]
    return key_of(*decided)


def shared_text(job: Analysis, sample: Sample, images: str) -> str | None:
    """The text that teacher and student are both read on; None where there is none (the teacher failed, say)."""
    if job.settings.text == "reference":
        return sample.answer
    if job.settings.text == "own" or job.teacher is None or not same_sample(job.teacher, sample, images):
        return None
    return str(job.teacher.row(sample.id)["answer"])


def same_sample(teacher: Run, sample: Sample, images: str) -> bool:
    """Whether the teacher's run holds this question, with these options, about this picture, and answered it."""
    return sample.id in teacher and answered(teacher.row(sample.id), sample.question, images, sample.options)


def check_teacher(teacher: Run, samples: Sequence[Sample], hashes: Sequence[str]) -> None:
    """UsageError unless the teacher's run holds at least one of the samples; hashes: `image_hashes` of them."""
    if not any(same_sample(teacher, s, h) for s, h in zip(samples, hashes, strict=True)):
        raise UsageError(
            f"teacher run {teacher.path}: none of these {len(hashes)} samples is in it (same id, question, image); "
            "analyze the teacher on the same --data, or name its model instead"
        )


def describe(job: Analysis, loaded: LoadedModel) -> dict[str, Any]:
    """run.json: everything that made the run."""
    teacher = job.teacher and {
        "name": job.teacher.info["model"]["name"],
        "revision": job.teacher.info["model"]["revision"],
        "path": os.path.relpath(job.teacher.path, job.out),
    }
    root = job.dataset.root
    info = provenance(RUN.version, job.command) | {
        "model": model_facts(loaded),
        "layers": choose_layers(job.settings.layers, find_decoder(loaded.model)),
        "teacher": teacher,
        "settings": asdict(job.settings) | {"batch_size": job.batch_size, "seed": job.seed},
        "data": job.dataset.description() | {"root": None if root is None else stored_path(job.out, root)},
    }
    return signed(info)
