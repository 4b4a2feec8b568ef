import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from benchmarks.comparison import paired, paired_comparison, per_cluster_all
from benchmarks.power import detectable
from perception_gap.stats.permutation import holm
from perception_gap.stats.proportions import paired_ci, proportion_ci

# Sums of at most a few thousand float64 numbers.
EXACT = 1e-12
properties = settings(max_examples=60, deadline=None)
verdict_pairs = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=10)


def bounds(estimate):
    return [estimate.low, estimate.high]


def clustered(n_clusters, size, rng, together=0.8):
    """Verdicts of two equally good models, whose rows of a cluster mostly repeat the cluster's first."""
    first, second = rng.random((2, n_clusters, size)) < 0.6
    same = rng.random((n_clusters, 1)) < together
    first, second = (np.where(same, verdicts[:, :1], verdicts).ravel() for verdicts in (first, second))
    return first, second, np.arange(n_clusters).repeat(size)


# --- pairs of questions


def test_a_pair_is_right_if_all_its_questions_are():
    scored = per_cluster_all([1, 1, 0, 1, 0, 0], ["b", "a", "b", "a", "c", "c"], size=2)
    assert scored.to_dict() == {"b": 0.0, "a": 1.0, "c": 0.0}
    assert list(scored.index) == ["b", "a", "c"]


def test_incomplete_pairs_are_undefined_whatever_the_rest_says():
    scored = per_cluster_all([1, None, 0, math.nan, 0, 1], ["a", "a", "b", "b", "c", "d"], size=2)
    assert scored.isna().all()
    scored = per_cluster_all([1, 0, 1, None], ["a", "b", None, None])
    np.testing.assert_array_equal(scored, [1, 0, 1, math.nan])
    assert per_cluster_all([], [], size=2).empty


def test_repeated_answers_of_a_pair_are_refused():
    with pytest.raises(ValueError, match=r"cluster 'b' has 3 rows: expected 2; drop repeated answers first"):
        per_cluster_all([1, 1, 1, 1, 1], ["a", "a", "b", "b", "b"], size=2)
    with pytest.raises(ValueError, match="expected one label per verdict"):
        per_cluster_all([1, 1], ["a"])


@properties
@given(verdict_pairs)
def test_pair_scores_equal_a_loop_and_ignore_the_order(rows):
    verdicts, _, clusters = (list(column) for column in zip(*rows, strict=True))
    naive = {c: float(all(v for v, own in zip(verdicts, clusters, strict=True) if own == c)) for c in clusters}
    assert per_cluster_all(verdicts, clusters).to_dict() == naive
    assert per_cluster_all(verdicts[::-1], clusters[::-1]).to_dict() == naive


# --- two models


def test_two_models_by_hand():
    # 3 both, 1 only first, 5 only second, 1 neither: 2 P(Bin(6, ½) <= 1) = 2 · 7/64.
    found = paired([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1, 1, 1, 0])
    assert (found.both_right, found.only_first, found.only_second, found.both_wrong) == (3, 1, 5, 1)
    assert (found.n, found.n_undefined, found.n_clusters, found.discordance) == (10, 0, 10, 0.6)
    assert found.difference.mean == pytest.approx(0.4, abs=EXACT)
    assert found.p_value == pytest.approx(14 / 64, abs=EXACT)
    assert math.isnan(found.p_clustered)
    assert found.p == found.p_value


def test_signs_of_clusters_by_hand():
    # Cluster sums 2, 2, 1: totals 5, 3, 1, −1 and their negatives; only 5 and −5 are as far as 5.
    found = paired([0, 0, 0, 0, 0], [1] * 5, [*"aabbc"])
    assert found.p_clustered == pytest.approx(2 / 8, abs=EXACT)
    assert found.p == found.p_clustered
    assert found.p_value == pytest.approx(2 / 32, abs=EXACT)


@properties
@given(verdict_pairs)
def test_p_values_equal_scipys_and_all_signs_counted(rows):
    first, second, clusters = (np.array(column) for column in zip(*rows, strict=True))
    found = paired(first, second, clusters)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p_value == pytest.approx(expected, abs=EXACT)
    sums = [(second[clusters == c].astype(int) - first[clusters == c]).sum() for c in set(clusters.tolist())]
    totals = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=len(sums))]
    if len(sums) < len(rows):
        assert found.p_clustered == pytest.approx(np.mean(np.array(totals) >= abs(sum(sums))), abs=EXACT)
    assert (found.both_right, found.both_wrong) == ((first & second).sum(), (~first & ~second).sum())


