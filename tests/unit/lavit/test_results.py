"""Tidy rows and paired differences, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lavit import results
from lavit.ablation import parse_runs
from perception_gap.errors import UsageError
from perception_gap.runs.schema import tables


def frame(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    ids = [f"s{i}" for i in range(n)]
    filled = {column: np.full(n, np.nan) for column in results.METRICS.values()}
    base = {"sample_id": ids, "task": ["a", "b"] * (n // 2), "cluster": ids} | filled
    return pd.DataFrame(base | columns, index=pd.Index(ids, name="sample_id"))


def test_undefined_metrics_give_no_row_and_defined_ones_their_mean_in_all_and_in_each_task():
    rows = results.tidy("paper", 3, frame(correct=[1.0, 0.0, 1.0, 1.0], kl=[1.0, np.nan, 3.0, 2.0]), results.METRICS)
    found = {(r["rows"], r["metric"], r["task"]): r for r in rows}
    assert set(found) == {("answer", m, t) for m in ("accuracy", "kl") for t in ("all", "a", "b")}
    assert found["answer", "accuracy", "all"]["value"] == 0.75
    assert found["answer", "accuracy", "b"]["value"] == 0.5
    assert found["answer", "kl", "all"]["n"] == 3
    assert found["answer", "kl", "all"]["value"] == 2.0
    assert np.isnan(found["answer", "kl", "all"]["low"])  # three samples tell no interval
    assert list(rows[0]) == list(results.COLUMNS)


def seed_row(preset, seed, metric, value, low=0.0, high=1.0, n=40, task="all"):
    return dict(zip(results.COLUMNS, (preset, seed, "answer", task, metric, value, low, high, n), strict=True))


def test_means_over_seeds_need_a_value_of_every_seed_that_was_asked():
    rows = [
        *(seed_row("paper", 0, "accuracy", 0.5, 0.4, 0.6), seed_row("paper", 1, "accuracy", 0.7, 0.6, 0.9, n=30)),
        seed_row("paper", 0, "kl", 2.0),
        seed_row("paper", 0, "accuracy_mask", 0.25),
        *(seed_row("ours", seed, "accuracy", 1.0, low, 1.0) for seed, low in ((0, 0.9), (1, 1.0))),
    ]
    means = results.means(pd.DataFrame(rows))
    assert list(means) == tables.MEANS.names
    by_metric = means.set_index(["preset", "metric"])
    whole = by_metric.loc["paper", "accuracy"]
    assert whole[["mean", "low", "high", "n"]].tolist() == pytest.approx([0.6, 0.5, 0.75, 30])
    assert math.isnan(by_metric.loc[("paper", "kl"), "mean"])  # seed 1 has none
    assert by_metric.loc[("paper", "accuracy_mask"), "mean"] == 0.25  # the one seed that was asked so
    assert math.isnan(by_metric.loc[("ours", "accuracy"), "low"])  # an interval without width is none


def test_differences_are_paired_by_sample_and_averaged_over_seeds_first():
    mine = [frame(kl=[1.0, 2.0, 3.0, 4.0]), frame(kl=[3.0, 4.0, 5.0, 6.0])]
    theirs = [frame(kl=[2.0, 3.0, 4.0, 5.0]), frame(kl=[1.0, 2.0, 3.0, 4.0])]
    found = results.paired(mine, theirs, "kl")
    assert found["mean"] == pytest.approx(0.5)
    assert np.isnan([found["low"], found["high"]]).all()  # the same for every sample, and four of them
    assert found["p"] == pytest.approx(2 / 16)  # all four signs alike: two of 2⁴ arrangements
    assert found["seeds"] == [pytest.approx(-1.0), pytest.approx(2.0)]
    assert found["n"] == 4
    assert results.paired(mine, theirs, "kl", "b")["n"] == 2


def test_the_order_of_samples_does_not_matter_and_missing_ones_are_left_out_of_both():
    mine, theirs = frame(kl=[1.0, 2.0, 3.0, 4.0]), frame(kl=[0.0, 0.0, 0.0, 0.0])
    found = results.paired([mine.iloc[::-1]], [theirs.iloc[[2, 0]]], "kl")
    assert found["n"] == 2
    assert found["mean"] == pytest.approx(2.0)


def test_comparisons_leave_out_what_is_not_there():
    frames = {("naive-sft", 0): frame(correct=[0.0, 0.0, 1.0, 1.0]), ("paper", 0): frame(correct=[1.0, 0.0, 1.0, 1.0])}
    found = results.comparisons(frames, ["naive-sft", "paper"], ("naive-sft", "shuffled-gaze"), ["a", "b"])
    assert set(found["against"]) == {"naive-sft"}
    assert set(found["metric"]) == {"accuracy"}
    assert found.set_index("task")["mean"].to_dict() == {"all": 0.25, "a": 0.5, "b": 0.0}


def test_shares_have_wilsons_interval_and_a_cost_that_of_paired_verdicts():
    # Wilson of 4 of 4: 4 / (4 + 1.96²); of 3 of 4: (0.75 + u/2 ± √(u 3/16 + u²/4)) / (1 + u), u = 1.96² / 4.
    for right, low, high in ((1.0, 0.5101, 1.0), (0.0, 0.0, 0.4899)):
        found = results.tidy("paper", 0, frame(correct=[right] * 4), results.METRICS)[0]
        assert (found["value"], found["n"]) == (right, 4)
        assert (found["low"], found["high"]) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    found = results.tidy("paper", 0, frame(correct=[1.0, 0.0, 1.0, 1.0]), results.METRICS)[0]
    assert (found["low"], found["high"]) == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))
    hidden = frame(correct=[1.0, 0.0, 1.0, 1.0], changed=[1.0, 0.0, 0.0, 1.0]).assign(cost=[1.0, 0.0, 0.0, 0.0])
    rows = results.tidy("paper", 0, hidden, results.HIDDEN_METRICS, "_mask")
    cost = next(row for row in rows if (row["metric"], row["task"]) == ("cost_mask", "all"))
    # Bonett and Price: (1 + 1) / 6 − (0 + 1) / 6 ± 1.96 √((1/3 + 1/6 − 1/36) / 6).
    assert (cost["value"], cost["n"]) == (0.25, 4)
    assert (cost["low"], cost["high"]) == (pytest.approx(-0.3832, abs=1e-4), pytest.approx(0.7165, abs=1e-4))


def test_a_sample_without_a_reference_is_no_verdict_and_a_failed_one_is_wrong():
    samples = pd.DataFrame({"sample_id": [*"abc"], "status": ["ok", "ok", "failed"], "correct": [True, None, None]})
    verdicts = results.by_id(SimpleNamespace(samples=samples))["correct"]
    assert verdicts["a"] == 1
    assert np.isnan(verdicts["b"])
    assert verdicts["c"] == 0


def test_four_samples_have_a_mean_without_ends():
    rows = results.tidy("paper", 0, frame(kl=[1.0, 2.0, 3.0, 4.0]), results.METRICS)
    assert all(np.isnan([row["low"], row["high"]]).all() for row in rows if row["metric"] == "kl")


def test_a_csv_keeps_the_digits_that_a_table_rounds(tmp_path):
    results.write(tmp_path / "a.csv", pd.DataFrame({"value": [77 / 160, 1 / 3]}))
    assert pd.read_csv(tmp_path / "a.csv")["value"].tolist() == pytest.approx([77 / 160, 1 / 3], abs=1e-10)


def test_runs_of_a_matrix():
    assert parse_runs(["paper", "k6*1"], [4, 7]) == (("paper", 4), ("paper", 7), ("k6", 4))
    for wrong in (["papr"], ["paper*3"], ["paper*x"], ["paper*0"], ["paper", "paper*1"]):
        with pytest.raises(UsageError):
            parse_runs(wrong, [4, 7])
