import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perception_gap.proportions import proportion_ci
from perception_gap.statistics import (
    Estimate,
    accuracy_by_threshold,
    auroc,
    auroc_ci,
    difference_ci,
    mean_ci,
)

# Sums of a few hundred float64 numbers.
EXACT = 1e-12
# No time limits: the machine may be busy.
properties = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def clustered(n_clusters: int, per_cluster: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of mean 0 that share most of their spread within a cluster."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n_clusters).repeat(per_cluster)
    return shared + 0.3 * rng.normal(size=len(shared)), np.arange(n_clusters).repeat(per_cluster)


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def naive_auroc(values, labels, strata=None):
    strata = [0] * len(values) if strata is None else strata
    favourable = pairs = 0
    for i in range(len(values)):
        for j in range(len(values)):
            if labels[i] and not labels[j] and strata[i] == strata[j]:
                pairs += 1
                favourable += (values[i] > values[j]) + (values[i] == values[j]) / 2
    return favourable / pairs


# --- estimates


def test_an_estimate_as_a_dict_has_null_for_what_is_undefined():
    assert Estimate(0.5, 0.25, 0.75, 4).as_dict() == {"mean": 0.5, "ci": [0.25, 0.75], "n": 4}
    assert Estimate(0.5, math.nan, math.nan, 1).as_dict() == {"mean": 0.5, "ci": None, "n": 1}
    assert Estimate(math.nan, math.nan, math.nan, 0).as_dict() == {"mean": None, "ci": None, "n": 0}


# --- mean


def test_the_mean_leaves_out_undefined_values_and_does_not_count_them():
    estimate = mean_ci([1, math.nan, 3, None])
    assert (estimate.mean, estimate.n) == (2.0, 2)
    # Two values: every resample has mean 1, 2 or 3.
    assert (estimate.low, estimate.high) == (1.0, 3.0)


@pytest.mark.filterwarnings("error")
def test_the_mean_of_nothing_is_undefined_and_of_one_cluster_has_no_interval():
    for values in ([], [math.nan, math.nan]):
        estimate = mean_ci(values)
        assert math.isnan(estimate.mean)
        assert math.isnan(estimate.low)
        assert estimate.n == 0
    estimate = mean_ci([1, 2, 3], clusters=["a", "a", "a"])
    assert estimate.mean == 2.0
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_the_interval_agrees_with_scipy_on_unclustered_values():
    values = np.random.default_rng(0).exponential(size=80)
    ours = mean_ci(values, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # A 2.5 % quantile of 20,000 draws varies by about 0.02 standard errors; both sides do.
    tolerance = 0.1 * values.std() / math.sqrt(80)
    assert ours.low == pytest.approx(theirs.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.high, abs=tolerance)


def test_the_interval_agrees_with_a_naive_loop_over_resampled_clusters():
    values, clusters = clustered(12, 5, seed=0)
    keep = np.random.default_rng(3).random(60) < 0.7
    values, clusters = values[keep], clusters[keep]
    rng, means = np.random.default_rng(9), []
    for _ in range(4000):
        means.append(np.concatenate([values[clusters == c] for c in rng.integers(12, size=12)]).mean())
    estimate = mean_ci(values, clusters, resamples=4000)
    # Quantiles of 4,000 draws: about 0.04 standard errors each.
    np.testing.assert_allclose(
        [estimate.low, estimate.high], np.quantile(means, [0.025, 0.975]), atol=0.2 * np.std(means)
    )


def test_the_clustered_interval_covers_the_truth_and_the_naive_one_does_not():
    covered, naive = [], []
    for seed in range(200):
        values, clusters = clustered(40, 6, seed)
        with_clusters, without = mean_ci(values, clusters, resamples=400), mean_ci(values, resamples=400)
        covered.append(with_clusters.low <= 0 <= with_clusters.high)
        naive.append(without.low <= 0 <= without.high)
        assert width(without) < width(with_clusters)
    # 200 trials at 0.95 spread by 0.015; percentile intervals of 40 clusters cover slightly less than they say.
    assert 0.88 <= np.mean(covered) <= 0.99
    assert np.mean(naive) < 0.7


def test_seeds_reproduce_and_differ():
    values, clusters = clustered(20, 3, seed=0)
    assert mean_ci(values, clusters, seed=4) == mean_ci(values, clusters, seed=4)
    assert mean_ci(values, clusters, seed=4).low != mean_ci(values, clusters, seed=5).low


def test_the_level_decides_the_width_and_scale_carries_over():
    values, clusters = clustered(30, 3, seed=0)
    estimate = mean_ci(values, clusters)
    assert width(mean_ci(values, clusters, level=0.5)) < width(estimate)
    scaled = mean_ci(values * 10, [f"image {c}" for c in clusters])
    np.testing.assert_allclose([scaled.mean, scaled.low, scaled.high],
                               np.multiply(10, [estimate.mean, estimate.low, estimate.high]), atol=1e-10)  # fmt: skip


def test_a_row_without_a_cluster_is_one_of_its_own():
    values = np.arange(8.0)
    assert mean_ci(values, [None] * 8) == mean_ci(values)
    assert mean_ci(values, [math.nan] * 8) == mean_ci(values)


def test_many_clusters_are_drawn_in_blocks_of_bounded_size():
    from perception_gap import statistics

    blocks = list(statistics._draws(20_000, 250, seed=0, width=0))
    assert max(block.nbytes for block in blocks) <= 20e6
    assert sum(len(block) for block in blocks) == 250
    # Each resample draws as many clusters as there are.
    assert all((block.sum(axis=1) == 20_000).all() for block in blocks)
    # Multinomial counts are nearly Poisson: mean 1, variance 1 − 1/n; 5e6 counts fix it to 0.001.
    assert np.concatenate(blocks).var() == pytest.approx(1, abs=0.01)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"columns of shapes \[\(3,\), \(2,\)\]: expected one value per row"):
        mean_ci([1, 2, 3], clusters=[1, 2])
    with pytest.raises(ValueError, match="expected one value per row"):
        auroc([1, 2, 3], [True, False])


# --- difference


def test_the_difference_of_means_by_hand():
    estimate = difference_ci([5, 7, 1, 3], [True, True, False, False])
    assert estimate.mean == pytest.approx(4, abs=EXACT)
    assert estimate.n == 4
    assert estimate.low <= 4 <= estimate.high


def test_the_difference_within_strata_is_not_fooled_by_the_mix():
    # Within both tasks the label adds 1; task b lies 10 higher and holds most of the true labels.
    values = [1, 0, 0, 0, 11, 11, 11, 10]
    labels = [True, False, False, False, True, True, True, False]
    strata = list("aaaabbbb")
    assert difference_ci(values, labels, strata=strata).mean == pytest.approx(1, abs=EXACT)
    assert difference_ci(values, labels).mean == pytest.approx(34 / 4 - 10 / 4, abs=EXACT)


def test_strata_are_weighted_as_in_a_least_squares_fit_with_their_intercepts():
    rng = np.random.default_rng(0)
    strata, labels = rng.integers(3, size=90), rng.random(90) < 0.4
    values = rng.normal(size=90) + strata * labels + 5 * strata
    design = np.column_stack([labels, *(strata == s for s in range(3))]).astype(float)
    slope = np.linalg.lstsq(design, values, rcond=None)[0][0]
    estimate = difference_ci(values, labels, strata=strata, resamples=50)
    assert estimate.mean == pytest.approx(slope, abs=1e-10)
    by_hand = [(values[(strata == s) & labels].mean() - values[(strata == s) & ~labels].mean()) for s in range(3)]
    sizes = [((strata == s) & labels).sum() * ((strata == s) & ~labels).sum() / (strata == s).sum() for s in range(3)]
    assert estimate.mean == pytest.approx(np.average(by_hand, weights=sizes), abs=1e-10)


def test_the_difference_ignores_a_shift_of_a_stratum_and_the_order_of_rows():
    rng = np.random.default_rng(1)
    values, labels, strata = rng.normal(size=40), rng.random(40) < 0.5, np.arange(40) % 4
    expected, order = difference_ci(values, labels, strata=strata, resamples=10).mean, rng.permutation(40)
    shifted = difference_ci(values + 100 * strata, labels, strata=strata, resamples=10).mean
    shuffled = difference_ci(values[order], labels[order], strata=strata[order], resamples=10).mean
    # Shifts of up to 300 cost three digits.
    assert shifted == pytest.approx(expected, abs=1e-9)
    assert shuffled == pytest.approx(expected, abs=EXACT)


def test_the_interval_of_the_difference_agrees_with_scipy_and_with_clusters_widens():
    rng = np.random.default_rng(2)
    labels = np.arange(200) % 2 == 0
    values = rng.normal(size=200) + labels
    ours = difference_ci(values, labels, resamples=10_000)
    theirs = scipy.stats.bootstrap(
        (values[labels], values[~labels]),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    # SciPy keeps the two sizes fixed, we draw them: a second-order difference at 100 rows each.
    error = math.sqrt(2 / 100)
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=0.15 * error)
    values, clusters = clustered(30, 6, seed=0)
    labels = clusters % 2 == 0
    assert width(difference_ci(values, labels, clusters)) > 1.5 * width(difference_ci(values, labels))


@pytest.mark.filterwarnings("error")
def test_the_difference_is_undefined_where_no_stratum_has_both_labels():
    for arguments in (([], []), ([1, 2], [True, True]), ([1, 2], [True, False], None, ["a", "b"])):
        estimate = difference_ci(*arguments)
        assert math.isnan(estimate.mean)
        assert math.isnan(estimate.low)
        assert estimate.n == 0


def test_the_difference_counts_only_rows_that_can_be_compared():
    estimate = difference_ci([1, 2, 9, math.nan], [True, False, True, False], strata=["a", "a", "b", "b"])
    assert estimate.mean == -1.0
    assert estimate.n == 2


def test_labels_other_than_booleans_are_refused_and_missing_ones_dropped():
    with pytest.raises(ValueError, match=r"labels \[0.0, 2.0\]: expected booleans"):
        difference_ci([1, 2], [0, 2])
    assert auroc([1, 2, 3], [False, True, None]) == 1.0


# --- AUROC


def test_auroc_by_hand_counts_ties_half():
    # True 3, 1; false 2, 1: pairs 3>2, 3>1, 1<2, 1=1.
    assert auroc([3, 1, 2, 1], [True, True, False, False]) == pytest.approx(2.5 / 4, abs=EXACT)
    assert auroc([1, 2, 3, 4], [False, False, True, True]) == 1.0
    assert auroc([5, 5, 5], [True, False, True]) == 0.5


scored = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 2)), min_size=2, max_size=40)