def test_clusters_of_one_discordant_row_each_give_mcnemars_p():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 400)) < [[0.5], [0.58]]
    padded = [np.column_stack([side, np.ones(400)]).ravel() for side in (first, second)]
    found = paired(*padded, np.arange(800) // 2)
    assert found.p_clustered == pytest.approx(paired(first, second).p_value, rel=1e-9)  # products of 200 factors


def test_the_difference_has_the_interval_of_paired_verdicts_everywhere():
    first, second, clusters = clustered(40, 3, np.random.default_rng(1))
    found = paired(first, second, clusters)
    assert found.difference == paired_ci(second.astype(float) - first, clusters)
    assert found.difference.p == found.p
    # Pairing helps: with answers in common the interval is shorter than of two independent samples.
    better = np.where(np.arange(120) % 10 == 0, True, first)
    shorter = paired(first, better).difference
    alone = [proportion_ci(verdicts) for verdicts in (first, better)]
    assert shorter.high - shorter.low < 0.5 * sum(estimate.high - estimate.low for estimate in alone)


def test_bonetts_and_prices_interval_by_hand():
    # 3 both, 1 only first, 5 only second, 1 neither: (6 − 2) / 12 ± 1.96 √((8/12 − (4/12)²) / 12).
    found = paired([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1, 1, 1, 0]).difference
    half = 1.959964 * math.sqrt((8 / 12 - 1 / 9) / 12)
    np.testing.assert_allclose(bounds(found), [1 / 3 - half, 1 / 3 + half], atol=1e-6)  # six digits typed


def test_swapping_the_models_negates_the_difference_and_keeps_p():
    first, second, clusters = clustered(50, 3, np.random.default_rng(2))
    one, other = paired(first, second, clusters), paired(second, first, clusters)
    assert (one.only_first, one.only_second) == (other.only_second, other.only_first)
    assert (one.p_value, one.p_clustered) == (other.p_value, other.p_clustered)
    negated = [-other.difference.mean, -other.difference.high, -other.difference.low]
    np.testing.assert_allclose([one.difference.mean, *bounds(one.difference)], negated, atol=EXACT)


def test_the_order_of_samples_does_not_matter():
    first, second, clusters = clustered(50, 3, np.random.default_rng(3))
    order = np.random.default_rng(4).permutation(150)
    one, other = paired(first, second, clusters), paired(first[order], second[order], clusters[order])
    assert (one.p_value, one.p_clustered) == (other.p_value, pytest.approx(other.p_clustered, abs=EXACT))
    assert one.difference.mean == pytest.approx(other.difference.mean, abs=EXACT)
    np.testing.assert_allclose(bounds(one.difference), bounds(other.difference), atol=EXACT)


def test_models_that_never_differ_are_not_equal_for_certain():
    # One discordant pair of each kind is added: (k ± 1.96 √((2/32) / 32)) of 30 alike, 30/32 of 30 that all differ.
    alike, apart = paired([1] * 30, [1] * 30), paired([0] * 30, [1] * 30)
    half = 1.959964 * math.sqrt((2 / 32) / 32)
    np.testing.assert_allclose([alike.difference.mean, *bounds(alike.difference)], [0, -half, half], atol=1e-6)
    assert alike.p_value == 1.0
    assert (apart.difference.mean, apart.difference.high) == (1, 1)
    assert 0.8 < apart.difference.low < 30 / 32
    assert paired([1] * 30, [0] * 30).difference.high == pytest.approx(-apart.difference.low, abs=EXACT)
    # Thirty rows of five images are five trials.
    few = paired([1] * 30, [1] * 30, np.arange(30) // 6).difference
    assert few.high == pytest.approx(paired([1] * 5, [1] * 5).difference.high, abs=EXACT)


@pytest.mark.filterwarnings("error")
def test_samples_without_both_verdicts_are_left_out_and_counted():
    found = paired([1, None, 0, 1], [1, 1, math.nan, 0])
    assert (found.n, found.n_undefined, found.only_first) == (2, 2, 1)
    nothing = paired([], [])
    assert np.isnan([nothing.difference.mean, nothing.p_value, nothing.p_clustered, nothing.p]).all()
    assert math.isnan(nothing.discordance)
    with pytest.raises(ValueError, match="expected one row per sample in each"):
        paired([1, 0], [1])


def test_clustered_p_values_keep_their_level_where_mcnemar_does_not():
    rng, plain, whole, covered = np.random.default_rng(7), [], [], []
    for _ in range(400):
        found = paired(*clustered(40, 4, rng))
        plain.append(found.p_value <= 0.05)
        whole.append(found.p_clustered <= 0.05)
        covered.append(found.difference.low <= 0 <= found.difference.high)
    # 400 trials at 0.05 spread by 0.011.
    assert np.mean(whole) <= 0.08
    assert np.mean(whole) >= 0.015
    assert np.mean(plain) > 0.12
    assert 0.905 <= np.mean(covered) <= 0.975


# --- tables


def tidy(rng, n=40):
    rows = [
        (model, task, f"{task}{i}", f"image {i // 2}" if task != "single" else None, rng.random() < right)
        for model, right in (("base", 0.5), ("tuned", 0.7), ("other", 0.1))
        for task in ("single", "views", "pairs")
        for i in range(n)
    ]
    return pd.DataFrame(rows, columns=["model", "task", "sample_id", "cluster", "correct"])


def column(frame, model, task=None):
    chosen = frame[(frame["model"] == model) & ((frame["task"] == task) | (task is None))]
    return chosen["correct"].to_numpy()


def test_a_table_has_a_row_a_task_and_all():
    frame = tidy(np.random.default_rng(0))
    table = paired_comparison(frame, "base", "tuned").set_index("task")
    assert list(table.index) == ["pairs", "single", "views", "all"]
    assert table["n"].tolist() == [40, 40, 40, 120]
    # Image 0 of one task is not image 0 of the other, and a sample without a cluster stands alone.
    assert table["n_clusters"].tolist() == [20, 40, 20, 80]
    for task in ("pairs", "single", "views"):
        first, second = column(frame, "base", task), column(frame, "tuned", task)
        expected = paired(first, second, np.arange(40) // 2 if task != "single" else None)
        row = table.loc[task]
        assert row["accuracy_first"] == pytest.approx(first.mean(), abs=EXACT)
        assert row["difference"] == pytest.approx(second.mean() - first.mean(), abs=EXACT)
        assert (row["p_mcnemar"], row["p"]) == (expected.p_value, expected.p)
        assert row["detectable"] == detectable(40, expected.discordance)
    np.testing.assert_allclose(table["p_holm"], [*holm(table["p"].iloc[:3]), math.nan], atol=EXACT)
    everything = column(frame, "tuned").mean() - column(frame, "base").mean()
    assert table.loc["all", "difference"] == pytest.approx(everything, abs=EXACT)
    assert np.isnan(table.loc["single", "p_clustered"])
    assert table.loc["single", "accuracy_first_low"] == proportion_ci(column(frame, "base", "single")).low
    for side, model in (("first", "base"), ("second", "tuned")):
        expected = bounds(proportion_ci(column(frame, model, "pairs"), np.arange(40) // 2))
        seen = table.loc["pairs", [f"accuracy_{side}_low", f"accuracy_{side}_high"]].to_numpy(float)
        np.testing.assert_allclose(seen, expected, atol=EXACT)


def test_the_order_of_rows_changes_nothing_and_swapped_models_mirror():
    frame = tidy(np.random.default_rng(1))
    table = paired_comparison(frame, "base", "tuned")
    pd.testing.assert_frame_equal(
        paired_comparison(frame.sample(frac=1, random_state=0), "base", "tuned"), table, rtol=EXACT
    )
    swapped = paired_comparison(frame, "tuned", "base")
    np.testing.assert_allclose(swapped["difference_low"], -table["difference_high"], atol=EXACT)
    np.testing.assert_array_equal(swapped[["p", "p_holm"]], table[["p", "p_holm"]])


def test_only_common_samples_are_compared_and_the_others_counted():
    frame = tidy(np.random.default_rng(2))
    missing = frame.drop(frame[(frame["model"] == "base") & frame["sample_id"].isin(["single0", "single1"])].index)
    missing = missing.drop(missing[(missing["model"] == "tuned") & (missing["sample_id"] == "single5")].index)
    missing["correct"] = missing["correct"].astype("boolean")
    missing.loc[missing["sample_id"] == "single7", "correct"] = pd.NA
    row = paired_comparison(missing, "base", "tuned").set_index("task").loc["single"]
    counts = ["n", "n_undefined", "n_first_only", "n_second_only"]
    assert row[counts].tolist() == [36, 1, 1, 2]
    kept = frame[~frame["sample_id"].isin(["single0", "single1", "single5", "single7"])]
    assert row["difference"] == paired_comparison(kept, "base", "tuned").set_index("task").loc["single", "difference"]


@pytest.mark.filterwarnings("error")
def test_a_task_without_common_samples_stays_undefined_and_is_no_test():
    frame = tidy(np.random.default_rng(3))
    alone = frame[(frame["task"] == "pairs") | ((frame["task"] == "single") & (frame["model"] != "base"))]
    table = paired_comparison(alone, "base", "tuned").set_index("task")
    row = table.loc["single"]
    assert (row["n"], row["n_second_only"]) == (0, 40)
    assert row[["accuracy_first", "difference", "difference_low", "p", "p_holm", "detectable"]].isna().all()
    assert table.loc["pairs", "p_holm"] == table.loc["pairs", "p"]


def test_tables_that_cannot_be_compared_are_refused():
    frame = tidy(np.random.default_rng(4))
    with pytest.raises(ValueError, match=r"columns \['cluster'\] are missing"):
        paired_comparison(frame.drop(columns="cluster"), "base", "tuned")
    with pytest.raises(ValueError, match=r"models 'base' and 'tund': expected two of \['base', 'other', 'tuned'\]"):
        paired_comparison(frame, "base", "tund")
    with pytest.raises(ValueError, match=r"model 'base' has \['single', 'single0'\] twice"):
        paired_comparison(pd.concat([frame, frame.iloc[:1]]), "base", "tuned")
    with pytest.raises(ValueError, match="a task or sample_id is missing"):
        paired_comparison(frame.assign(task=frame["task"].where(frame.index != 3)), "base", "tuned")
    moved = frame.assign(cluster=frame["cluster"].where(frame.index != 80, "elsewhere"))
    with pytest.raises(ValueError, match=r"\['pairs', 'pairs0'\] has clusters 'elsewhere' and 'image 0'"):
        paired_comparison(moved, "base", "tuned")
