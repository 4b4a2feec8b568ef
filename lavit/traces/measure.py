"""One batch of an extraction: from samples to rows and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from lavit.traces import blind
from lavit.traces.filters import ask_blind, decide, judged_answer, verdicts
from lavit.traces.keys import work_of
from lavit.traces.look import TeacherLook, teacher_looks
from lavit.traces.schema import V_SEM
from lavit.traces.settings import Extraction, TraceSettings
from lavit.traces.target import target
from perception_gap.metrics import focus_score
from perception_gap.models.loading import LoadedModel
from perception_gap.runs.engine import in_memory
from perception_gap.runs.samples import Opened, Work, failed, open_samples
from perception_gap.sample import Sample
from perception_gap.text.scoring import score


def measure_batch(
    loaded: LoadedModel, job: Extraction, items: Sequence[Work]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Rows and arrays of one batch; a sample that cannot be traced is a row with the reason."""
    settings = job.settings

    def scorable(sample: Sample) -> None:
        if settings.judge is None and {"correctness", "difficulty"} & set(settings.filters):
            score(sample.answer, sample.answer, sample.options)  # a reference that names no option is refused here

    rows, ready = open_samples(job.out, items, partial(work_of, job, loaded), scorable)
    for key, row in rows.items():
        rows[key] = UNTRACED | row
    looks: dict[str, TeacherLook] = {}
    for group, outcome in in_memory(partial(_looks, loaded, settings), ready):
        for i, item in enumerate(group):
            if isinstance(outcome, str):
                rows[item.key] |= failed(outcome)
            else:
                looks[item.key] = outcome[i]
                rows[item.key] |= {"status": "ok"} | look_fields(outcome[i])
    seen = [(item.sample, item.key) for item in ready if item.key in looks]
    if "correctness" in settings.filters:
        right = verdicts([judged_answer(sample, looks[key].answer) for sample, key in seen], settings.judge)
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
            fields, taught = signal(key, looks[key], settings)
            row |= fields
            if row["status"] == "ok":
                arrays |= taught
            else:
                row |= decide(row, settings.filters, settings.min_focus, settings.without_boxes)
    return list(rows.values()), arrays


def _looks(loaded: LoadedModel, settings: TraceSettings, ready: list[Opened]) -> list[TeacherLook]:
    return teacher_looks(
        loaded,
        [item.sample for item in ready],
        [item.pictures for item in ready],
        pooling=settings.v_sem,
        layers=settings.layers,
        instruction=settings.instruction,
        system=settings.system,
        max_new_tokens=settings.max_new_tokens,
        features=settings.keep_full,
    )


# What a trace says of a sample before the teacher sees it, beside `sample_row`.
UNTRACED: dict[str, Any] = {
    "status": "failed",
    "error": None,
    "correct": None,
    "blind_answers": [],
    "blind_correct": None,
    "focus": None,
}


def look_fields(seen: TeacherLook) -> dict[str, Any]:
    rows, cols = seen.geometry.grid_shape or (None, None)
    return {
        "answer": seen.answer,
        "n_image_tokens": len(seen.geometry),
        "grid_rows": rows,
        "grid_cols": cols,
        "text_image_mass": None if np.isnan(seen.mass) else seen.mass,
    }


def blindly(
    ask: blind.Ask, wanted: Sequence[tuple[Sample, str]], settings: TraceSettings, batch_size: int
) -> dict[str, dict[str, Any]]:
    """key → blind fields; right blind means right under every rotation of the options."""
    fields: dict[str, dict[str, Any]] = {}

    def work(group: list[tuple[Sample, str]]) -> list[list[Any]]:
        return ask_blind(ask, [sample for sample, _ in group], settings.instruction, batch_size)

    for group, outcome in in_memory(work, list(wanted)):
        if isinstance(outcome, str):
            fields |= {key: failed(f"without the image: {outcome}") for _, key in group}
            continue
        right = iter(verdicts([question for turned in outcome for question in turned], settings.judge))
        for (_, key), turned in zip(group, outcome, strict=True):
            each = [next(right) for _ in turned]
            fields[key] = {"status": "ok", "blind_answers": [q.answer for q in turned], "blind_correct": all(each)}
    return fields


def focus_fields(row: dict[str, Any], sample: Sample, seen: TeacherLook) -> dict[str, Any]:
    if seen.attention is None:
        return {"focus": None}
    sizes = list(zip(row["heights"], row["widths"], strict=True))
    return {"focus": focus_score(seen.attention, seen.geometry, sample.unit_boxes(sizes), sample.box_images)}


def signal(key: str, seen: TeacherLook, settings: TraceSettings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a kept sample teaches: the row's gaze fields, and the arrays; or the fields of a failed row."""
    fields, arrays = gaze_fields(seen, settings.top_k), {}
    if seen.v_sem is not None:
        arrays[f"{key}/{V_SEM}"] = _half(seen.v_sem)
    if settings.keep_full:
        arrays |= full_arrays(key, seen)
    if not all(np.isfinite(a).all() for a in arrays.values()):
        limit = np.finfo(np.float16).max
        fields = {"status": "failed", "error": f"V_sem exceeds what half precision holds ({limit:g}): not stored"}
    return fields, arrays


def gaze_fields(seen: TeacherLook, top_k: int) -> dict[str, Any]:
    """The target in the row's form; where there is none, `error` says why."""
    if seen.attention is None:
        return {"error": "the answer is empty: no map"}
    gaze = target(seen.attention, seen.geometry, top_k)
    if gaze is None:
        return {"error": "the map is constant: no gaze target"}
    if gaze.index.max() > np.iinfo(np.int16).max:
        reason = f"{len(seen.geometry)} image tokens: the trace format ends at 32,768; lower --max-pixels"
        return {"status": "failed", "error": reason}
    weights = gaze.weights.astype(np.float16)
    some = weights > 0  # below 3e-8 there is nothing in half precision
    return {
        "gaze_index": gaze.index[some].tolist(),
        "gaze_weight": weights[some].tolist(),
        "gaze_boxes": gaze.boxes[some].ravel().tolist(),
        "gaze_images": gaze.images[some].tolist(),
    }


def _half(values: np.ndarray) -> np.ndarray:
    """float16; what does not fit becomes infinite, which the caller reports."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def full_arrays(key: str, seen: TeacherLook) -> dict[str, np.ndarray]:
    """--keep-full: the map [N], the features [N, D], and the rectangles [N, 4] with their images [N]."""
    arrays = {f"{key}/boxes": seen.geometry.boxes.astype(np.float32), f"{key}/images": seen.geometry.image}
    if seen.attention is not None:
        arrays[f"{key}/map"] = seen.attention
    if seen.features is not None:
        arrays[f"{key}/features"] = _half(seen.features)
    return arrays
