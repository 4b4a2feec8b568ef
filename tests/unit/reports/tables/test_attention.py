"""Table 2: spread of salient regions and entropy on relative depth."""

import pytest

from perception_gap.errors import UsageError
from reports import tables
from tests.unit.reports.tables.synthetic_bench import write_bench, write_matrix


def row(table, label):
    (found,) = [r for r in table.rows if r.label == label]
    return found


def bench(folder, model="Qwen/Qwen2.5-VL-3B-Instruct", task="blink_relative_depth", **options):
    return write_bench(folder, {model: {task: [True] * 5}}, gaze=True, **options)


def test_the_statistics_are_those_worked_by_hand(tmp_path):
    """Values 1 .. 5: mean 3, SD (ddof 0) √2, smallest 1, largest 5, CV √2 / 3."""
    (table,) = tables.build("table2", [bench(tmp_path / "b")])
    cells = row(table, "Qwen2.5-VL-3B-Instruct").cells
    expected = {"salient_mean": 3, "salient_std": 2**0.5, "salient_min": 1, "salient_max": 5, "salient_cv": 2**0.5 / 3}
    assert {key: cells[key].value for key in expected} == pytest.approx(expected)
    assert (cells["salient_mean"].figure, cells["salient_cv"].figure, cells["entropy_cv"].figure) == (
        "3.0", "0.471", "0.4714",
    )  # fmt: skip
    assert cells["salient_min"].interval == ""
    assert {cell.n for cell in cells.values()} == {5}


def test_the_difference_from_the_print_is_taken_on_blink_only(tmp_path):
    (table,) = tables.build("table2", [bench(tmp_path / "blink")])
    difference = row(table, "Qwen2.5-VL-3B-Instruct − Qwen2.5-VL 3B").cells
    assert difference["salient_mean"].value == pytest.approx(3 - 53.8)
    assert difference["entropy_cv"].value == pytest.approx(2**0.5 / 3 - 0.0444)
    (drawn,) = tables.build("table2", [bench(tmp_path / "drawn", task="scenes_relative_depth")])
    assert "difference" not in drawn.sources
    assert any("drawn scenes" in text for text in drawn.marks)


def test_published_cvs_that_do_not_recompute_have_both_figures_in_a_footnote(tmp_path):
    (table,) = tables.build("table2", [bench(tmp_path / "b")])
    marked = {r.label: [n for c in r.cells.values() for n in c.notes] for r in table.rows if r.source == "published"}
    assert marked == {
        "Qwen2.5-VL 32B": [],
        "Qwen2.5-VL 3B": ["printed 0.191; recomputed 0.167 (9.0 / 53.8)"],
        "LaViT 3B": ["printed 0.102; recomputed 0.118 (5.6 / 47.3)"],
    }
    assert all(cell.rank == "" for r in table.rows for cell in r.cells.values())


def as_stored(told):
    return told["mean"], *(told["ci"] or (None, None)), told["n"]


def as_shown(cell):
    return cell.value, cell.low, cell.high, cell.n


def test_the_cells_are_what_the_summary_of_a_run_stores(pair):
    _, student = pair
    (table,) = tables.build("table2", [student])
    cells = row(table, "tiny:student").cells
    for prefix, column in (("salient", "salient_regions"), ("entropy", "entropy")):
        told = student.summary[column]["by_task"]["relative_depth"]
        for name in ("mean", "std", "cv"):
            assert as_shown(cells[f"{prefix}_{name}"]) == as_stored(told[name])


def test_the_cells_are_what_the_summary_of_a_benchmark_stores(tmp_path):
    source = bench(tmp_path / "b")
    (table,) = tables.build("table2", [source])
    cells = row(table, "Qwen2.5-VL-3B-Instruct").cells
    told = source.models[0].summary["tasks"]["blink_relative_depth"]["gaze"]["entropy"]["by_task"]
    for name in ("mean", "std", "cv"):
        assert as_shown(cells[f"entropy_{name}"]) == as_stored(told["blink_relative_depth"][name])
        assert cells[f"entropy_{name}"].interval


def test_of_two_tasks_of_relative_depth_each_has_a_row_of_its_own(tmp_path):
    both = {"blink_relative_depth": [True] * 5, "scenes_relative_depth": [True] * 7}
    (table,) = tables.build("table2", [write_bench(tmp_path / "b", {"org/looker": both}, gaze=True)])
    assert row(table, "looker (blink_relative_depth)").cells["salient_mean"].value == 3
    drawn = row(table, "looker (scenes_relative_depth)")
    assert (drawn.cells["salient_mean"].value, drawn.cells["salient_mean"].n) == (4, 7)
    assert any("drawn scenes" in note for note in drawn.notes)


def test_below_five_samples_there_is_a_figure_without_an_interval(tmp_path):
    (table,) = tables.build(
        "table2", [write_bench(tmp_path / "b", {"a": {"blink_relative_depth": [True] * 4}}, gaze=True)]
    )
    cell = row(table, "a").cells["salient_std"]
    assert (cell.value, cell.interval, cell.n) == (pytest.approx(1.25**0.5), "", 4)


def test_a_run_brings_its_teacher_once_and_counts_failures(pair):
    teacher, student = pair
    (table,) = tables.build("table2", [student, student, teacher])
    ours = [r.label for r in table.rows if r.source == "ours"]
    assert sorted(ours) == ["tiny:student", "tiny:teacher"]
    depth = student.samples[student.samples["task"] == "relative_depth"]
    cells = row(table, "tiny:student").cells
    known = depth["entropy"].dropna()
    assert cells["entropy_mean"].value == pytest.approx(known.mean())
    assert cells["entropy_std"].value == pytest.approx(known.std(ddof=0))
    assert cells["entropy_mean"].n == len(known)


def test_failed_questions_have_no_map_and_are_counted(tmp_path):
    name = "Qwen/Qwen2.5-VL-3B-Instruct"
    (table,) = tables.build("table2", [bench(tmp_path / "b", failed={name: [4]})])
    found = row(table, "Qwen2.5-VL-3B-Instruct")
    assert found.cells["salient_max"].value == 4
    assert found.cells["salient_mean"].n == 4
    assert "Qwen2.5-VL-3B-Instruct: 1 of 5 failed and have no map" in found.notes


def test_without_maps_it_says_what_to_do(tmp_path):
    source = write_bench(tmp_path / "b", {"a": {"blink_relative_depth": [True] * 4}})
    with pytest.raises(UsageError, match=r"table2: no attention maps .*b, a: no maps.*gapcheck bench --gaze"):
        tables.build("table2", [source])


def test_a_matrix_is_named_with_where_its_samples_are(tmp_path):
    matrix = write_matrix(tmp_path / "m", [("paper", 0, "answer", "all", "accuracy", 0.5, 0.4, 0.6, 9)])
    with pytest.raises(UsageError, match=r"m: a matrix, whose runs are its PRESET-sSEED/eval"):
        tables.build("table2", [matrix])


def test_models_without_maps_beside_those_with_are_named(tmp_path, pair):
    source = write_bench(tmp_path / "b", {"a": {"blink_relative_depth": [True] * 4}})
    (table,) = tables.build("table2", [source, pair[1]])
    assert any("b, a: no maps of relative depth" in text for text in table.about)
