"""A teacher's run as a Comparison reads it, and rows of a student on the same samples."""

from __future__ import annotations

import numpy as np

from perception_gap.geometry import TokenGeometry
from perception_gap.runs.rows import geometry_fields


class StoredTeacher:
    """The part of a Run that a Comparison reads, with real geometry and maps."""

    def __init__(self, shapes: dict[str, tuple[int, int]]) -> None:
        self.shapes = shapes
        self.rng = np.random.default_rng(0)
        self.maps = {i: self.rng.random(r * c) for i, (r, c) in shapes.items()}

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self.shapes

    def row(self, sample_id: str) -> dict:
        return {
            "status": "ok",
            "question": "q",
            "image_hash": "h",
            "options": [],
            "shared_words": ["x"],
            "shared_categories": ["object"],
        }

    def geometry(self, sample_id: str) -> TokenGeometry:
        return TokenGeometry.grid(*self.shapes[sample_id])

    def map(self, sample_id: str, kind: str) -> np.ndarray:
        return self.maps[sample_id][None] if kind.endswith("words") else self.maps[sample_id]


def student_rows(shapes: dict[str, tuple[int, int]]) -> list[dict]:
    return [
        {
            "sample_id": i,
            "task": "t",
            "cluster": i,
            "status": "ok",
            "shared_text": "x",
            "question": "q",
            "image_hash": "h",
            "options": [],
            "shared_words": ["x"],
            "shared_categories": ["object"],
        }
        | geometry_fields(TokenGeometry.grid(*shape))
        for i, shape in shapes.items()
    ]
