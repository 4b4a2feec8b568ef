"""Who stands in for whom in a floor, and on which frame two maps meet."""

import itertools

import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.measure.partners import match_words, partners
from perception_gap.measure.teacher import Comparison
from perception_gap.metrics import aligned_cosine_distance, earth_movers_distance, kl_divergence
from perception_gap.metrics.columns import columns, measures, sample_columns
from perception_gap.metrics.measure import OfPair
from perception_gap.metrics.table import declared
from perception_gap.runs.rows import geometry_fields
from perception_gap.storage.files import frame_of


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
    # A floor is the same in every version.
    pinned = partners(rows(5, tasks=("a",)), seed=0)
    assert pinned == {"s000": "s003", "s003": "s004", "s004": "s001", "s001": "s002", "s002": "s000"}


def test_without_another_picture_there_is_no_partner():
    assert partners(rows(3, tasks=("a", "b", "c")), seed=0) == {}
    assert partners(rows(4, tasks=("a",), per_cluster=4), seed=0) == {}


def test_a_word_is_matched_with_one_of_its_category_by_rank():
    mine = ["functional", "attribute", "object", "functional", "functional", "attribute"]
    theirs = ["object", "functional", "other", "functional"]
    assert match_words(mine, theirs) == [1, None, 0, 3, 1, None]
    assert match_words(mine, []) == [None] * 6


def test_words_beyond_those_of_the_other_text_start_from_its_first_again():
    assert match_words(["object"] * 5, ["object", "functional", "object", "object"]) == [0, 2, 3, 0, 2]


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
    comparison = Comparison(student_rows(shapes), teacher, "own", 0, None)  # type: ignore[arg-type]
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
    comparison = Comparison(student_rows({"s1": (2, 2), "s2": (2, 2)}), teacher, "own", 0, None)  # type: ignore[arg-type]
    assert list(comparison.rows) == ["s1"]
    found = comparison.sample("s1", teacher.maps["s1"])  # nobody else to compare with
    assert all(np.isnan(found[measure.floor]) for measure in measures("sample", OfPair))


def test_earth_movers_distance_is_that_of_the_frame_with_its_floor():
    shapes = {"s1": (2, 3), "s2": (2, 3)}
    teacher = StoredTeacher(shapes)
    comparison = Comparison(student_rows(shapes), teacher, "own", 0, None)  # type: ignore[arg-type]
    found = comparison.sample("s1", teacher.maps["s2"])
    assert found["emd"] == pytest.approx(earth_movers_distance(teacher.maps["s1"], teacher.maps["s2"], (2, 3)))
    assert found["emd_floor"] == pytest.approx(0, abs=1e-9)
    assert found["similarity_floor"] == pytest.approx(1)
    assert found["cc"] == pytest.approx(np.corrcoef(teacher.maps["s1"], teacher.maps["s2"])[0, 1])
    assert np.isnan(comparison.sample("s1", np.full(6, np.nan))["emd"])


def test_a_fine_grid_is_compared_by_earth_movers_distance_on_sixteen_cells_a_side():
    teacher = StoredTeacher({"s1": (32, 48)})
    comparison = Comparison(student_rows({"s1": (32, 48)}), teacher, "own", 0, None)  # type: ignore[arg-type]
    mine = np.random.default_rng(1).random(32 * 48)
    blocks = [m.reshape(16, 2, 16, 3).sum((1, 3)).ravel() for m in (teacher.maps["s1"], mine)]
    assert comparison.sample("s1", mine)["emd"] == pytest.approx(earth_movers_distance(*blocks, (16, 16)), abs=1e-9)


def test_no_distance_leads_from_one_picture_to_another():
    two = TokenGeometry.concatenate([TokenGeometry.grid(2, 2), TokenGeometry.grid(2, 2, image=1)])
    teacher = StoredTeacher({"s1": (2, 4)})
    teacher.geometry = lambda sample_id: two  # type: ignore[method-assign]
    rows = [student_rows({"s1": (2, 4)})[0] | geometry_fields(two)]
    found = Comparison(rows, teacher, "own", 0, None).sample("s1", teacher.maps["s1"])  # type: ignore[arg-type]
    assert np.isnan(found["emd"])
    assert found["similarity"] == pytest.approx(1)


