"""A finished run is taken as it is exactly as long as nothing that decides it has changed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from perception_gap.compare.reuse import finished
from perception_gap.data import Dataset, open_data
from perception_gap.measure.analyze import open_plain, run_analysis
from perception_gap.measure.settings import Analysis, Settings


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_checkpoint) -> Analysis:
    out = tmp_path_factory.mktemp("reuse")
    model = shutil.copytree(tiny_checkpoint("qwen2_5_vl"), out / "model")
    data = open_data("scenes", limit=4, work=out)
    job = Analysis(str(model), data, out / "run", Settings(text="reference", max_new_tokens=2), batch_size=4)
    run_analysis(job, open_plain, progress=False)
    return job


def test_a_finished_run_is_found(job):
    run = finished(job)
    assert run is not None
    assert run.path == job.out


def test_another_question_setting_seed_or_teacher_is_another_run(job):
    sample = replace(job.dataset.samples[0], question="Another?")
    other = Dataset("scenes", [sample, *job.dataset.samples[1:]], "other")
    run = finished(job)
    for changed in (
        replace(job, dataset=other), replace(job, dataset=Dataset("scenes", job.dataset.samples[:3], "fewer")),
        replace(job, settings=replace(job.settings, max_new_tokens=3)),
        replace(job, settings=replace(job.settings, most_pixels=100)), replace(job, seed=1), replace(job, fresh=True),
        replace(job, teacher=run), replace(job, model="tiny:student"), replace(job, out=job.out.parent / "nothing"),
    ):  # fmt: skip
        assert finished(changed) is None


def test_another_picture_or_other_weights_are_another_run(job):
    path = job.dataset.samples[0].images[0]
    before = path.read_bytes()
    path.write_bytes(job.dataset.samples[1].images[0].read_bytes())
    assert finished(job) is None
    path.write_bytes(before)
    assert finished(job) is not None
    weights = Path(job.model) / "model.safetensors"
    whole, time = weights.read_bytes(), weights.stat().st_mtime_ns
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(weights, ns=(time, time))  # size and time say nothing
    assert finished(job) is None
    weights.write_bytes(whole)
    assert finished(job) is not None


def test_an_unfinished_or_damaged_run_is_done_again(job, tmp_path):
    copy = replace(job, out=Path(shutil.copytree(job.out, tmp_path / "run")))
    (copy.out / "samples.parquet").write_bytes(b"no table")
    assert finished(copy) is None
    (copy.out / "summary.json").unlink()
    assert finished(copy) is None
