"""One entry of the authors' files as a row of a trace directory."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lavit.traces.look import TeacherLook, pool
from lavit.traces.measure import UNTRACED, look_fields, signal
from lavit.traces.released_files import Tree, grid_of, read_attention, read_features, text_of, turned
from lavit.traces.settings import TraceSettings
from perception_gap.data.images import check_boxes, open_image
from perception_gap.data.jsonl import parse_boxes, shown, text
from perception_gap.data.stream import Entry
from perception_gap.errors import GapcheckError
from perception_gap.geometry import TokenGeometry
from perception_gap.runs.samples import Work, failed, sample_row
from perception_gap.sample import Sample

# Notes in `error` of rows that are well.
NO_V_TOP = "no V_top file"
NO_TRAJECTORY = "no trajectory file"
GUESSED = "grid guessed from the aspect ratio"
NO_GRID = "no gaze: no grid of that many tokens is near the aspect ratio"
TURNED = "no gaze: EXIF turns the picture, which the teacher saw as stored"
NO_WEIGHTS = "no V_sem: there is no attention to weight it by"


@dataclass(frozen=True)
class Conversion:
    """One file of the release into one folder; `settings` has pooling and top k."""

    tree: Tree
    out: Path
    settings: TraceSettings
    width: int
    limit: int | None = None


def sample_of(tree: Tree, entry: Entry) -> Sample:
    """What the entry says of itself, "" and no picture where it does not; `_fields` refuses that."""
    record = entry.value
    number, image = record.get("question_id"), tree.image(record)
    return Sample(
        id=str(number)
        if type(number) is int
        else text_of(record, "question_id", "sample_id") or f"entry-{entry.number}",
        images=() if image is None else (image,),
        question=text_of(record, "question"),
        answer=text_of(record, "ground_truth_enriched", "ground_truth"),
        task=text_of(record, "dataset", "source_dataset") or "lavit15k",
    )


def trace_row(
    job: Conversion, entry: Entry, sample: Sample, images: str, key: str, *, again: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The row and its arrays (V_sem); one that failed says why. again: whether its id is that of an entry before."""
    row = UNTRACED | sample_row(job.out, Work(sample, images, key))
    try:
        if again:
            raise GapcheckError(f"id {sample.id!r} is that of an entry before: expected each question_id once")
        fields, arrays = _fields(job, entry, sample, key)
    except (GapcheckError, OSError) as error:
        reason = str(error).encode(errors="replace").decode()  # a JSON text may hold half a character
        return row | failed(reason), {}
    return row | fields, arrays


def _fields(job: Conversion, entry: Entry, sample: Sample, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The teacher's fields of a row, and its arrays; GapcheckError for an entry that has no use."""
    record, where = entry.value, str(job.tree.source)
    validation = record.get("validation")
    verdict = validation.get("is_correct") if isinstance(validation, dict) else None
    verdict = verdict if isinstance(verdict, bool) else None
    answer = text_of(record, "teacher_full_response") or sample.answer
    if verdict is False:  # such entries have no signals
        return {"status": "ok", "correct": False, "answer": answer}, {}
    if record.get("error") or record.get("skipped"):
        raise GapcheckError(f"not extracted: {shown(record.get('error') or record.get('skip_reason'))}")
    names = ("image_relative_path", "question", "ground_truth_enriched")
    for name, given in zip(names, (sample.images, sample.question, sample.answer), strict=True):
        if not given:
            text(record, name, where)  # says what is wrong with it
    picture = open_image(sample.images[0])
    size = (picture.height, picture.width)
    fields: dict[str, Any] = {"heights": [size[0]], "widths": [size[1]]} | _boxes(record, sample, size, where)
    states, attention, notes = _signals(job, record)
    n = next((len(values) for values in (states, attention) if values is not None), 0)
    geometry, unsure = _geometry(n, sample.images[0], size) if n else (None, None)
    weights = None if attention is None else torch.from_numpy(attention).float()
    v_sem = None if states is None else pool(states, weights, job.settings.v_sem)
    notes += [note for note in (unsure, NO_WEIGHTS if states is not None and v_sem is None else None) if note]
    semantics = None if v_sem is None else v_sem.numpy()
    if geometry is None:
        seen = TeacherLook(answer, TokenGeometry(np.zeros((0, 4)), np.zeros(0)), None, math.nan, semantics)
    else:
        seen = TeacherLook(answer, geometry, attention, math.nan, semantics)
    taught, arrays = signal(key, seen, job.settings)
    if taught.get("status") == "failed":
        return fields | taught, {}
    if seen.attention is not None and "error" in taught:
        notes.append(taught["error"])
    fields |= look_fields(seen) | taught
    fields |= {"status": "ok", "correct": verdict, "n_image_tokens": n or None, "error": "; ".join(notes) or None}
    return fields, arrays


def _boxes(record: dict[str, Any], sample: Sample, size: tuple[int, int], where: str) -> dict[str, Any]:
    """`bboxes`, fractions of the picture, in pixels; the released JSON has none. size: (height, width)."""
    boxes, _ = parse_boxes(record.get("bboxes"), where=where, n_images=1, unit="fractions")
    height, width = size
    pixels = tuple((x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in boxes)
    check_boxes(replace(sample, boxes=pixels, box_images=(0,) * len(pixels)), [size], remedy="")
    return {"boxes": [v for box in pixels for v in box], "box_images": [0] * len(pixels)}


def _signals(job: Conversion, record: dict[str, Any]) -> tuple[Tensor | None, np.ndarray | None, list[str]]:
    """(V_top [N, D], attention [N], notes on what has no file); GapcheckError if they do not belong together."""
    path = job.tree.v_top(record)
    states = read_features(path) if os.path.isfile(path) else None
    attention = read_attention(record, job.tree.trajectory(record))
    if states is not None and states.shape[1] != job.width:
        raise GapcheckError(f"V_top {path}: {states.shape[1]} wide, the first is {job.width}: another teacher's?")
    if states is not None and attention is not None and len(states) != len(attention):
        raise GapcheckError(f"V_top of {len(states)} image tokens, a trajectory of {len(attention)}: expected as many")
    return states, attention, [NO_V_TOP] * (states is None) + [NO_TRAJECTORY] * (attention is None)


def _geometry(n: int, path: Path, size: tuple[int, int]) -> tuple[TokenGeometry | None, str | None]:
    """Where n image tokens lie, None where nobody can tell, and a note."""
    if turned(path):
        return None, TURNED
    grid = grid_of(n, *size)
    if grid is None:
        return None, NO_GRID
    rows, cols, guessed = grid
    return TokenGeometry.grid(rows, cols), GUESSED if guessed else None
