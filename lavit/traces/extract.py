"""`gapcheck trace`: a teacher over a dataset into a trace directory, resumable, never two models in memory."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from tqdm import tqdm

from lavit.traces import blind
from lavit.traces.filters import FILTERS, MIN_FOCUS, ask_blind, asked, decide, verdicts
from lavit.traces.look import Look, look
from lavit.traces.merge import merge
from lavit.traces.schema import BLIND_SCHEMA, PART_SCHEMA, SCHEMA_VERSION, V_SEM
from lavit.traces.target import TOP_K, target
from perception_gap import analysis
from perception_gap.capture import choose_layers, find_decoder
from perception_gap.datasets import Dataset, check_boxes, open_image
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.loading import LoadedModel, load
from perception_gap.metrics import focus_score
from perception_gap.sample import Sample
from perception_gap.scoring import score
from perception_gap.store import Parts, write_json


@dataclass(frozen=True)
class Settings:
    """What decides a trace, beside the teacher and the sample; defaults are the paper's.

    without_boxes: what the alignment filter does with a sample that has none. "drop" by default: nobody checked that
    the teacher looked where the answer is, and that check is what the filter is for.
    """

    filters: tuple[str, ...] = FILTERS
    judge: str | None = None
    text_model: str | None = None
    min_focus: float = MIN_FOCUS
    without_boxes: str = "drop"
    v_sem: str = "mean"
    top_k: int = TOP_K
    layers: str = "all"
    keep_full: bool = False
    instruction: str = ""
    system: str | None = None
    max_new_tokens: int = 32
    load: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """UsageError for a value outside its choices."""
        unknown = [name for name in self.filters if name not in FILTERS]
        if unknown:
            raise UsageError(f"filter {unknown[0]!r}: expected some of {', '.join(FILTERS)}")
        for name, value, choices in (
            ("v_sem", self.v_sem, ("mean", "gaze")),
            ("without_boxes", self.without_boxes, ("drop", "keep")),
        ):
            if value not in choices:
                raise UsageError(f"{name} {value!r}: expected {' or '.join(choices)}")
        if not 0 <= self.min_focus <= 1:
            raise UsageError(f"min_focus {self.min_focus}: expected a share of the map, 0 to 1")
        if self.top_k < 1:
            raise UsageError(f"top_k {self.top_k}: expected at least 1")


@dataclass(frozen=True)
class Job:
    """One teacher over one dataset into one folder."""

    model: str
    dataset: Dataset
    out: Path
    settings: Settings
    batch_size: int = 8
    seed: int = 0
    fresh: bool = False
    command: str = ""


Work = tuple[Sample, str, str]  # sample, hash of its images, key


def extract(job: Job, *, progress: bool = True) -> dict[str, Any]:
    """The teacher's pass, then the text model's if there is one, then the merged files; returns trace.json.

    The same job finishes what a killed one left. UsageError before the folder is touched for what can be known then.
    """
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


def keyed(job: Job, loaded: LoadedModel, samples: Sequence[Sample]) -> list[Work]:
    """Each sample with the hash of its images and that of everything that decides its row."""
    machine = [str(loaded.model.dtype), loaded.device.type, versions()]
    decided = [SCHEMA_VERSION, loaded.revision, machine, asdict(job.settings)]
    hashes: dict[tuple[Path, ...], str] = {}
    work = []
    for sample in samples:
        if sample.images not in hashes:
            hashes[sample.images] = analysis.image_hash(sample)
        images = hashes[sample.images]
        content = asdict(sample) | {"images": [*stored_paths(job.out, sample), images]}
        work.append((sample, images, _hash([decided, content])))
    return work


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def versions() -> dict[str, str]:
    return analysis.versions() | {"datasets": datasets.__version__}


def stored_paths(out: Path, sample: Sample) -> list[str]:
    """Image paths as a row keeps them: relative to the folder when they lie beside or in it, else absolute."""
    out = Path(os.path.abspath(out))
    paths = [Path(os.path.abspath(path)) for path in sample.images]
    return [os.path.relpath(p, out) if p.is_relative_to(out.parent) else str(p) for p in paths]


def _in_batches(
    work: Sequence[Work],
    size: int,
    parts: Parts,
    do: Callable[[Sequence[Work]], tuple[list[dict], dict[str, np.ndarray]]],
    name: str | None,
) -> None:
    """Whatever is not stored yet, batch by batch, each an atomic part; the batches are the same after a kill."""
    done = set(parts.done())
    stored = sum(key in done for _, _, key in work)
    if stored and name:
        tqdm.write(f"{name}: {stored} of {len(work)} samples are there already")
    with tqdm(total=len(work) - stored, unit="sample", desc=name, disable=name is None) as bar:
        for start in range(0, len(work), size):
            todo = [item for item in work[start : start + size] if item[2] not in done]
            if todo:
                parts.write(*do(todo))
            bar.update(len(todo))


def describe(job: Job, loaded: LoadedModel) -> dict[str, Any]:
    """trace.json while the extraction runs: everything that made it; the funnel comes with the end."""
    model: Any = loaded.model
    return {
        "schema_version": SCHEMA_VERSION,
        "command": job.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "teacher": {
            "name": loaded.name,
            "revision": loaded.revision,
            "family": type(loaded.family).__name__,
            "class": type(model).__name__,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(loaded.device),
            "parameters": model.num_parameters(),
            "width": model.config.get_text_config().hidden_size,
        },
        "settings": asdict(job.settings) | {"batch_size": job.batch_size, "seed": job.seed},
        "data": {"spec": job.dataset.spec, "hash": job.dataset.hash, "n": len(job.dataset.samples)},
        "versions": versions(),
    }


def measure(loaded: LoadedModel, job: Job, work: Sequence[Work]) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Rows and arrays of one batch; a sample that cannot be traced is a row with the reason."""
    settings = job.settings
    rows: dict[str, dict] = {}
    ready = []
    for sample, images, key in work:
        row = rows[key] = base_row(job.out, sample, images, key)
        try:
            pictures = [open_image(path) for path in sample.images]
            sizes = [(p.height, p.width) for p in pictures]
            row |= {"heights": [h for h, _ in sizes], "widths": [w for _, w in sizes]}
            check_boxes(sample, sizes)
            if settings.judge is None and {"correctness", "difficulty"} & set(settings.filters):
                score(sample.answer, sample.answer, sample.options)  # a reference that names no option is said here
            ready.append((sample, key, pictures))
        except GapcheckError as error:
            row |= {"status": "failed", "error": str(error)}
        except MemoryError as error:
            row |= {"status": "failed", "error": analysis.failure(error)}
    looks: dict[str, Look] = {}
    for group, outcome in analysis.in_memory(partial(_looks, loaded, settings), ready):
        for i, (_, key, _) in enumerate(group):
            if isinstance(outcome, str):
                rows[key] |= {"status": "failed", "error": outcome}
            else:
                looks[key] = outcome[i]
                rows[key] |= {"status": "ok"} | look_fields(outcome[i])
    seen = [(sample, key) for sample, key, _ in ready if key in looks]
    if "correctness" in settings.filters:
        right = verdicts([asked(sample, looks[key].answer) for sample, key in seen], settings.judge)
        for (_, key), verdict in zip(seen, right, strict=True):
            rows[key]["correct"] = verdict
        seen = [(sample, key) for sample, key in seen if rows[key]["correct"]]
    if "difficulty" in settings.filters and not settings.text_model:
        ask = blind.without_image(loaded, settings.system, settings.max_new_tokens)
        for key, fields in blindly(ask, seen, settings, job.batch_size).items():
            rows[key] |= fields
    for sample, key in seen:
        rows[key] |= focus_fields(rows[key], sample, looks[key])
    arrays: dict[str, np.ndarray] = {}
    for key, row in rows.items():
        row |= decide(row, settings.filters, settings.min_focus, settings.without_boxes)
        if row["kept"]:
            fields, found = signal(key, looks[key], settings)
            row |= fields
            if row["status"] == "ok":
                arrays |= found
            else:
                row |= decide(row, settings.filters, settings.min_focus, settings.without_boxes)
    return list(rows.values()), arrays