@properties
@given(scored)
def test_auroc_equals_the_naive_pairs_within_strata_and_scipy_without(rows):
    values, labels, strata = (list(column) for column in zip(*rows, strict=True))
    if any(len({lab for lab, s in zip(labels, strata, strict=True) if s == k}) == 2 for k in range(3)):
        assert auroc(values, labels, strata) == pytest.approx(naive_auroc(values, labels, strata), abs=EXACT)
    else:
        assert math.isnan(auroc(values, labels, strata))
    if len(set(labels)) == 2:
        positive, negative = (np.array(values)[np.array(labels) == lab] for lab in (True, False))
        u = scipy.stats.mannwhitneyu(positive, negative, method="asymptotic").statistic
        assert auroc(values, labels) == pytest.approx(u / len(positive) / len(negative), abs=EXACT)
        assert auroc(values, [not lab for lab in labels]) == pytest.approx(1 - auroc(values, labels), abs=EXACT)
        assert auroc(np.exp(values), labels) == pytest.approx(auroc(values, labels), abs=EXACT)


def test_the_interval_of_auroc_agrees_with_a_naive_loop_over_resampled_clusters():
    rng = np.random.default_rng(0)
    clusters, strata = np.arange(60) // 3, np.arange(60) // 3 % 2
    labels = rng.random(60) < 0.5
    values = np.round(rng.normal(size=60) + labels, 1)
    drawn, draw = [], np.random.default_rng(5)
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(clusters == c) for c in draw.integers(20, size=20)])
        drawn.append(auroc(values[rows], labels[rows], strata[rows]))
    estimate = auroc_ci(values, labels, clusters, strata)
    assert estimate.mean == auroc(values, labels, strata)
    assert estimate.n == 60
    # Quantiles of 300 draws vary by about 0.15 standard errors.
    np.testing.assert_allclose(
        [estimate.low, estimate.high], np.quantile(drawn, [0.025, 0.975]), atol=0.5 * np.std(drawn)
    )


