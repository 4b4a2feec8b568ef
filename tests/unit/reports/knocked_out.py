"""A finished run with a knockout, without a model: real scenes, invented losses, the real writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perception_gap.data.scenes import scenes
from perception_gap.knockout.conditions import CONDITIONS, FIELDS
from perception_gap.measure.finish import finish
from perception_gap.runs.parts import Parts
from perception_gap.runs.run import Run, run_info
from perception_gap.storage.files import write_json
from tests.unit.reports.synthetic_run import STUDENT, write_run

ASKED = {"layers": "all", "k": 8, "seed": 0}
LOSS = {"inside": 3.0, "outside_number": 0.2, "outside_mass": 0.6, "top_k": 1.0, "image": 3.5, "redrawn": 4.0}


def knocked_out(folder: Path, n: int = 24) -> Run:
    """A student that loses most without what is in the boxes, from answer and text rows, and little from question's."""
    run = write_run(folder / "student", list(scenes(n=n)), STUDENT)
    info = run_info(run.path)
    info["settings"]["knockout"] = ASKED
    parts, keys, rows, arrays = Parts(run.path), [], [], {}
    for i, (row, own) in enumerate(parts.read([f"tiny-student-{i}" for i in range(n)])):
        rng = np.random.default_rng(i)
        values = np.full((1 + len(CONDITIONS), len(FIELDS)), np.nan, dtype=np.float32)
        values[0] = [0, 0, -1.0, 5, 0, row["correct"]]
        answers: list[str | None] = [None] * len(CONDITIONS)
        for c, (who, tokens) in enumerate(CONDITIONS):
            if tokens == "redrawn" and row["task"] == "relative_reflectance":
                continue
            loss = LOSS[tokens] * rng.gamma(2, 0.5) * (0.05 if who == "question" else 1)
            changed = bool(rng.random() < 1 - np.exp(-loss / 3))
            values[1 + c] = [6, 0.2, -1.0 - loss, 5, changed, row["correct"] and not changed]
            answers[c] = "something else" if changed else None
        rows.append(row | {"knockout_answers": answers})
        keys.append(row["key"])
        arrays |= {f"{row['key']}/{kind}": a for kind, a in own.items()} | {f"{row['key']}/knockout": values}
    parts = Parts(run.path, fresh=True)
    parts.write(rows, arrays)
    write_json(run.path / "run.json", info)
    return finish(run.path, keys, parts, info, None, seed=0, raster=(16, 16))
