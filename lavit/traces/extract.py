"""`gapcheck trace`: a teacher over a dataset into a trace directory, resumable, never two models in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lavit.traces import blind
from lavit.traces.keys import PACKAGES, keyed
from lavit.traces.measure import blindly, measure_batch
from lavit.traces.merge import merge
from lavit.traces.settings import Extraction
from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.models.loading import LoadedModel, load
from perception_gap.models.placement import release_memory
from perception_gap.runs.engine import Engine, open_parts, with_model, writing
from perception_gap.runs.key import key_of, model_facts, provenance
from perception_gap.runs.parts import Parts
from perception_gap.runs.samples import Work
from perception_gap.runs.schema import tables
from perception_gap.runs.schema.versions import TRACE
from perception_gap.storage.files import write_json


@dataclass(frozen=True)
class Pass:
    """What the teacher's pass left: the keys of its rows, in the order of the data, and trace.json as it stands."""

    keys: list[str]
    info: dict[str, Any]


def extract(job: Extraction, *, progress: bool = True) -> dict[str, Any]:
    """The teacher's pass, then the text model's if there is one, then the merged files; returns trace.json.

    The same job finishes what a killed one left. UsageError before the folder is touched for what can be known then,
    GapcheckError where another command writes into it.
    """
    with writing(job.out, "trace.json"):
        parts = open_parts(job.out, fresh=job.fresh, schema=tables.TRACE_PART, described_in="trace.json")
        first = with_model(
            lambda: load(job.model, **job.settings.load), lambda teacher: _teacher_pass(job, teacher, parts, progress)
        )
        info = first.info
        blinded: dict[str, dict[str, Any]] = {}
        if job.settings.text_model and "difficulty" in job.settings.filters:
            blinded, info["text_model"] = _blind_pass(job, parts, first.keys, progress)
            release_memory()
        return merge(job.out, first.keys, parts, info, blinded)


def _teacher_pass(job: Extraction, loaded: LoadedModel, parts: Parts, progress: bool) -> Pass:
    choose_layers(job.settings.layers, find_decoder(loaded.model))  # refused before the folder is touched
    work, info = keyed(job, loaded, job.dataset.samples), describe(job, loaded)
    for stale in ("traces.parquet", "full.safetensors"):  # an unfinished extraction must not show older traces
        (job.out / stale).unlink(missing_ok=True)
    write_json(job.out / "trace.json", info)
    engine: Engine[Work] = Engine(
        parts,
        key=lambda item: item.key,
        process=partial(measure_batch, loaded, job),
        batch_size=job.batch_size,
        label=loaded.name if progress else None,
    )
    return Pass([key for key in engine.run(work) if key is not None], info)


def describe(job: Extraction, loaded: LoadedModel) -> dict[str, Any]:
    """trace.json while the extraction runs: everything that made it; the funnel comes with the end."""
    config: Any = loaded.model.config
    return provenance(TRACE.version, job.command, *PACKAGES) | {
        "teacher": model_facts(loaded) | {"width": config.get_text_config().hidden_size},
        "settings": asdict(job.settings) | {"batch_size": job.batch_size, "seed": job.seed},
        "data": job.dataset.description(),
    }


def _blind_pass(
    job: Extraction, parts: Parts, keys: Sequence[str], progress: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The text model over what the teacher answered right, stored in OUT/blind; (key → blind fields, who it was)."""
    settings = job.settings
    assert settings.text_model is not None
    rows = [row for row, _ in parts.read(list(keys), ())]
    survivors = [
        Work(sample, row["image_hash"], row["key"])
        for sample, row in zip(job.dataset.samples, rows, strict=True)
        if row["dropped_by"] in (None, "alignment")
    ]
    ask, revision = blind.open_text_model(settings.text_model, settings.system, settings.max_new_tokens, settings.load)

    def process(items: Sequence[Work]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        answers = blindly(ask, [(item.sample, item.key) for item in items], settings, job.batch_size)
        return [{"key": key} | fields for key, fields in answers.items()], {}

    own = open_parts(job.out / "blind", fresh=job.fresh, schema=tables.TRACE_BLIND, described_in="parts")
    engine: Engine[Work] = Engine(
        own,
        key=lambda item: item.key,
        process=process,
        batch_size=job.batch_size,
        label=settings.text_model if progress else None,
    )
    blind_keys = engine.run([replace(item, key=key_of(item.key, revision)) for item in survivors])
    blinded = own.read([key for key in blind_keys if key is not None])
    by_key = {item.key: row for item, (row, _) in zip(survivors, blinded, strict=True)}
    return by_key, {"name": settings.text_model, "revision": revision}
