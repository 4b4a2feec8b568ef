"""Who stands in for whom in a floor, and on which frame two maps meet."""

import numpy as np
import pytest

from perception_gap.divergence import OF_SAMPLES, Comparison, match_words, partners
from perception_gap.geometry import TokenGeometry
from perception_gap.metrics import earth_movers_distance, kl_divergence
from perception_gap.store import geometry_fields


def rows(n: int, tasks=("a", "b"), per_cluster: int = 1) -> list[dict]:
    return [
        {"sample_id": f"s{i:03}", "task": tasks[i % len(tasks)], "cluster": f"c{i // per_cluster}"} for i in range(n)
    ]


def test_a_partner_is_another_picture_of_the_same_task():
    samples = rows(30, per_cluster=4)
    by_id = {r["sample_id"]: r for r in samples}
    found = partners(samples, seed=3)
    assert len(found) == 30
    for mine, other in found.items():
        assert by_id[mine]["task"] == by_id[other]["task"]
        assert by_id[mine]["cluster"] != by_id[other]["cluster"]
    assert found == partners(samples[::-1], seed=3)  # the order of rows does not matter
    assert found != partners(samples, seed=4)


def test_without_another_picture_there_is_no_partner():
    assert partners(rows(3, tasks=("a", "b", "c")), seed=0) == {}
    assert partners(rows(4, tasks=("a",), per_cluster=4), seed=0) == {}


def test_a_word_is_matched_with_one_of_its_category_by_rank():
    mine = ["functional", "attribute", "object", "functional", "functional", "attribute"]
    theirs = ["object", "functional", "other", "functional"]
    assert match_words(mine, theirs) == [1, None, 0, 3, 1, None]
    assert match_words(mine, []) == [None] * 6


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
        {"sample_id": i, "task": "t", "cluster": i, "status": "ok", "shared_text": "x", "question": "q",
         "image_hash": "h", "options": [], "shared_words": ["x"], "shared_categories": ["object"]}
        | geometry_fields(TokenGeometry.grid(*shape))
        for i, shape in shapes.items()
    ]  # fmt: skip


def test_equal_grids_meet_natively_and_the_floor_is_the_other_samples_map():
    shapes = {"s1": (2, 3), "s2": (2, 3)}
    teacher = StoredTeacher(shapes)
    comparison = Comparison(student_rows(shapes), teacher, "own", 0, (4, 4))  # type: ignore[arg-type]
    assert comparison.native
    found = comparison.sample("s1", teacher.maps["s1"])
    assert found["kl"] == pytest.approx(0, abs=1e-9)
    assert found["top_k_overlap"] == 1.0
    assert found["kl_floor"] == pytest.approx(kl_divergence(teacher.maps["s2"], teacher.maps["s1"]))
    assert comparison.words("s1", teacher.maps["s2"][None])[0]["kl_floor"] == pytest.approx(0, abs=1e-9)


def test_different_grids_meet_on_the_raster_which_keeps_the_mass():
    teacher = StoredTeacher({"s1": (2, 2), "s2": (3, 3)})
    comparison = Comparison(student_rows({"s1": (4, 4), "s2": (3, 3)}), teacher, "own", 0, (12, 12))  # type: ignore[arg-type]
    assert not comparison.native
    coarse = teacher.maps["s1"].reshape(2, 2)
    fine = np.kron(coarse, np.full((2, 2), 0.25)).ravel()  # the same picture on the student's grid
    assert comparison.sample("s1", fine)["kl"] == pytest.approx(0, abs=1e-9)
    spread = comparison.on_frame(fine, TokenGeometry.grid(4, 4), (12, 12))
    assert spread.sum() == pytest.approx(fine.sum(), rel=1e-9)


def test_a_sample_that_the_teacher_lacks_is_left_out():
    teacher = StoredTeacher({"s1": (2, 2)})
    comparison = Comparison(student_rows({"s1": (2, 2), "s2": (2, 2)}), teacher, "own", 0, (4, 4))  # type: ignore[arg-type]
    assert list(comparison.rows) == ["s1"]
    assert np.isnan(comparison.sample("s1", teacher.maps["s1"])["kl_floor"])  # nobody else to compare with


def test_earth_movers_distance_is_that_of_the_frame_with_its_floor():
    shapes = {"s1": (2, 3), "s2": (2, 3)}
    teacher = StoredTeacher(shapes)
    comparison = Comparison(student_rows(shapes), teacher, "own", 0, (4, 4))  # type: ignore[arg-type]
    found = comparison.sample("s1", teacher.maps["s2"])
    assert found["emd"] == pytest.approx(earth_movers_distance(teacher.maps["s1"], teacher.maps["s2"], (2, 3)))
    assert found["emd_floor"] == pytest.approx(0, abs=1e-9)
    assert found["similarity_floor"] == pytest.approx(1)
    assert found["cc"] == pytest.approx(np.corrcoef(teacher.maps["s1"], teacher.maps["s2"])[0, 1])
    assert np.isnan(comparison.sample("s1", np.full(6, np.nan))["emd"])


def test_a_fine_grid_is_compared_by_earth_movers_distance_on_sixteen_cells_a_side():
    teacher = StoredTeacher({"s1": (32, 48)})
    comparison = Comparison(student_rows({"s1": (32, 48)}), teacher, "own", 0, (4, 4))  # type: ignore[arg-type]
    mine = np.random.default_rng(1).random(32 * 48)
    blocks = [m.reshape(16, 2, 16, 3).sum((1, 3)).ravel() for m in (teacher.maps["s1"], mine)]
    assert comparison.sample("s1", mine)["emd"] == pytest.approx(earth_movers_distance(*blocks, (16, 16)), abs=1e-9)


def test_no_distance_leads_from_one_picture_to_another():
    two = TokenGeometry.concatenate([TokenGeometry.grid(2, 2), TokenGeometry.grid(2, 2, image=1)])
    teacher = StoredTeacher({"s1": (2, 4)})
    teacher.geometry = lambda sample_id: two  # type: ignore[method-assign]
    rows = [student_rows({"s1": (2, 4)})[0] | geometry_fields(two)]
    found = Comparison(rows, teacher, "own", 0, (4, 4)).sample("s1", teacher.maps["s1"])  # type: ignore[arg-type]
    assert np.isnan(found["emd"])
    assert found["similarity"] == pytest.approx(1)


def test_without_sinks_each_model_loses_its_own_and_an_unknown_teacher_makes_it_undefined():
    teacher = StoredTeacher({"s1": (2, 3)})
    comparison = Comparison(student_rows({"s1": (2, 3)}), teacher, "own", 0, (4, 4))  # type: ignore[arg-type]
    theirs, mine = np.eye(6, dtype=bool)[0], np.where(np.eye(6)[4], 0, np.arange(1.0, 7))
    teacher.sinks = lambda sample_id: theirs  # type: ignore[attr-defined]
    found, kept = comparison.without_sinks("s1", mine), np.where(theirs, 0, teacher.maps["s1"])
    assert set(found) == set(OF_SAMPLES)
    assert found["kl"] == pytest.approx(kl_divergence(kept, mine))
    assert found["emd"] == pytest.approx(earth_movers_distance(kept, mine, (2, 3)))
    teacher.sinks = lambda sample_id: None  # type: ignore[attr-defined]
    assert all(np.isnan(value) for value in comparison.without_sinks("s1", mine).values())