def test_without_sinks_each_model_loses_its_own_and_an_unknown_teacher_makes_it_undefined():
    teacher = StoredTeacher({"s1": (2, 3)})
    comparison = Comparison(student_rows({"s1": (2, 3)}), teacher, "own", 0, None)  # type: ignore[arg-type]
    theirs, mine = np.eye(6, dtype=bool)[0], np.where(np.eye(6)[4], 0, np.arange(1.0, 7))
    teacher.sinks = lambda sample_id: theirs  # type: ignore[attr-defined]
    found, kept = comparison.without_sinks("s1", mine), np.where(theirs, 0, teacher.maps["s1"])
    assert set(found) == {measure.name for measure in measures("without sinks", OfPair)}
    assert found["kl"] == pytest.approx(kl_divergence(kept, mine))
    assert found["emd"] == pytest.approx(earth_movers_distance(kept, mine, (2, 3)))
    teacher.maps["s1"] = None  # type: ignore[assignment]
    assert all(np.isnan(value) for value in comparison.without_sinks("s1", mine).values())
    teacher.maps["s1"] = kept
    teacher.sinks = lambda sample_id: None  # type: ignore[attr-defined]
    assert all(np.isnan(value) for value in comparison.without_sinks("s1", mine).values())


def paired(shapes: dict[str, tuple[int, int]], teacher: StoredTeacher | None = None, **changed) -> Comparison:
    """Student and teacher on the same grids; `changed` fields are those of the student's rows."""
    rows = [row | changed for row in student_rows(shapes)]
    return Comparison(rows, teacher or StoredTeacher(shapes), "own", 0, None)  # type: ignore[arg-type]


VARIATION = OfPair(
    name="variation", function=lambda p, q: abs(p / p.sum() - q / q.sum()).sum() / 2, heading="variation", unit="%",
    floor="variation_floor", scopes=("sample",), doc="total variation distance",
)  # fmt: skip


def test_a_value_that_no_measure_declares_stops_the_run():
    with declared(VARIATION):
        found = paired({"s1": (2, 3), "s2": (2, 3)}).sample("s1", np.ones(6))
        assert frame_of([found], sample_columns())["variation"][0] == found["variation"]
    assert 0 < found["variation"] < 1
    with pytest.raises(ValueError, match="no column for variation, variation_floor"):
        frame_of([found], sample_columns())


def test_every_measure_of_two_maps_has_a_column_and_a_floor():
    comparison = paired({"s1": (2, 3), "s2": (2, 3)})
    found = comparison.sample("s1", np.ones(6))
    assert set(found) == {name for m in measures("sample", OfPair) for name in (m.name, m.floor)}
    assert {"top_k_overlap", "top_k_floor", "emd", "emd_floor"} <= set(found)
    frame_of([found], sample_columns())
    assert set(comparison.sample("s1", np.ones(6), "pair")) == set(columns("pair"))
    assert set(comparison.sample("s1", np.ones(6), "latent")) == {"kl", "kl_floor"}


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "failed"},
        {"shared_text": None},
        {"question": "another"},
        {"image_hash": "another"},
        {"options": ["a"]},
    ],
)
def test_only_one_text_about_one_picture_compares(changed):
    assert paired({"s1": (2, 2), "s2": (2, 2)}, **changed).rows == {}


def test_grids_of_different_samples_meet_natively_but_one_irregular_geometry_among_others_does_not():
    """A floor lies between two samples, so tokens without a grid must be the same ones in all."""
    grids = {"s1": (2, 3), "s2": (3, 2)}
    assert paired(grids).native
    assert paired(grids).frame("s1") == (2, 3)
    halves = [TokenGeometry.grid(2, 2, within=(0, top, 1, top + 0.5)) for top in (0, 0.5)]
    assert not any(half.grid_shape for half in halves)
    upper, lower, whole = *halves, TokenGeometry.grid(2, 2)
    for pair, native in (((upper, upper), True), ((upper, lower), False), ((upper, whole), False)):
        geometries = {f"s{i}": geometry for i, geometry in enumerate(pair)}
        teacher = StoredTeacher(dict.fromkeys(geometries, (2, 2)))
        teacher.geometry = geometries.get  # type: ignore[assignment, method-assign]
        rows = [row | geometry_fields(geometries[row["sample_id"]]) for row in student_rows(teacher.shapes)]
        comparison = Comparison(rows, teacher, "own", 0, None)  # type: ignore[arg-type]
        assert comparison.native == native
        assert comparison.frame("s0") == (None if native else (16, 16))
        # A distance needs a raster even where tokens meet one by one: half of the mass a quarter of the width.
        teacher.maps["s0"] = np.array([3, 1, 0, 0])
        assert comparison.sample("s0", np.array([1, 3, 0, 0]))["emd"] == pytest.approx(0.25)


