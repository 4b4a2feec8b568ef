"""Table 2: spread of salient regions and entropy on relative depth."""

import numpy as np
import pandas as pd
import pytest

from perception_gap.errors import UsageError
from perception_gap.statistics import mean_ci
from perception_gap.summary import spread
from reports import tables
from reports.tables.attention import statistics_of
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


def test_statistics_agree_with_the_summary_of_a_run():
    rng = np.random.default_rng(0)
    values, clusters = rng.gamma(2, 1, 60), rng.integers(0, 20, 60)
    values[[3, 7]] = np.nan
    found, other = statistics_of(values, clusters), spread(pd.Series(values), pd.Series(clusters), 0)
    assert (found["mean"].mean, found["std"].mean, found["cv"].mean) == pytest.approx(
        (other["mean"], other["std"], other["cv"])
    )
    assert [found["mean"].low, found["mean"].high] == pytest.approx(other["ci"])
    assert found["mean"].n == 58


def test_the_bootstrap_of_the_deviation_is_that_of_a_naive_loop():
    """Tolerance: two bootstraps of 2,000 resamples scatter by about 2 % of the interval's width at its ends."""
    rng = np.random.default_rng(1)
    values, clusters = rng.normal(10, 2, 200), np.arange(200) // 2
    found = statistics_of(values, clusters)
    by_cluster = values.reshape(100, 2)
    drawn = [by_cluster[rng.integers(0, 100, 100)].ravel() for _ in range(2000)]
    for name, naive in (("std", [d.std() for d in drawn]), ("cv", [d.std() / d.mean() for d in drawn])):
        low, high = np.quantile(naive, [0.025, 0.975])
        width = high - low
        assert found[name].low == pytest.approx(low, abs=0.1 * width)
        assert found[name].high == pytest.approx(high, abs=0.1 * width)


def test_scaling_scales_everything_but_the_cv():
    values, clusters = np.random.default_rng(2).gamma(3, 1, 40), np.arange(40)
    one, ten = statistics_of(values, clusters), statistics_of(10 * values, clusters)
    for name in ("mean", "std", "min", "max"):
        assert ten[name].mean == pytest.approx(10 * one[name].mean)
    assert (ten["cv"].mean, ten["cv"].low, ten["cv"].high) == pytest.approx(
        (one["cv"].mean, one["cv"].low, one["cv"].high)
    )


def test_one_cluster_and_no_value_have_no_interval():
    alone = statistics_of(np.array([1.0, 3.0]), np.array(["a", "a"]))
    assert (alone["std"].mean, np.isnan(alone["std"].low)) == (1.0, True)
    nothing = statistics_of(np.array([np.nan]), np.array(["a"]))
    assert np.isnan(nothing["mean"].mean)
    assert nothing["mean"].n == 0
    assert np.isnan(mean_ci([np.nan]).mean)


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
