"""Teacher against student on one text: maps on a common frame, word by word, each beside its floor.

The floor of a divergence is the same number against the teacher's map of ANOTHER sample of the same task: what a map
that has nothing to do with this picture would score.
"""

from __future__ import annotations

import numpy as np

from perception_gap.geometry import TokenGeometry
from perception_gap.metrics import (
    aligned_cosine_distance,
    coarsened,
    correlation_coefficient,
    earth_movers_distance,
    js_divergence,
    kl_divergence,
    similarity,
    top_k_overlap,
)
from perception_gap.runs.rows import answered, geometry_of
from perception_gap.runs.run import Run

NOTHING = float("nan")
DEFAULT_RASTER = (16, 16)
# Column → what is measured of one map, a word's or a sample's, against the teacher's.
MEASURES = {
    "kl": kl_divergence,
    "js": js_divergence,
    "top_k_overlap": top_k_overlap,
    "cc": correlation_coefficient,
    "similarity": similarity,
}
# "emd" of whole samples only, which its cost allows.
OF_SAMPLES = (*MEASURES, "emd")


class Comparison:
    """One student run against its teacher's: partners for the floor, and one frame for all maps of the run."""

    def __init__(self, rows: list[dict], teacher: Run, kind: str, seed: int, raster: tuple[int, int] | None) -> None:
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

    def _comparable(self, row: dict) -> bool:
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

    def divergences(
        self, sample_id: str, mine: np.ndarray, theirs: np.ndarray | None, other: np.ndarray | None
    ) -> dict:
        """MEASURES and their floors (`floor_of`); NaN where a map is missing."""
        frame = self.frame(sample_id)
        student = self.on_frame(mine, geometry_of(self.rows[sample_id]), frame)
        found = {}
        for is_floor, source, values in ((False, sample_id, theirs), (True, self.partner.get(sample_id), other)):
            teacher = None
            if values is not None and source is not None and np.isfinite(values).all():
                teacher = self.on_frame(values, self.teacher.geometry(source), frame)
            for name, measure in MEASURES.items():
                comparable = teacher is not None and teacher.shape == student.shape
                column = floor_of(name) if is_floor else name
                found[column] = measure(teacher, student) if comparable else NOTHING  # type: ignore[arg-type]
        return found

    def sample(self, sample_id: str, mine: np.ndarray) -> dict:
        """OF_SAMPLES and their floors of the student's raw map [N] of one sample."""
        partner = self.partner.get(sample_id)
        theirs = self.teacher.map(sample_id, self.kind)
        other = self.teacher.map(partner, self.kind) if partner else None
        return self.divergences(sample_id, mine, theirs, other) | {
            "emd": self.transport(sample_id, mine, sample_id, theirs),
            "emd_floor": NOTHING if partner is None else self.transport(sample_id, mine, partner, other),
        }

    def transport(self, sample_id: str, mine: np.ndarray, source: str, values: np.ndarray | None) -> float:
        """Earth mover's distance of the student's map of a sample from the teacher's `values` of sample `source`.

        On the frame, summed into at most 16 × 16 cells where it is finer; on the raster where the frame is no grid.
        NaN for several pictures in a prompt: no distance leads from one picture to another.
        """
        student, teacher = geometry_of(self.rows[sample_id]), self.teacher.geometry(source)
        frame = self.frame(sample_id) or self.raster
        if values is None or max(student.n_images, teacher.n_images) > 1 or not np.isfinite(values).all():
            return NOTHING
        maps = self.on_frame(mine, student, frame), self.on_frame(values, teacher, frame)
        (first, shape), (second, _) = (coarsened(one, frame) for one in maps)
        return earth_movers_distance(first, second, shape)

    def without_sinks(self, sample_id: str, mine: np.ndarray) -> dict:
        """OF_SAMPLES of a map whose sinks are 0 already, from the teacher's without the teacher's own sinks.

        NaN where the teacher's sinks are unknown.
        """
        theirs, sinks = self.teacher.map(sample_id, self.kind), self.teacher.sinks(sample_id)
        if theirs is None or sinks is None:
            return dict.fromkeys(OF_SAMPLES, NOTHING)
        kept = np.where(sinks, 0, theirs)
        found = self.divergences(sample_id, mine, kept, None)
        return {name: found[name] for name in MEASURES} | {"emd": self.transport(sample_id, mine, sample_id, kept)}

    def words(self, sample_id: str, mine: np.ndarray) -> list[dict]:
        """One dict a word of the shared text; a word's floor is the partner's word of the same category."""
        row = self.rows[sample_id]
        theirs = self.teacher.map(sample_id, f"{self.kind}_words")
        partner = self.partner.get(sample_id)
        others = self.teacher.map(partner, f"{self.kind}_words") if partner else None
        matched = match_words(row["shared_categories"], self.teacher_words(partner)[1] if partner else [])
        if self.teacher_words(sample_id)[0] != list(row["shared_words"]):
            theirs = None
        return [
            self.divergences(
                sample_id, mine[w],
                None if theirs is None else theirs[w],
                others[matched[w]] if others is not None and matched[w] is not None else None,
            )
            for w in range(len(mine))
        ]  # fmt: skip

    def teacher_words(self, sample_id: str) -> tuple[list[str], list[str]]:
        row = self.teacher.row(sample_id)
        return list(row["shared_words"]), list(row["shared_categories"])

    def cosine(self, states: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        """Per sample, `cosine_distance` and `cosine_floor` of every word, after a cross-fitted orthogonal alignment."""
        index, mine, theirs, groups = [], [], [], []
        for sample_id, hidden in states.items():
            teacher = self.teacher.hidden(sample_id)
            if teacher is None or self.teacher_words(sample_id)[0] != list(self.rows[sample_id]["shared_words"]):
                continue
            index += [(sample_id, w) for w in range(len(hidden))]
            mine += list(hidden)
            theirs += list(teacher)
            groups += [self.rows[sample_id]["cluster"]] * len(hidden)
        found = {
            s: {k: np.full(len(h), NOTHING) for k in ("cosine_distance", "cosine_floor")} for s, h in states.items()
        }
        if not index:
            return found
        place = {key: i for i, key in enumerate(index)}
        floors = [self._other_word(*key) for key in index]
        others = [-1 if word is None else place.get(word, -1) for word in floors]
        sides = np.asarray(theirs), np.asarray(mine), groups
        # The aligned axes differ from fold to fold, so a floor is aligned as such, not put together from two folds.
        for name, values in (
            ("cosine_distance", aligned_cosine_distance(*sides)),
            ("cosine_floor", aligned_cosine_distance(*sides, others=others)),
        ):
            for (sample_id, w), value in zip(index, values, strict=True):
                found[sample_id][name][w] = value
        return found

    def _other_word(self, sample_id: str, word: int) -> tuple[str, int] | None:
        """The partner's word that stands in for this one in a floor; None where there is none."""
        partner = self.partner.get(sample_id)
        if partner is None:
            return None
        matched = match_words(self.rows[sample_id]["shared_categories"], self.teacher_words(partner)[1])[word]
        return None if matched is None else (partner, matched)


def floor_of(measure: str) -> str:
    """The column of a measure's floor."""
    return f"{measure.removesuffix('_overlap')}_floor"


def partners(rows: list[dict], seed: int) -> dict[str, str]:
    """For each sample another one of the same task on another image (seeded); samples without one are left out."""
    found: dict[str, str] = {}
    by_task: dict[str, list[dict]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    for task in sorted(by_task):
        group = sorted(by_task[task], key=lambda r: r["sample_id"])
        order = np.random.default_rng([seed, len(group)]).permutation(len(group))
        for i, at in enumerate(order):
            for step in range(1, len(order)):
                other = group[order[(i + step) % len(order)]]
                if other["cluster"] != group[at]["cluster"]:
                    found[group[at]["sample_id"]] = other["sample_id"]
                    break
    return found


def match_words(mine: list[str], theirs: list[str]) -> list[int | None]:
    """For each word the other text's word of the same category and rank (cyclic); None if it has none."""
    places: dict[str, list[int]] = {}
    for i, category in enumerate(theirs):
        places.setdefault(category, []).append(i)
    seen: dict[str, int] = {}
    matched: list[int | None] = []
    for category in mine:
        rank = seen.get(category, 0)
        seen[category] = rank + 1
        options = places.get(category)
        matched.append(options[rank % len(options)] if options else None)
    return matched
