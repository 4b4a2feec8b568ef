"""Teacher against student on one text: maps on a common frame, word by word, each beside its floor.

The floor of a divergence is the same number against the teacher's map of ANOTHER sample of the same task: what a map
that has nothing to do with this picture would score.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perception_gap.geometry import TokenGeometry
from perception_gap.measure.partners import match_words, partners
from perception_gap.metrics.columns import floors, measures, undefined
from perception_gap.metrics.measure import OfPair, Scope
from perception_gap.runs.rows import answered, geometry_of
from perception_gap.runs.run import Run

NOTHING = float("nan")
DEFAULT_RASTER = (16, 16)
Maps = tuple[np.ndarray, np.ndarray]  # the teacher's and the student's


class Comparison:
    """One student run against its teacher's: partners for the floor, and one frame for all maps of the run."""

    def __init__(
        self, rows: list[dict[str, Any]], teacher: Run, kind: str, seed: int, raster: tuple[int, int] | None
    ) -> None:
        """kind: which of the teacher's maps were read on the shared text, "own" or "shared".

        raster: the frame of every number; None: the token grid where all are equal, else DEFAULT_RASTER.
        """
        self.teacher, self.kind, self.raster = teacher, kind, raster or DEFAULT_RASTER
        self.rows = {r["sample_id"]: r for r in rows if self._comparable(r)}
        self.partner = partners(list(self.rows.values()), seed)
        geometries = [geometry_of(r) for r in self.rows.values()]
        same = all(g == teacher.geometry(i) for i, g in zip(self.rows, geometries, strict=True))
        # Floors compare maps of two samples, so a native frame also needs plain grids, or one geometry throughout.
        plain = all(g.grid_shape for g in geometries)
        self.native = raster is None and same and (plain or all(g == geometries[0] for g in geometries))

    @property
    def name_of_frame(self) -> str | list[int]:
        """What run.json says of the frame: "native", the token grid, or [rows, cols] of the raster."""
        return "native" if self.native else list(self.raster)

    def _comparable(self, row: dict[str, Any]) -> bool:
        """Whether both models were read on one text about the same picture."""
        if row["status"] != "ok" or row["shared_text"] is None or row["sample_id"] not in self.teacher:
            return False
        other = self.teacher.row(row["sample_id"])
        return answered(other, row["question"], row["image_hash"], row["options"])

    def frame(self, sample_id: str) -> tuple[int, int] | None:
        """(rows, cols) on which maps of this sample meet; None: token by token, all geometries being one."""
        return geometry_of(self.rows[sample_id]).grid_shape if self.native else self.raster

    def on_frame(self, values: np.ndarray, geometry: TokenGeometry, frame: tuple[int, int] | None) -> np.ndarray:
        if frame is None or geometry.grid_shape == frame:
            return values
        return geometry.rasterize(np.nan_to_num(values), *frame).ravel()

    def distances(
        self, scope: Scope, sample_id: str, student: np.ndarray, source: str | None, teacher: np.ndarray | None
    ) -> dict[str, float]:
        """The scope's measures of the student's map [N] of a sample from the teacher's map of sample `source`.

        NaN where a map is missing or undefined, or where the two meet on no frame.
        """
        if source is None or teacher is None or not np.isfinite(teacher).all():
            return undefined(scope)
        sides = teacher, self.teacher.geometry(source), student, geometry_of(self.rows[sample_id])
        wanted = measures(scope, OfPair)
        meet = {False: self._cells, True: self._rasters}
        maps = {raster: meet[raster](sample_id, *sides) for raster in {measure.raster for measure in wanted}}
        return {
            measure.name: NOTHING if (both := maps[measure.raster]) is None else measure.function(*both)
            for measure in wanted
        }

    def _cells(
        self, sample_id: str, teacher: np.ndarray, theirs: TokenGeometry, student: np.ndarray, mine: TokenGeometry
    ) -> Maps | None:
        """Both maps [cells] on the frame of the sample; None where they have no cells in common."""
        frame = self.frame(sample_id)
        both = self.on_frame(teacher, theirs, frame), self.on_frame(student, mine, frame)
        return both if both[0].shape == both[1].shape else None

    def _rasters(
        self, sample_id: str, teacher: np.ndarray, theirs: TokenGeometry, student: np.ndarray, mine: TokenGeometry
    ) -> Maps | None:
        """Both maps [rows, cols] of one picture, on the frame, or on the raster where the frame is no grid.

        None for several pictures in a prompt: no distance leads from one picture to another.
        """
        frame = self.frame(sample_id) or self.raster
        if max(theirs.n_images, mine.n_images) > 1:
            return None
        return self.on_frame(teacher, theirs, frame).reshape(frame), self.on_frame(student, mine, frame).reshape(frame)

    def sample(self, sample_id: str, student: np.ndarray, scope: Scope = "sample") -> dict[str, float]:
        """The scope's measures and their floors of the student's raw map [N] of one sample."""
        partner = self.partner.get(sample_id)
        own = self.teacher.map(sample_id, self.kind)
        other = self.teacher.map(partner, self.kind) if partner else None
        values = self.distances(scope, sample_id, student, sample_id, own)
        return values | floors(scope, self.distances(scope, sample_id, student, partner, other))

    def without_sinks(self, sample_id: str, student: np.ndarray) -> dict[str, float]:
        """The measures of a map whose sinks are 0 already, from the teacher's without the teacher's own sinks.

        NaN where the teacher's sinks are unknown.
        """
        teacher, sinks = self.teacher.map(sample_id, self.kind), self.teacher.sinks(sample_id)
        kept = None if teacher is None or sinks is None else np.where(sinks, 0, teacher)
        return self.distances("without sinks", sample_id, student, sample_id, kept)

    def words(self, sample_id: str, maps: np.ndarray) -> list[dict[str, float]]:
        """The measures and floors of every word's map [words, N] of the shared text.

        A word's floor is the partner's word of the same category.
        """
        row = self.rows[sample_id]
        teacher = self.teacher.map(sample_id, f"{self.kind}_words")
        if self.teacher_words(sample_id)[0] != list(row["shared_words"]):
            teacher = None
        partner = self.partner.get(sample_id)
        others = self.teacher.map(partner, f"{self.kind}_words") if partner else None
        stand_ins = match_words(row["shared_categories"], self.teacher_words(partner)[1] if partner else [])
        by_word = []
        for w, student in enumerate(maps):
            own, stand_in = None if teacher is None else teacher[w], stand_ins[w]
            other = None if others is None or stand_in is None else others[stand_in]
            values = self.distances("word", sample_id, student, sample_id, own)
            by_word.append(values | floors("word", self.distances("word", sample_id, student, partner, other)))
        return by_word

    def teacher_words(self, sample_id: str) -> tuple[list[str], list[str]]:
        row = self.teacher.row(sample_id)
        return list(row["shared_words"]), list(row["shared_categories"])