def test_prompts_of_different_numbers_of_pictures_have_no_common_frame():
    two = TokenGeometry.concatenate([TokenGeometry.grid(2, 2), TokenGeometry.grid(2, 2, image=1)])
    geometries = {"s1": TokenGeometry.grid(2, 2), "s2": two}
    teacher = StoredTeacher({"s1": (2, 2), "s2": (2, 4)})
    teacher.geometry = geometries.get  # type: ignore[assignment, method-assign]
    rows = [row | geometry_fields(geometries[row["sample_id"]]) for row in student_rows(teacher.shapes)]
    found = Comparison(rows, teacher, "own", 0, None).sample("s1", np.ones(4))  # type: ignore[arg-type]
    assert np.isfinite(found["kl"])
    assert np.isnan(found["kl_floor"])
    assert np.isnan(found["emd_floor"])


def test_a_floor_on_another_grid_is_put_on_the_frame_of_the_sample():
    """Cells of 2 × 3 and 3 × 2 are no pairs, although both maps have six weights: the other map is put on the frame."""
    comparison = paired({"s1": (2, 3), "s2": (3, 2)})
    found = comparison.sample("s1", np.ones(6))
    other = TokenGeometry.grid(3, 2).rasterize(comparison.teacher.map("s2", "own"), 2, 3).ravel()
    assert found["kl_floor"] == pytest.approx(kl_divergence(other, np.ones(6)))


def test_words_that_are_not_the_teachers_have_a_floor_but_no_divergence():
    shapes = {"s1": (2, 3), "s2": (2, 3)}
    mine = np.random.default_rng(2).random((1, 6))
    found = paired(shapes).words("s1", mine)[0]
    assert found["kl"] == pytest.approx(kl_divergence(StoredTeacher(shapes).maps["s1"], mine[0]))
    differing = paired(shapes, shared_words=["y"]).words("s1", mine)[0]
    assert np.isnan(differing["kl"])
    assert differing["kl_floor"] == found["kl_floor"]
    assert found["kl_floor"] == pytest.approx(kl_divergence(StoredTeacher(shapes).maps["s2"], mine[0]))
    unmatched = paired(shapes, shared_categories=["attribute"]).words("s1", mine)[0]
    assert np.isnan(unmatched["kl_floor"])  # the other picture's text has no word of that category
    on_raster = [row | {"shared_categories": ["attribute"]} for row in student_rows({"s1": (3, 2), "s2": (2, 3)})]
    comparison = Comparison(on_raster, StoredTeacher(shapes), "own", 0, None)  # type: ignore[arg-type]
    assert np.isnan(comparison.words("s1", mine)[0]["kl_floor"])
    alone = paired({"s1": (2, 3)}).words("s1", mine)[0]
    assert np.isfinite(alone["kl"])
    assert np.isnan(alone["kl_floor"])


def test_a_teachers_map_that_is_missing_or_undefined_leaves_the_divergence_undefined():
    grids = {"s1": (2, 3), "s2": (2, 3)}
    on_raster = paired({"s1": (4, 4), "s2": (4, 4)}, StoredTeacher(grids))
    for comparison, lost in itertools.product(
        (paired(grids), on_raster), (None, np.full(6, np.nan), np.array([1, np.inf, 1, np.nan, 1, 1]))
    ):
        comparison.teacher.maps["s1"] = lost  # type: ignore[attr-defined]
        found = comparison.sample("s1", np.ones(16 if comparison is on_raster else 6))
        assert all(np.isnan(found[measure.name]) for measure in measures("sample", OfPair))
        assert all(np.isfinite(found[f"{name}_floor"]) for name in ("kl", "js", "similarity", "emd"))


