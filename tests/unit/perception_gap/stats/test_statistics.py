import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perception_gap.stats.estimates import Estimate
from perception_gap.stats.proportions import paired_ci, proportion_ci
from perception_gap.stats.statistics import (
    accuracy_by_threshold,
    auroc,
    auroc_ci,
    difference_ci,
    mean_ci,
    spread_ci,
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
    tested = Estimate(0.5, math.nan, math.nan, 4, p=0.25, reason="too few")
    assert tested.as_dict() == {"mean": 0.5, "ci": None, "n": 4, "p": 0.25, "reason": "too few"}


# --- mean


def test_the_mean_leaves_out_undefined_values_and_does_not_count_them():
    estimate = mean_ci([1, math.nan, 3, None])
    assert (estimate.mean, estimate.n) == (2.0, 2)


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


def test_the_interval_of_symmetric_values_is_students():
    values = np.array([-3.0, -2, -1, 0, 1, 2, 3]) + 5
    ours = mean_ci(values)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=EXACT)


def test_the_interval_reaches_further_to_the_long_side_as_halls():
    values = np.array([0.1, 0.2, 0.2, 0.3, 0.5, 0.9, 4.0])
    n, mean, sd = 7, values.mean(), values.std(ddof=1)
    skewness = n / ((n - 1) * (n - 2)) * (((values - mean) / sd) ** 3).sum() * (1 + 3 / n) / math.sqrt(n)
    t = scipy.stats.t.ppf(0.975, n - 1)

    def hall(standard):
        return 3 / skewness * (np.cbrt(1 + skewness * (standard - skewness / 6)) - 1)

    # His cubic, at the ends that it gives, is Student's quantile again.
    for standard in (t, -t):
        w = hall(standard)
        assert w + skewness * w**2 / 3 + skewness**2 * w**3 / 27 + skewness / 6 == pytest.approx(standard, abs=1e-9)
    error, ours = sd / math.sqrt(n), mean_ci(values)
    assert ours.high == pytest.approx(mean - error * hall(-t), abs=EXACT)
    assert ours.low == pytest.approx(mean - error * t, abs=EXACT)
    assert ours.high - mean > 1.5 * (mean - ours.low)


def test_the_interval_of_a_lognormal_mean_covers_where_students_does_not():
    rng, truth, n = np.random.default_rng(0), math.exp(0.5), 20
    samples = np.exp(rng.normal(size=(500, n)))
    ours = [mean_ci(values) for values in samples]
    half = scipy.stats.t.ppf(0.975, n - 1) * samples.std(axis=1, ddof=1) / math.sqrt(n)
    # 500 trials at 0.95 spread by 0.01.
    assert np.mean([e.low <= truth <= e.high for e in ours]) >= 0.92
    assert np.mean(np.abs(samples.mean(axis=1) - truth) <= half) < 0.9


def test_clusters_of_any_size_agree_with_a_naive_linearisation():
    values, clusters = clustered(12, 5, seed=0)
    keep = np.random.default_rng(3).random(60) < 0.7
    values, clusters = values[keep], clusters[keep]
    mean, labels = values.mean(), np.unique(clusters)
    sums = np.array([(values[clusters == c] - mean).sum() for c in labels]) / len(values)
    k = len(labels)
    error = math.sqrt(k / (k - 1) * (sums**2).sum())
    ours = mean_ci(values, clusters)
    t = scipy.stats.t.ppf(0.975, k - 1)
    assert ours.mean - ours.low >= t * error - EXACT
    assert ours.high - ours.mean >= t * error - EXACT
    # One of the two ends is Student's: the skewness stretches the other alone.
    assert min(ours.mean - ours.low, ours.high - ours.mean) == pytest.approx(t * error, abs=EXACT)


def test_the_clustered_interval_covers_the_truth_and_the_naive_one_does_not():
    covered, naive = [], []
    for seed in range(200):
        values, clusters = clustered(40, 6, seed)
        with_clusters, without = mean_ci(values, clusters), mean_ci(values)
        covered.append(with_clusters.low <= 0 <= with_clusters.high)
        naive.append(without.low <= 0 <= without.high)
        assert width(without) < width(with_clusters)
    # 200 trials at 0.95 spread by 0.015.
    assert 0.9 <= np.mean(covered) <= 0.99
    assert np.mean(naive) < 0.7


def test_without_enough_clusters_or_spread_there_is_no_interval_but_a_reason():
    few = mean_ci([1.0, 2, 3, 4])
    assert math.isnan(few.low)
    assert few.reason == "fewer than 5 independent samples"
    alike = mean_ci([0.25] * 30)
    assert math.isnan(alike.high)
    assert alike.reason == "all values are alike"


def test_zeros_and_ones_are_a_proportion():
    values, clusters = [1.0] * 9 + [0.0], np.arange(10)
    assert mean_ci(values, clusters) == proportion_ci(values, clusters)
    everywhere = mean_ci([1.0] * 10)
    assert 0.5 < everywhere.low < everywhere.high == 1


