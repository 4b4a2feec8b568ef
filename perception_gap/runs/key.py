"""What made a run, and the key of a row: a hash of everything that decides it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import perception_gap
from perception_gap.data.images import Contents
from perception_gap.runs.paths import stored_path
from perception_gap.sample import Sample
from perception_gap.text.categories import tagger_name

if TYPE_CHECKING:
    from perception_gap.models.loading import LoadedModel

DECIDING = ("torch", "torchvision", "transformers", "accelerate")  # packages whose version may change a row


def key_of(*decided: Any) -> str:
    """32 hex digits over anything that JSON, or its text, holds; two rows are one only if all of it is equal."""
    return hashlib.sha256(json.dumps(decided, sort_keys=True, default=str).encode()).hexdigest()[:32]


def sample_content(out: Path, sample: Sample, images: str) -> dict[str, Any]:
    """What of a sample decides its row. images: hash of its pictures (`Contents.hash`)."""
    return asdict(sample) | {"images": [*stored_paths(out, sample), images]}


def image_hashes(samples: Sequence[Sample]) -> list[str]:
    """sha256 over the bytes of each sample's images (`Contents.hash`); those of one set of files are read once."""
    by_paths: dict[tuple[Path, ...], str] = {}
    hashes = []
    for sample in samples:
        if sample.images not in by_paths:
            by_paths[sample.images] = Contents.of(sample.images).hash
        hashes.append(by_paths[sample.images])
    return hashes


def stored_paths(out: Path, sample: Sample) -> list[str]:
    """Image paths as a row keeps them: relative to the run folder when they lie beside or in it, else absolute."""
    return [stored_path(out, path) for path in sample.images]


@cache  # asked for every row; looking packages up takes milliseconds
def versions(*more: str) -> dict[str, str]:
    """Python, gapcheck, the tagger of words and the packages that may change a row; `more`: other packages."""
    known = {"python": platform.python_version(), "gapcheck": perception_gap.__version__, "tagger": tagger_name()}
    for name in (*DECIDING, *more):
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known


def model_facts(loaded: LoadedModel) -> dict[str, Any]:
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


def provenance(schema_version: int, command: str, *packages: str) -> dict[str, Any]:
    """What every JSON of a run says of its making: schema, command, time (UTC), versions (with those of `packages`)."""
    return {
        "schema_version": schema_version,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(*packages),
    }