def test_the_interval_of_auroc_tells_separable_labels_from_noise():
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 2 == 0
    noise = auroc_ci(rng.random(300), labels)
    assert noise.low < 0.5 < noise.high
    perfect = auroc_ci(labels.astype(float), labels)
    assert (perfect.mean, perfect.low, perfect.high) == (1.0, 1.0, 1.0)


@pytest.mark.filterwarnings("error")
def test_auroc_is_undefined_with_one_class():
    for arguments in (([], []), ([1, 2, 3], [True, True, True]), ([1, math.nan], [True, False])):
        assert math.isnan(auroc(*arguments))
        estimate = auroc_ci(*arguments)
        assert math.isnan(estimate.mean)
        assert math.isnan(estimate.low)
        assert estimate.n == 0


# --- accuracy above a threshold


def test_accuracy_above_each_threshold_by_hand():
    table = accuracy_by_threshold([0.1, 0.2, 0.3, 0.4], [False, True, False, True], thresholds=[0, 0.2, 0.35, 0.9])
    assert table.columns.tolist() == ["threshold", "accuracy", "low", "high", "n"]
    assert table.n.tolist() == [4, 3, 1, 0]
    np.testing.assert_allclose(table.accuracy, [0.5, 2 / 3, 1, math.nan], atol=EXACT)
    # One right sample has Wilson's interval, [1 / (1 + 1.96²), 1]; none has no accuracy either.
    assert table.low.isna().tolist() == [False, False, False, True]
    assert (table.low[2], table.high[2]) == (pytest.approx(0.2065, abs=1e-4), 1)