def test_no_end_goes_beyond_the_range_of_the_values():
    values = [0.0, 0.0, 0.01, 0.02, 0.0, 0.9]
    free = mean_ci(values)
    assert free.low < 0
    bound = mean_ci(values, within=(0.0, 0.5))
    assert (bound.low, bound.high) == (0.0, 0.5)


# --- paired differences


def test_a_paired_difference_is_tested_by_flipped_signs():
    differences = np.random.default_rng(0).normal(size=11) + 0.6
    ours = mean_ci(differences, null=0)
    theirs = scipy.stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert ours.p == pytest.approx(theirs.pvalue, abs=EXACT)
    assert math.isnan(mean_ci(differences).p)
    assert mean_ci(differences + 3, null=3).p == pytest.approx(ours.p, abs=EXACT)


def test_a_paired_difference_of_verdicts_is_that_of_verdicts():
    differences = [1.0, 0, 0, -1, 1, 1, 0, 0]
    assert mean_ci(differences, null=0) == paired_ci(differences)


def test_few_paired_differences_cannot_say_anything():
    estimate = mean_ci([0.3, 0.4, 0.5, 0.6, 0.7], null=0)
    assert estimate.p == pytest.approx(2 / 32, abs=EXACT)
    assert estimate.reason == "too few to say"


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
    assert estimate.p == pytest.approx(1 / 3, abs=0.02)  # 2 of 6 arrangements; drawn ones spread by 0.007
    assert estimate.reason == "too few to say"


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
    estimate = difference_ci(values, labels, strata=strata)
    assert estimate.mean == pytest.approx(slope, abs=1e-10)
    by_hand = [(values[(strata == s) & labels].mean() - values[(strata == s) & ~labels].mean()) for s in range(3)]
    sizes = [((strata == s) & labels).sum() * ((strata == s) & ~labels).sum() / (strata == s).sum() for s in range(3)]
    assert estimate.mean == pytest.approx(np.average(by_hand, weights=sizes), abs=1e-10)


def test_the_difference_ignores_a_shift_of_a_stratum_and_the_order_of_rows():
    rng = np.random.default_rng(1)
    values, labels, strata = rng.normal(size=40), rng.random(40) < 0.5, np.arange(40) % 4
    expected, order = difference_ci(values, labels, strata=strata).mean, rng.permutation(40)
    shifted = difference_ci(values + 100 * strata, labels, strata=strata).mean
    shuffled = difference_ci(values[order], labels[order], strata=strata[order]).mean
    # Shifts of up to 300 cost three digits.
    assert shifted == pytest.approx(expected, abs=1e-9)
    assert shuffled == pytest.approx(expected, abs=EXACT)


def test_the_interval_of_the_difference_of_symmetric_halves_is_welchs():
    right = np.array([-2.0, -1, 0, 1, 2, -3, 3]) + 1
    wrong = np.array([-1.0, 0, 1, -0.5, 0.5, 0.2, -0.2])
    ours = difference_ci([*right, *wrong], [True] * 7 + [False] * 7)
    theirs = scipy.stats.ttest_ind(right, wrong, equal_var=False).confidence_interval()
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=1e-9)


def test_the_fewer_are_taken_to_scatter_at_least_as_the_others():
    many, few = np.array([-6.0, -4, -2, 0, 2, 4, 6, 8, -8]), np.array([0.9, 1.0, 1.1])
    ours = difference_ci([*many, *few], [True] * 9 + [False] * 3)
    variance = many.var(ddof=1)
    error = math.sqrt(variance / 9 + variance / 3)
    parts, freedom = np.array([variance / 9, variance / 3]), np.array([8, 9 + 3 - 2])
    t = scipy.stats.t.ppf(0.975, parts.sum() ** 2 / (parts**2 / freedom).sum())
    np.testing.assert_allclose([ours.low, ours.high], [-1 - t * error, -1 + t * error], atol=1e-9)


def test_a_single_wrong_answer_has_no_interval():
    values = np.random.default_rng(0).normal(size=40)
    estimate = difference_ci(values, np.arange(40) > 0)
    assert math.isnan(estimate.low)
    assert estimate.reason


def test_clusters_widen_the_difference():
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


