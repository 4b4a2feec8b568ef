"""`gapcheck analyze --dry-run`: one batch of each model, stored nowhere, and what the whole would take."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from perception_gap.errors import GapcheckError
from perception_gap.gaze.look import check_rows
from perception_gap.measure.analyze import AnalyzeOptions, Opener, open_plain
from perception_gap.measure.batch import measure_batch
from perception_gap.measure.settings import Analysis
from perception_gap.models.loading import LoadedModel
from perception_gap.models.placement import peak_bytes
from perception_gap.runs.engine import with_model
from perception_gap.runs.key import image_hashes
from perception_gap.runs.parts import claim_run
from perception_gap.runs.samples import Work


def estimate(options: AnalyzeOptions, *, opener: Opener = open_plain) -> dict[str, dict[str, Any]]:
    """By model: samples, seconds, hours, bytes and peak memory. GapcheckError if a whole batch fails."""
    out = options.folder()
    check_rows(options.settings.rows)
    claim_run(out)
    dataset = options.dataset(out)
    models = [options.model]
    if options.teacher and not (Path(options.teacher) / "run.json").exists():
        models.insert(0, options.teacher)
    estimates = {}
    for model in models:
        # A student is also read on a second text; the reference stands in for the teacher's answer.
        second = options.settings.text == "reference" or (options.teacher is not None and model == options.model)
        settings = replace(options.settings, text="reference" if second else "own")
        if model != options.model:
            settings = replace(settings, knockout=None)
        job = options.analysis(model, dataset, out, settings, None)
        estimates[model] = with_model(partial(opener, model, settings), partial(_of, job))
    return estimates


def _of(job: Analysis, loaded: LoadedModel) -> dict[str, Any]:
    before = peak_bytes()
    samples = list(job.dataset.samples[: job.batch_size])
    items = [
        Work(sample, images, sample.id, sample.answer if job.settings.text == "reference" else None)
        for sample, images in zip(samples, image_hashes(samples), strict=True)
    ]
    began = time.perf_counter()
    rows, arrays = measure_batch(loaded, job, items)
    seconds = time.perf_counter() - began
    n, total = len(rows), len(job.dataset.samples)
    reasons = [row["error"] for row in rows if row.get("status") != "ok"]
    if len(reasons) == n:
        raise GapcheckError(f"--dry-run: every sample of the first batch failed: {reasons[0]}")
    # Parts and merged files hold the arrays once each.
    stored = 2 * sum(a.nbytes for a in arrays.values()) / n
    return {
        "samples": total,
        "failed in the batch": len(reasons),
        "image tokens": max((row.get("n_image_tokens") or 0 for row in rows), default=0),
        "seconds a sample": seconds / n,
        "hours": seconds / n * total / 3600,
        "bytes": int(stored * total),
        "peak bytes": peak_bytes(),
        "peak bytes before the batch": before,
    }