@pytest.mark.parametrize("right", [True, False])
def test_accuracy_of_all_or_none_above_a_threshold_is_no_certainty(right):
    focus = np.linspace(0.1, 0.9, 12)
    clusters = np.arange(12) // 3
    correct = np.where(focus > 0.5, right, np.arange(12) % 2 == 0)
    table = accuracy_by_threshold(focus, correct, thresholds=[0, 0.6], clusters=clusters)
    above = focus >= 0.6
    alone = proportion_ci(correct[above], clusters[above])
    assert (table.accuracy[1], table.low[1], table.high[1]) == (float(right), alone.low, alone.high)
    assert alone.high - alone.low > 0.5  # two clusters, not five rows
    assert table.low[0] < table.accuracy[0] < table.high[0]


def test_accuracy_above_a_threshold_agrees_with_the_naive_subset_and_its_interval():
    rng = np.random.default_rng(0)
    focus, clusters = rng.random(400), np.arange(400) // 4
    correct = rng.random(400) < 0.3 + 0.5 * focus
    table = accuracy_by_threshold(focus, correct, thresholds=[0.0, 0.3, 0.7], clusters=clusters)
    for row in table.itertuples():
        above = focus >= row.threshold
        alone = mean_ci(correct[above], clusters[above])
        assert row.n == alone.n
        assert row.accuracy == pytest.approx(alone.mean, abs=EXACT)
        # Quantiles of 2,000 draws vary by about 0.06 standard errors, twice.
        np.testing.assert_allclose([row.low, row.high], [alone.low, alone.high], atol=0.1 * width(alone))
    assert table.accuracy.is_monotonic_increasing


def test_default_thresholds_start_at_0_rise_and_keep_samples_above():
    focus = np.random.default_rng(0).random(100) ** 3
    table = accuracy_by_threshold(focus, focus > 0.2, resamples=50)
    assert table.threshold[0] == 0
    assert table.n[0] == 100
    assert table.threshold.is_monotonic_increasing
    assert table.threshold.is_unique
    assert (table.n >= 5).all()
    assert len(table) == 20


@pytest.mark.filterwarnings("error")
def test_undefined_focus_is_left_out_and_no_data_gives_an_empty_row():
    table = accuracy_by_threshold([0.5, math.nan, 0.5], [True, True, False], thresholds=[0])
    assert table.n.tolist() == [2]
    empty = accuracy_by_threshold([], [])
    assert empty.n.tolist() == [0]
    assert empty[["accuracy", "low", "high"]].isna().all(axis=None)


def test_accuracy_by_threshold_ignores_the_order_of_samples():
    rng = np.random.default_rng(3)
    focus, correct, order = rng.random(50), rng.random(50) < 0.5, rng.permutation(50)
    columns = ["threshold", "accuracy", "n"]
    pd.testing.assert_frame_equal(
        accuracy_by_threshold(focus[order], correct[order])[columns], accuracy_by_threshold(focus, correct)[columns]
    )