def _looks(loaded: LoadedModel, settings: Settings, ready: list) -> list[Look]:
    return look(
        loaded, [sample for sample, _, _ in ready], [pictures for _, _, pictures in ready], pooling=settings.v_sem,
        layers=settings.layers, instruction=settings.instruction, system=settings.system,
        max_new_tokens=settings.max_new_tokens, features=settings.keep_full,
    )  # fmt: skip


def base_row(out: Path, sample: Sample, images: str, key: str) -> dict[str, Any]:
    """What is known of a sample before any model sees it."""
    return {
        "key": key, "sample_id": sample.id, "task": sample.task, "pair": sample.pair,
        "images": stored_paths(out, sample), "image_hash": images, "heights": [], "widths": [],
        "question": sample.question, "options": list(sample.options), "reference": sample.answer,
        "boxes": [float(v) for box in sample.boxes for v in box], "box_images": list(sample.box_images),
        "status": "failed", "error": None, "correct": None, "blind_answers": [], "blind_correct": None, "focus": None,
    }  # fmt: skip


def look_fields(seen: Look) -> dict[str, Any]:
    rows, cols = seen.geometry.grid_shape or (None, None)
    return {
        "answer": seen.answer, "n_image_tokens": len(seen.geometry), "grid_rows": rows, "grid_cols": cols,
        "text_image_mass": None if np.isnan(seen.mass) else seen.mass,
    }  # fmt: skip