def test_the_interval_of_auroc_is_newcombes_score_interval():
    rng = np.random.default_rng(0)
    labels = np.arange(60) < 40
    values = rng.normal(size=60) + labels
    estimate = auroc_ci(values, labels)
    area, n1, n0 = auroc(values, labels), 40, 20

    def variance(theta):
        shape = (1 - theta) / (2 - theta) + theta / (1 + theta)
        return theta * (1 - theta) * (1 + ((n1 + n0) / 2 - 1) * shape) / (n1 * n0)

    # DeLong's variance of these data is above V, which is scaled up to it.
    beaten = (
        [np.mean(values[~labels] < v) for v in values[labels]],
        [np.mean(values[labels] > v) for v in values[~labels]],
    )
    scale = (np.var(beaten[0], ddof=1) / n1 + np.var(beaten[1], ddof=1) / n0) / variance(area)
    assert scale > 1
    t = scipy.stats.t.ppf(0.975, 59)
    for end in (estimate.low, estimate.high):
        assert abs(area - end) == pytest.approx(t * math.sqrt(scale * variance(end)), abs=1e-8)
    # At one half V is the exact variance of the Mann–Whitney statistic.
    assert variance(0.5) == pytest.approx((n1 + n0 + 1) / (12 * n1 * n0), abs=EXACT)
    exact = scipy.stats.mannwhitneyu(values[labels], values[~labels]).pvalue
    assert estimate.p == pytest.approx(exact, abs=0.01)  # 4,999 arrangements


def test_the_interval_of_separated_groups_is_real():
    labels = np.arange(300) % 2 == 0
    perfect = auroc_ci(labels.astype(float) + np.linspace(0, 0.1, 300), labels)
    assert perfect.mean == perfect.high == 1
    assert 0.95 < perfect.low < 1
    few = auroc_ci([1, 2, 3, 4, 5, 6], [False, False, False, True, True, True])
    assert few.mean == 1
    assert few.low < 0.75
    none = auroc_ci([1, 2, 3, 4, 5, 6], [True, True, True, False, False, False])
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - few.low, abs=1e-6)


def test_clusters_and_strata_decide_the_interval_of_auroc():
    values, clusters = clustered(30, 6, seed=0)
    labels = clusters % 2 == 0
    assert width(auroc_ci(values, labels, clusters)) > 1.5 * width(auroc_ci(values, labels))
    # Two tasks at different levels: mixed, the label seems to matter.
    rng = np.random.default_rng(4)
    tasks = np.arange(200) // 100
    labels = rng.random(200) < np.where(tasks == 1, 0.9, 0.3)
    values = rng.normal(size=200) + 5 * tasks
    within, mixed = auroc_ci(values, labels, strata=tasks), auroc_ci(values, labels)
    assert within.low < 0.5 < within.high
    assert mixed.low > 0.6
    assert within.p > 0.05 > mixed.p


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


def test_accuracy_above_a_threshold_is_the_proportion_of_the_subset():
    rng = np.random.default_rng(0)
    focus, clusters = rng.random(400), np.arange(400) // 4
    correct = rng.random(400) < 0.3 + 0.5 * focus
    table = accuracy_by_threshold(focus, correct, thresholds=[0.0, 0.3, 0.7], clusters=clusters)
    for row in table.itertuples():
        above = focus >= row.threshold
        alone = proportion_ci(correct[above], clusters[above])
        assert (row.accuracy, row.low, row.high, row.n) == (alone.mean, alone.low, alone.high, alone.n)
    assert table.accuracy.is_monotonic_increasing


def test_default_thresholds_start_at_0_rise_and_keep_samples_above():
    focus = np.random.default_rng(0).random(100) ** 3
    table = accuracy_by_threshold(focus, focus > 0.2)
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


# --- spread


def test_the_spread_by_hand_and_its_interval_beside_the_chi_squared_one():
    values = np.random.default_rng(0).normal(10, 2, size=80)
    told = spread_ci(values)
    assert told["std"].mean == pytest.approx(values.std(), abs=EXACT)
    assert told["cv"].mean == pytest.approx(values.std() / values.mean(), abs=EXACT)
    assert (told["min"].mean, told["max"].mean) == (values.min(), values.max())
    assert math.isnan(told["max"].low)
    chi = np.sqrt(79 * values.var(ddof=1) / scipy.stats.chi2.ppf([0.975, 0.025], 79))
    # For normal values both hold; the linearised one is a tenth of its width off at 80.
    np.testing.assert_allclose([told["std"].low, told["std"].high], chi, atol=0.1 * np.ptp(chi) + 0.02)
    scaled = spread_ci(3 * values)
    assert scaled["std"].high == pytest.approx(3 * told["std"].high, rel=1e-9)
    assert scaled["cv"].high == pytest.approx(told["cv"].high, rel=1e-9)


def test_a_spread_of_one_value_or_around_nothing_has_no_interval():
    assert spread_ci([2.0] * 9)["std"].reason == "all values are alike"
    assert math.isnan(spread_ci([-1.0, 1, -2, 2, 0, 0])["cv"].mean)
    assert spread_ci([])["std"].n == 0


def test_deviations_that_are_all_alike_have_no_interval():
    told = spread_ci([1.0, 1, 1, 2, 2, 2])
    assert told["std"].mean == 0.5
    assert math.isnan(told["std"].low)
    assert told["std"].reason == "all deviations are alike"
