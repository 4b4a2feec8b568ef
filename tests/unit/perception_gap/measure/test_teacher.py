"""On which frame two maps meet, and what is measured of them there."""

import itertools

import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.measure.teacher import Comparison
from perception_gap.metrics import earth_movers_distance, kl_divergence
from perception_gap.metrics.columns import columns, measures, sample_columns
from perception_gap.metrics.measure import OfPair
from perception_gap.metrics.table import declared
from perception_gap.runs.rows import geometry_fields
from perception_gap.storage.files import frame_of
from tests.unit.perception_gap.measure.stored_teacher import StoredTeacher, student_rows


def test_equal_grids_meet_natively_and_the_floor_is_the_other_samples_map():
    shapes = {"s1": (2, 3), "s2": (2, 3)}
    teacher = StoredTeacher(shapes)
    comparison = Comparison(student_rows(shapes), teacher, "own", 0, None)  # type: ignore[arg-type]
    assert comparison.native
    values = comparison.sample("s1", teacher.maps["s1"])
    assert values["kl"] == pytest.approx(0, abs=1e-9)
    assert values["top_k_overlap"] == 1.0
    assert values["kl_floor"] == pytest.approx(kl_divergence(teacher.maps["s2"], teacher.maps["s1"]))
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
    values = comparison.sample("s1", teacher.maps["s1"])  # nobody else to compare with
    assert all(np.isnan(values[measure.floor]) for measure in measures("sample", OfPair))


def test_earth_movers_distance_is_that_of_the_frame_with_its_floor():
    shapes = {"s1": (2, 3), "s2": (2, 3)}
    teacher = StoredTeacher(shapes)
    comparison = Comparison(student_rows(shapes), teacher, "own", 0, None)  # type: ignore[arg-type]
    values = comparison.sample("s1", teacher.maps["s2"])
    assert values["emd"] == pytest.approx(earth_movers_distance(teacher.maps["s1"], teacher.maps["s2"], (2, 3)))
    assert values["emd_floor"] == pytest.approx(0, abs=1e-9)
    assert values["similarity_floor"] == pytest.approx(1)
    assert values["cc"] == pytest.approx(np.corrcoef(teacher.maps["s1"], teacher.maps["s2"])[0, 1])
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
    values = Comparison(rows, teacher, "own", 0, None).sample("s1", teacher.maps["s1"])  # type: ignore[arg-type]
    assert np.isnan(values["emd"])
    assert values["similarity"] == pytest.approx(1)


def test_without_sinks_each_model_loses_its_own_and_an_unknown_teacher_makes_it_undefined():
    teacher = StoredTeacher({"s1": (2, 3)})
    comparison = Comparison(student_rows({"s1": (2, 3)}), teacher, "own", 0, None)  # type: ignore[arg-type]
    theirs, mine = np.eye(6, dtype=bool)[0], np.where(np.eye(6)[4], 0, np.arange(1.0, 7))
    teacher.sinks = lambda sample_id: theirs  # type: ignore[attr-defined]
    values, kept = comparison.without_sinks("s1", mine), np.where(theirs, 0, teacher.maps["s1"])
    assert set(values) == {measure.name for measure in measures("without sinks", OfPair)}
    assert values["kl"] == pytest.approx(kl_divergence(kept, mine))
    assert values["emd"] == pytest.approx(earth_movers_distance(kept, mine, (2, 3)))
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
        values = paired({"s1": (2, 3), "s2": (2, 3)}).sample("s1", np.ones(6))
        assert frame_of([values], sample_columns())["variation"][0] == values["variation"]
    assert 0 < values["variation"] < 1
    with pytest.raises(ValueError, match="no column for variation, variation_floor"):
        frame_of([values], sample_columns())


def test_every_measure_of_two_maps_has_a_column_and_a_floor():
    comparison = paired({"s1": (2, 3), "s2": (2, 3)})
    values = comparison.sample("s1", np.ones(6))
    assert set(values) == {name for m in measures("sample", OfPair) for name in (m.name, m.floor)}
    assert {"top_k_overlap", "top_k_floor", "emd", "emd_floor"} <= set(values)
    frame_of([values], sample_columns())
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
    values = Comparison(rows, teacher, "own", 0, None).sample("s1", np.ones(4))  # type: ignore[arg-type]
    assert np.isfinite(values["kl"])
    assert np.isnan(values["kl_floor"])
    assert np.isnan(values["emd_floor"])


def test_a_floor_on_another_grid_is_put_on_the_frame_of_the_sample():
    """Cells of 2 × 3 and 3 × 2 are no pairs, although both maps have six weights: the other map is put on the frame."""
    comparison = paired({"s1": (2, 3), "s2": (3, 2)})
    values = comparison.sample("s1", np.ones(6))
    other = TokenGeometry.grid(3, 2).rasterize(comparison.teacher.map("s2", "own"), 2, 3).ravel()
    assert values["kl_floor"] == pytest.approx(kl_divergence(other, np.ones(6)))


def test_words_that_are_not_the_teachers_have_a_floor_but_no_divergence():
    shapes = {"s1": (2, 3), "s2": (2, 3)}
    mine = np.random.default_rng(2).random((1, 6))
    values = paired(shapes).words("s1", mine)[0]
    assert values["kl"] == pytest.approx(kl_divergence(StoredTeacher(shapes).maps["s1"], mine[0]))
    differing = paired(shapes, shared_words=["y"]).words("s1", mine)[0]
    assert np.isnan(differing["kl"])
    assert differing["kl_floor"] == values["kl_floor"]
    assert values["kl_floor"] == pytest.approx(kl_divergence(StoredTeacher(shapes).maps["s2"], mine[0]))
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
        values = comparison.sample("s1", np.ones(16 if comparison is on_raster else 6))
        assert all(np.isnan(values[measure.name]) for measure in measures("sample", OfPair))
        assert all(np.isfinite(values[f"{name}_floor"]) for name in ("kl", "js", "similarity", "emd"))


def test_a_student_map_without_mass_is_undefined_on_any_frame():
    comparison = paired({"s1": (2, 2)}, StoredTeacher({"s1": (3, 3)}))
    assert np.isnan(comparison.sample("s1", np.full(4, np.nan))["js"])
    assert comparison.on_frame(np.array([np.nan, 1, 1, 2]), TokenGeometry.grid(2, 2), (1, 1)) == [4.0]