def blindly(
    ask: blind.Ask, wanted: Sequence[tuple[Sample, str]], settings: Settings, batch_size: int
) -> dict[str, dict[str, Any]]:
    """key → blind fields; right blind means right under every rotation of the options."""
    fields: dict[str, dict[str, Any]] = {}

    def work(group: list[tuple[Sample, str]]) -> list[list[Any]]:
        return ask_blind(ask, [sample for sample, _ in group], settings.instruction, batch_size)

    for group, outcome in analysis.in_memory(work, list(wanted)):
        if isinstance(outcome, str):
            fields |= {key: {"status": "failed", "error": f"without the image: {outcome}"} for _, key in group}
            continue
        right = iter(verdicts([question for turned in outcome for question in turned], settings.judge))
        for (_, key), turned in zip(group, outcome, strict=True):
            each = [next(right) for _ in turned]
            fields[key] = {
                "status": "ok", "blind_answers": [q.answer for q in turned], "blind_correct": all(each),
            }  # fmt: skip
    return fields


def focus_fields(row: dict[str, Any], sample: Sample, seen: Look) -> dict[str, Any]:
    if seen.attention is None:
        return {"focus": None}
    sizes = list(zip(row["heights"], row["widths"], strict=True))
    return {"focus": focus_score(seen.attention, seen.geometry, sample.unit_boxes(sizes), sample.box_images)}


def signal(key: str, seen: Look, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a kept sample teaches: the row's gaze fields, and the arrays; or the fields of a failed row."""
    fields, arrays = gaze_fields(seen, settings.top_k), {}
    if seen.v_sem is not None:
        arrays[f"{key}/{V_SEM}"] = _half(seen.v_sem)
    if settings.keep_full:
        arrays |= full_arrays(key, seen)
    if not all(np.isfinite(a).all() for a in arrays.values()):
        largest = max(float(np.abs(a).max()) for a in (seen.v_sem, seen.features) if a is not None and a.size)
        limit = np.finfo(np.float16).max
        fields = {"status": "failed", "error": f"V_sem reaches {largest:.4g}, half precision ends at {limit:g}"}
    return fields, arrays


def gaze_fields(seen: Look, top_k: int) -> dict[str, Any]:
    """The target in the row's form; where there is none, `error` says why."""
    if seen.attention is None:
        return {"error": "the answer is empty: no map"}
    found = target(seen.attention, seen.geometry, top_k)
    if found is None:
        return {"error": "the map is constant: no gaze target"}
    if found.index.max() > np.iinfo(np.int16).max:
        reason = f"{len(seen.geometry)} image tokens: the trace format ends at 32,768; lower --max-pixels"
        return {"status": "failed", "error": reason}
    weights = found.weights.astype(np.float16)
    some = weights > 0  # below 3e-8 there is nothing in half precision
    return {
        "gaze_index": found.index[some].tolist(), "gaze_weight": weights[some].tolist(),
        "gaze_boxes": found.boxes[some].ravel().tolist(), "gaze_images": found.images[some].tolist(),
    }  # fmt: skip


def _half(values: np.ndarray) -> np.ndarray:
    """float16; what does not fit becomes infinite, which the caller reports."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def full_arrays(key: str, seen: Look) -> dict[str, np.ndarray]:
    """--keep-full: the map [N], the features [N, D], and the rectangles [N, 4] with their images [N]."""
    arrays = {
        f"{key}/boxes": seen.geometry.boxes.astype(np.float32),
        f"{key}/images": seen.geometry.image,
    }
    if seen.attention is not None:
        arrays[f"{key}/map"] = seen.attention
    if seen.features is not None:
        arrays[f"{key}/features"] = _half(seen.features)
    return arrays


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
    asking = [(sample, images, _hash([key, revision])) for sample, images, key in survivors]

    def do(todo: Sequence[Work]) -> tuple[list[dict], dict[str, np.ndarray]]:
        found = blindly(ask, [(sample, key) for sample, _, key in todo], settings, job.batch_size)
        return [{"key": key} | fields for key, fields in found.items()], {}

    _in_batches(asking, job.batch_size, own, do, settings.text_model if progress else None)
    answered = own.read([key for _, _, key in asking])
    found = {key: row for (_, _, key), (row, _) in zip(survivors, answered, strict=True)}
    return found, {"name": settings.text_model, "revision": revision}
