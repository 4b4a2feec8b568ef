"""Which trace is which: a hash of everything that decides a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from lavit.traces.filters import judge_hash
from lavit.traces.settings import Extraction
from perception_gap.models.loading import LoadedModel
from perception_gap.runs.key import image_hashes, key_of, sample_content, versions
from perception_gap.runs.samples import Work
from perception_gap.runs.schema.versions import TRACE
from perception_gap.sample import Sample

PACKAGES = ("datasets",)  # beside those that every run names


def keyed(job: Extraction, loaded: LoadedModel, samples: Sequence[Sample]) -> list[Work]:
    """Each sample with the hash of its images and that of everything that decides its row."""
    return list(map(partial(work_of, job, loaded), samples, image_hashes(samples)))


def work_of(job: Extraction, loaded: LoadedModel, sample: Sample, images: str) -> Work:
    """images: the hash of the sample's pictures."""
    machine = [str(loaded.model.dtype), loaded.device.type, versions(*PACKAGES)]
    decided = [TRACE.version, loaded.revision, machine, asdict(job.settings), judge_hash(job.settings.judge)]
    return Work(sample, images, key_of(decided, sample_content(job.out, sample, images)))
