"""`gapcheck trace`: a teacher over a dataset into a trace directory, resumable, never two models in memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lavit.traces import blind
from lavit.traces.keys import Work, hash_of, keyed, versions
from lavit.traces.measure import blindly, measure
from lavit.traces.merge import merge
from lavit.traces.schema import BLIND_SCHEMA, PART_SCHEMA, SCHEMA_VERSION
from lavit.traces.settings import Job
from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.measure.job import model_facts
from perception_gap.models.loading import LoadedModel, load
from perception_gap.runs.store import Parts, claim_run
from perception_gap.storage.files import write_json
from perception_gap.storage.locks import locked


def extract(job: Job, *, progress: bool = True) -> dict[str, Any]:
    """The teacher's pass, then the text model's if there is one, then the merged files; returns trace.json.

    The same job finishes what a killed one left. UsageError before the folder is touched for what can be known then,
    GapcheckError where another command writes into it.
    """
    claim_run(job.out, "trace.json")
    with locked(job.out):
        return _extract(job, progress)


def _extract(job: Job, progress: bool) -> dict[str, Any]:
    parts = Parts(job.out, fresh=job.fresh, schema=PART_SCHEMA, made="trace.json")
    work, info = _teacher_pass(job, parts, progress)
    _free()
    keys = [key for _, _, key in work]
    blinded: dict[str, dict] = {}
    if job.settings.text_model and "difficulty" in job.settings.filters:
        blinded, info["text_model"] = _blind_pass(job, parts, work, progress)
        _free()
    return merge(job.out, keys, parts, info, blinded)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _teacher_pass(job: Job, parts: Parts, progress: bool) -> tuple[list[Work], dict[str, Any]]:
    loaded = load(job.model, **job.settings.load)
    choose_layers(job.settings.layers, find_decoder(loaded.model))  # said before the folder is touched
    work = keyed(job, loaded, job.dataset.samples)
    info = describe(job, loaded)
    for stale in ("traces.parquet", "full.safetensors"):  # an unfinished extraction must not show older traces
        (job.out / stale).unlink(missing_ok=True)
    write_json(job.out / "trace.json", info)
    _in_batches(work, job.batch_size, parts, partial(measure, loaded, job), loaded.name if progress else None)
    return work, info


def _in_batches(
    work: list[Work],
    size: int,
    parts: Parts,
    do: Callable[[Sequence[Work]], tuple[list[dict], dict[str, np.ndarray]]],
    name: str | None,
) -> None:
    """Whatever is not stored yet, batch by batch, each an atomic part; the batches are the same after a kill.

    A sample whose pictures changed meanwhile has another hash and key in `work` then.
    """
    if line := parts.mend():
        tqdm.write(line, file=sys.stderr)
    done = set(parts.done())
    stored = sum(key in done for _, _, key in work)
    if stored and name:
        tqdm.write(f"{name}: {stored} of {len(work)} samples are there already")
    with tqdm(total=len(work) - stored, unit="sample", desc=name, disable=name is None) as bar:
        for start in range(0, len(work), size):
            todo = [item for item in work[start : start + size] if item[2] not in done]
            if todo:
                rows, arrays = do(todo)
                parts.write(rows, arrays)
                now = {item[2]: (item[0], row.get("image_hash", item[1]), row["key"])
                       for item, row in zip(todo, rows, strict=True)}  # fmt: skip
                work[start : start + size] = [now.get(item[2], item) for item in work[start : start + size]]
            bar.update(len(todo))


def describe(job: Job, loaded: LoadedModel) -> dict[str, Any]:
    """trace.json while the extraction runs: everything that made it; the funnel comes with the end."""
    config: Any = loaded.model.config
    return {
        "schema_version": SCHEMA_VERSION,
        "command": job.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "teacher": model_facts(loaded) | {"width": config.get_text_config().hidden_size},
        "settings": asdict(job.settings) | {"batch_size": job.batch_size, "seed": job.seed},
        "data": job.dataset.description(),
        "versions": versions(),
    }


def _blind_pass(
    job: Job, parts: Parts, work: Sequence[Work], progress: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The text model over what the teacher answered right, stored in OUT/blind; (key → blind fields, who it was)."""
    settings = job.settings
    assert settings.text_model is not None
    stored = {row["key"]: row for row, _ in parts.read([key for _, _, key in work], ())}
    survivors = [item for item in work if stored[item[2]]["dropped_by"] in (None, "alignment")]
    own = Parts(job.out / "blind", fresh=job.fresh, schema=BLIND_SCHEMA, made="parts")
    ask, revision = blind.open_text_model(settings.text_model, settings.system, settings.max_new_tokens, settings.load)
    asking = [(sample, images, hash_of([key, revision])) for sample, images, key in survivors]

    def do(todo: Sequence[Work]) -> tuple[list[dict], dict[str, np.ndarray]]:
        found = blindly(ask, [(sample, key) for sample, _, key in todo], settings, job.batch_size)
        return [{"key": key} | fields for key, fields in found.items()], {}

    _in_batches(asking, job.batch_size, own, do, settings.text_model if progress else None)
    answered = own.read([key for _, _, key in asking])
    found = {key: row for (_, _, key), (row, _) in zip(survivors, answered, strict=True)}
    return found, {"name": settings.text_model, "revision": revision}
