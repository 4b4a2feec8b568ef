"""Which trace is which: a hash of everything that decides a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets

from lavit.traces.filters import judge_hash
from lavit.traces.schema import SCHEMA_VERSION
from lavit.traces.settings import Job
from perception_gap.measure import job as jobs
from perception_gap.measure.job import image_hash, stored_paths
from perception_gap.models.loading import LoadedModel
from perception_gap.sample import Sample

Work = tuple[Sample, str, str]  # sample, hash of its images, key


def keyed(job: Job, loaded: LoadedModel, samples: Sequence[Sample]) -> list[Work]:
    """Each sample with the hash of its images and that of everything that decides its row."""
    hashes: dict[tuple[Path, ...], str] = {}
    work = []
    for sample in samples:
        if sample.images not in hashes:
            hashes[sample.images] = image_hash(sample)
        images = hashes[sample.images]
        work.append((sample, images, row_key(job, loaded, sample, images)))
    return work


def row_key(job: Job, loaded: LoadedModel, sample: Sample, images: str) -> str:
    """images: the hash of the sample's pictures."""
    machine = [str(loaded.model.dtype), loaded.device.type, versions()]
    decided = [SCHEMA_VERSION, loaded.revision, machine, asdict(job.settings), judge_hash(job.settings.judge)]
    content = asdict(sample) | {"images": [*stored_paths(job.out, sample), images]}
    return hash_of([decided, content])


def hash_of(value: Any) -> str:
    """32 hex digits over anything that JSON, or its text, holds."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def versions() -> dict[str, str]:
    return jobs.versions() | {"datasets": datasets.__version__}