def test_a_student_map_without_mass_is_undefined_on_any_frame():
    comparison = paired({"s1": (2, 2)}, StoredTeacher({"s1": (3, 3)}))
    assert np.isnan(comparison.sample("s1", np.full(4, np.nan))["js"])
    assert comparison.on_frame(np.array([np.nan, 1, 1, 2]), TokenGeometry.grid(2, 2), (1, 1)) == [4.0]


class StatedTeacher(StoredTeacher):
    """A StoredTeacher that also has hidden states of its words."""

    def __init__(self, states: dict[str, np.ndarray]) -> None:
        super().__init__(dict.fromkeys(states, (2, 2)))
        self.states = states

    def row(self, sample_id: str) -> dict:
        n = len(self.states[sample_id])
        return super().row(sample_id) | {"shared_words": ["x"] * n, "shared_categories": ["object"] * n}

    def hidden(self, sample_id: str) -> np.ndarray | None:
        return self.states[sample_id]


def stated(states: dict[str, np.ndarray]) -> Comparison:
    teacher = StatedTeacher(states)
    rows = [row | teacher.row(row["sample_id"]) for row in student_rows(teacher.shapes)]
    return Comparison(rows, teacher, "own", 0, None)  # type: ignore[arg-type]


def test_cosine_is_that_of_all_words_aligned_together_and_its_floor_that_of_the_partners_words():
    rng = np.random.default_rng(0)
    theirs, mine = ({f"s{i}": rng.normal(size=(2, 5)) for i in range(6)} for _ in range(2))
    comparison = stated(theirs)
    found = comparison.cosine(mine)
    flat = [np.concatenate(list(side.values())) for side in (theirs, mine)]
    groups = np.repeat(list(mine), 2)
    np.testing.assert_allclose(
        np.concatenate([found[i]["cosine_distance"] for i in mine]), aligned_cosine_distance(*flat, groups)
    )
    others = np.array([2 * int(comparison.partner[f"s{i}"][1:]) + w for i in range(6) for w in range(2)])
    np.testing.assert_allclose(
        np.concatenate([found[i]["cosine_floor"] for i in mine]), aligned_cosine_distance(*flat, groups, others=others)
    )


def test_cosine_leaves_out_other_words_and_undefined_states():
    rng = np.random.default_rng(1)
    theirs, mine = ({f"s{i}": rng.normal(size=(2, 5)) for i in range(6)} for _ in range(2))
    theirs["s0"][0, 2], mine["s1"][0, 0] = np.nan, np.inf
    comparison = stated(theirs)
    comparison.rows["s2"]["shared_words"] = ["y", "y"]
    comparison.teacher.states["s4"] = None  # type: ignore[attr-defined]
    comparison.teacher.row = StatedTeacher(mine).row  # type: ignore[method-assign]
    found = comparison.cosine(mine)
    undefined = {i: np.isnan(found[i]["cosine_distance"]).tolist() for i in mine}
    changed = {"s0": [True, False], "s1": [True, False], "s2": [True, True], "s4": [True, True]}
    assert undefined == {i: [False, False] for i in mine} | changed
    # What has another word's floor cannot have one where that word's state is unknown.
    lacking = [i for i in mine if comparison.partner[i] == "s2"]
    assert all(np.isnan(found[i]["cosine_floor"]).all() for i in lacking)
    assert found.keys() == mine.keys()
    assert stated(mine).cosine({}) == {}


def test_a_word_without_a_stand_in_has_no_cosine_floor():
    rng = np.random.default_rng(3)
    theirs, mine = ({f"s{i}": rng.normal(size=(2, 5)) for i in range(6)} for _ in range(2))
    comparison = stated(theirs)
    comparison.rows["s1"]["shared_categories"] = ["object", "attribute"]
    del comparison.partner["s2"]
    found = comparison.cosine(mine)
    undefined = {i: np.isnan(found[i]["cosine_floor"]).tolist() for i in mine}
    assert undefined == {i: [False, False] for i in mine} | {"s1": [False, True], "s2": [True, True]}
