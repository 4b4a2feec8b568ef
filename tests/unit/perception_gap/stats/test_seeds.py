"""The mean over a preset's seeds, and the digits of its results."""

import math

import pandas as pd
import pytest

from perception_gap.stats.seeds import over_seeds, restored
from reports import tables
from reports.figures.ablation import means
from reports.sources import open_source
from reports.tables.own import gathered
from tests.unit.reports.tables.synthetic_bench import write_matrix


def of_seeds(*given, metric="accuracy"):
    """A row a seed of (value, low, high, n)."""
    columns = ["value", "low", "high", "n"]
    return pd.DataFrame(given, columns=columns).assign(metric=metric, seed=range(len(given)))


@pytest.mark.parametrize(("k", "n"), [(77, 160), (1, 3), (2, 3), (322, 480), (5, 4321), (-7, 48), (0, 9), (9, 9)])
def test_a_share_of_five_digits_is_the_count_that_it_was(k, n):
    assert restored(float(f"{k / n:.5g}"), n) == k / n
    assert restored(k / n, n) == k / n


def test_what_is_no_count_stays():
    assert restored(0.48125, 100) == 0.48125  # no hundredth
    assert math.isnan(restored(math.nan, 100))
    assert restored(0.5, 0) == 0.5


def test_a_matrix_with_five_digits_has_the_last_digit_of_its_counts(tmp_path):
    # 4 of 34 are 11.7647 %, and five digits of it 11.765 %.
    source = write_matrix(tmp_path / "m", [("paper", 0, "answer", "iq", "accuracy", 0.11765, 0.0, 0.25, 34)])
    (own,), _ = gathered([source])
    assert own.figures["scenes_iq"].estimate["mean"] == 4 / 34
    by_task = tables.build(None, [source])[0]
    assert by_task.rows[0].cells["iq"].figure == "11.76"


def test_the_mean_over_seeds_by_hand_with_the_smallest_n():
    found = over_seeds(of_seeds((0.7, 0.6, 0.8, 90), (0.8, 0.72, 0.88, 100)), (0, 1))
    assert found["mean"] == pytest.approx(0.75)
    assert found["ci"] == pytest.approx([0.66, 0.84])
    assert found["n"] == 90


@pytest.mark.parametrize("other", [(1.0, 1.0, 1.0, 50), (0.9, math.nan, math.nan, 50)])
def test_a_seed_without_an_interval_leaves_the_mean_without_one(other):
    found = over_seeds(of_seeds((0.7, 0.6, 0.8, 50), other), (0, 1))
    assert found["mean"] == pytest.approx((0.7 + other[0]) / 2)
    assert found["ci"] is None


def test_a_seed_without_a_value_leaves_no_mean():
    undefined = {"mean": None, "ci": None, "n": 50}
    assert over_seeds(of_seeds((0.7, 0.6, 0.8, 50), (math.nan, 0.6, 0.8, 60)), (0, 1)) == undefined
    assert over_seeds(of_seeds((0.7, 0.6, 0.8, 50)), (0, 1)) == undefined
    assert over_seeds(of_seeds(), (0,)) == {"mean": None, "ci": None, "n": 0}


def test_figure_and_table_say_the_same_of_seeds(tmp_path):
    """Both of [1, 1] among intervals, of a seed without a value, and of the n of seeds that differ."""
    given = {
        "certain": [(0.7, 0.6, 0.8, 50), (1.0, 1.0, 1.0, 50)],
        "sound": [(0.7, 0.6, 0.8, 50), (0.8, 0.7, 0.9, 40)],
        "undefined": [(0.7, 0.6, 0.8, 50), (math.nan, math.nan, math.nan, 50)],
    }
    lines = [
        (preset, seed, "answer", task, "accuracy", *values)
        for preset, rows in given.items() for seed, values in enumerate(rows) for task in ("all", "iq")
    ]  # fmt: skip
    source = write_matrix(tmp_path / "m", lines)
    drawn = means(open_source(source.path), "accuracy")
    table = {own.label: own.figures["scenes_iq"] for own in gathered([source])[0]}
    assert list(drawn) == ["certain", "sound"]
    assert table["undefined"].estimate["mean"] is None
    assert math.isnan(drawn["certain"].low)
    assert table["certain"].estimate["ci"] is None
    assert "no interval" in table["certain"].notes[0]
    assert (drawn["sound"].low, drawn["sound"].high) == pytest.approx((0.65, 0.85))
    assert table["sound"].estimate["ci"] == pytest.approx([0.65, 0.85])
    assert drawn["sound"].n == table["sound"].estimate["n"] == 40


def test_a_seed_without_a_row_of_a_metric_leaves_its_mean_undefined(tmp_path):
    lines = [("paper", seed, "answer", "all", "accuracy", 0.5, 0.4, 0.6, 50) for seed in (0, 1)]
    lines.append(("paper", 0, "answer", "all", "kl", 2.0, 1.9, 2.1, 50))
    assert means(write_matrix(tmp_path / "m", lines), "kl") == {}
