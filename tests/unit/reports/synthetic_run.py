"""Finished runs without a model: real scenes, invented maps, the real writer (parts, metrics, summary).

A teacher's maps are concentrated near the boxes, a student's are diffuse; right answers have more mass in the boxes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from perception_gap.data.scenes import Scene, scenes
from perception_gap.geometry import TokenGeometry
from perception_gap.measure.finish import finish
from perception_gap.runs.parts import Parts
from perception_gap.runs.paths import signed
from perception_gap.runs.rows import geometry_fields
from perception_gap.runs.run import Run
from perception_gap.runs.schema import tables
from perception_gap.runs.schema.versions import RUN
from perception_gap.storage.files import write_frame, write_json

WORDS = (("the", "functional"), ("small", "attribute"), ("star", "object"), ("is", "functional"), ("red", "attribute"))


@dataclass(frozen=True)
class Model:
    """gain: how strongly the map is drawn to the boxes; accuracy: chance of a right answer; n_images a prompt."""

    name: str
    gain: float = 12.0
    accuracy: float = 0.92
    noise: float = 0.6
    geometry: TokenGeometry = field(default_factory=lambda: TokenGeometry.grid(16, 16))


TEACHER = Model("tiny:teacher")
STUDENT = Model("tiny:student", gain=3.0, accuracy=0.6, noise=0.9)


def write_run(
    out: Path,
    drawn: Sequence[Scene],
    model: Model,
    teacher: Run | None = None,
    *,
    boxes: bool = True,
    failed: Sequence[int] = (),
    n_images: int = 1,
    seed: int = 0,
) -> Run:
    """One finished run over the scenes; `failed` are indices of rows that failed."""
    pictures = out.parent / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for i, scene in enumerate(drawn):
        rng = np.random.default_rng([seed, i, len(model.name)])
        path = pictures / f"{scene.id}.png"
        if not path.exists():
            Image.fromarray(scene.image).save(path)
        corners = [float(v) for box in scene.boxes for v in box] if boxes else []
        row: dict[str, Any] = {
            "key": f"{model.name}-{i}".replace(":", "-").replace("/", "-"),
            "sample_id": scene.id,
            "task": scene.task,
            "pair": scene.pair,
            "cluster": scene.pair or scene.id,
            "images": [os.path.relpath(path, out)] * n_images,
            "image_hash": sha256(path.read_bytes() * n_images).hexdigest(),
            "heights": [256] * n_images,
            "widths": [256] * n_images,
            "question": scene.question,
            "reference": scene.answer,
            "options": list(scene.options),
            "boxes": corners,
            "box_images": [0] * (len(corners) // 4),
            "status": "failed" if i in failed else "ok",
            "error": "out of memory" if i in failed else None,
        }
        if i not in failed:
            fields, found = _measured(scene, model, rng, row["key"], teacher)
            row |= fields
            arrays |= found
        rows.append(row)
    parts = Parts(out, fresh=True)
    parts.write(rows, arrays)
    keys, info = [row["key"] for row in rows], _info(out, model, teacher, len(rows))
    return finish(out, keys, parts, info, teacher, seed=0, raster=(16, 16))


def _measured(
    scene: Scene, model: Model, rng: np.random.Generator, key: str, teacher: Run | None
) -> tuple[dict, dict[str, np.ndarray]]:
    n = len(model.geometry)
    correct = bool(rng.random() < model.accuracy)
    gain = model.gain * float(rng.gamma(3, 1 / 3)) * (1.25 if correct else 0.8)
    inside = model.geometry.overlap(np.asarray(scene.boxes) / 256)
    words = np.stack([rng.gamma(1 / model.noise**2, 1, n) + gain * inside * model.noise**-2 for _ in WORDS]) / n
    words = words.astype(np.float32)
    fields = {
        "answer": scene.answer if correct else "the large circle is gray",
        "correct": correct,
        "n_image_tokens": n,
        "shared_text": scene.answer if teacher is not None else None,
        "own_words": [w for w, _ in WORDS],
        "own_categories": [c for _, c in WORDS],
        "shared_words": [w for w, _ in WORDS],
        "shared_categories": [c for _, c in WORDS],
        "text_image_mass": float(rng.beta(4, 6)),
        "seconds": 0.1,
    } | geometry_fields(model.geometry)
    common = np.random.default_rng(len(scene.id) + sum(map(ord, scene.id))).normal(size=(len(WORDS), 8))
    hidden = (common + rng.normal(size=common.shape)).astype(np.float16)
    found = {"own": words.mean(0), "own_words": words, "hidden": hidden}
    if teacher is not None:
        found |= {"shared": words.mean(0), "shared_words": words}
    return fields, {f"{key}/{kind}": a for kind, a in found.items()}


def _info(out: Path, model: Model, teacher: Run | None, n: int) -> dict:
    path = None if teacher is None else os.path.relpath(teacher.path, out)
    info = {
        "schema_version": RUN.version,
        "command": "synthetic",
        "created": "2026-01-01T00:00:00+00:00",
        "model": {"name": model.name, "revision": "0", "family": "none", "class": "none", "dtype": "float32"},
        "teacher": teacher and {"name": teacher.info["model"]["name"], "revision": "0", "path": path},
        "settings": {"rows": "answer", "layers": "all", "text": "own" if teacher is None else "teacher", "seed": 0},
        "data": {"spec": "scenes", "hash": "0", "n": n, "root": "../images"},
        "versions": {},
    }
    return signed(info)


def with_samples(run: Run, samples: pd.DataFrame) -> Run:
    """The run with other rows, as if it had been written with them."""
    checksum = write_frame(run.path / "samples.parquet", samples, tables.samples())
    files = run.summary["files"] | {"samples.parquet": checksum}
    write_json(run.path / "summary.json", run.summary | {"files": files})
    return Run.open(run.path)


def write_pair(folder: Path, n: int = 36, **options) -> tuple[Run, Run]:
    """(teacher, student) over the same n scenes."""
    drawn = list(scenes(n=n))
    teacher = write_run(folder / "teacher", drawn, TEACHER)
    return teacher, write_run(folder / "student", drawn, STUDENT, teacher, **options)
