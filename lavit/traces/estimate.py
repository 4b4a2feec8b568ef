"""`gapcheck trace --dry-run`: one batch, stored nowhere, and what the whole would take."""

from __future__ import annotations

import time
from typing import Any

from lavit.traces import blind
from lavit.traces.keys import keyed
from lavit.traces.measure import blindly, measure_batch
from lavit.traces.settings import Extraction
from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.errors import GapcheckError
from perception_gap.models.loading import load
from perception_gap.models.placement import peak_bytes

_GAZE_BYTES = 2 + 2 + 4 * 4 + 2  # index, weight, rectangle, image


def estimate(job: Extraction) -> dict[str, Any]:
    """Bytes are an upper bound: every sample kept, texts uncompressed. GapcheckError if the whole batch fails."""
    rows, estimates = _teacher(job)
    if job.settings.text_model and "difficulty" in job.settings.filters:
        ask, _ = blind.open_text_model(
            job.settings.text_model, job.settings.system, job.settings.max_new_tokens, job.settings.load
        )
        right = {row["sample_id"] for row in rows if row["dropped_by"] in (None, "alignment")}
        wanted = [(s, s.id) for s in job.dataset.samples[: job.batch_size] if s.id in right]
        began = time.perf_counter()
        blindly(ask, wanted, job.settings, job.batch_size)
        estimates["seconds a sample"] += (time.perf_counter() - began) / len(rows)
    estimates["hours"] = estimates["seconds a sample"] * estimates["samples"] / 3600
    estimates["peak bytes"] = peak_bytes()
    return estimates


def _teacher(job: Extraction) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    loaded = load(job.model, **job.settings.load)
    choose_layers(job.settings.layers, find_decoder(loaded.model))
    batch = keyed(job, loaded, job.dataset.samples[: job.batch_size])
    began = time.perf_counter()
    rows, _ = measure_batch(loaded, job, batch)
    seconds = time.perf_counter() - began
    failed = [row["error"] for row in rows if row["status"] != "ok"]
    if len(failed) == len(rows):
        raise GapcheckError(f"--dry-run: every sample of the first batch failed: {failed[0]}")
    model: Any = loaded.model
    width, tokens = model.config.get_text_config().hidden_size, max(row.get("n_image_tokens") or 0 for row in rows)
    texts = max(len(str({k: v for k, v in row.items() if not k.startswith("gaze")})) for row in rows)
    each = 2 * width + _GAZE_BYTES * job.settings.top_k + texts
    full = tokens * (2 * width + 4 + 4 * 4 + 4) if job.settings.keep_full else 0
    total = len(job.dataset.samples)
    return rows, {
        "samples": total,
        "failed in the batch": len(failed),
        "kept in the batch": sum(row["kept"] for row in rows),
        "image tokens": tokens,
        "seconds a sample": seconds / len(rows),
        "kB a sample": (each + full) / 1000,
        "bytes in all": 2 * (each + full) * total,  # parts and merged files
    }
