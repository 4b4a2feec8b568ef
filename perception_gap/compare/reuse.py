"""A model whose run is there, and whole, is not loaded again."""

from __future__ import annotations

import os

from perception_gap.errors import DamagedError
from perception_gap.measure.settings import Analysis, row_key, shared_text
from perception_gap.models.loading import revision_of
from perception_gap.models.placement import choose_device
from perception_gap.runs.key import image_hashes
from perception_gap.runs.parts import read_keys
from perception_gap.runs.run import Run


def finished(job: Analysis) -> Run | None:
    """The run in `job.out` if nothing that decides it has changed since, else None; no weights are read.

    Compared are the model's revision, device and settings, the versions of the libraries, every sample with its
    pictures, the teacher and its answers, and the raster.
    """
    if job.fresh or not (job.out / "summary.json").exists():
        return None
    try:
        run = Run.open(job.out)
        keys = read_keys(job.out / "parts")
    except (DamagedError, OSError):
        return None
    facts, kept = run.info["model"], run.info["settings"]
    if (facts["name"], facts["revision"]) != (job.model, revision_of(job.model, job.settings.load.get("revision"))):
        return None
    device = facts["device"].split(":")[0]
    if "device_map" not in job.settings.load and choose_device(job.settings.load.get("device", "auto")).type != device:
        return None
    if kept["seed"] != job.seed or run.info.get("raster") not in (None, list(job.raster) if job.raster else "native"):
        return None
    if not _same_teacher(run, job):
        return None
    hashes = image_hashes(job.dataset.samples)
    wanted = [
        row_key(job, facts, sample, images, shared_text(job, sample, images))
        for sample, images in zip(job.dataset.samples, hashes, strict=True)
    ]
    return run if keys == wanted else None


def _same_teacher(run: Run, job: Analysis) -> bool:
    kept = run.info["teacher"]
    if job.teacher is None or kept is None:
        return (job.teacher is None) == (kept is None)
    # A teacher that was measured anew may have other maps with the same answers: then the divergences are old.
    if (job.teacher.path / "summary.json").stat().st_mtime_ns > (job.out / "summary.json").stat().st_mtime_ns:
        return False
    about = job.teacher.info["model"]
    where = os.path.relpath(job.teacher.path, job.out)
    return (kept["name"], kept["revision"], kept["path"]) == (about["name"], about["revision"], where)
