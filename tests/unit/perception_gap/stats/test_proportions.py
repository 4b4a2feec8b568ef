import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from perception_gap.stats.proportions import paired_ci, proportion_ci, sign_flips, wilson

EXACT = 1e-12  # sums of at most a few thousand float64 numbers


# --- Wilson


def test_wilson_equals_the_closed_form_and_statsmodels():
    z, p, n = 1.959963984540054, 0.8, 10
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    estimate = wilson(8, 10)
    assert (estimate.mean, estimate.n) == (0.8, 10)
    np.testing.assert_allclose([estimate.low, estimate.high], [centre - half, centre + half], atol=EXACT)
    ends = proportion_confint(8, 10, method="wilson")
    np.testing.assert_allclose([estimate.low, estimate.high], ends, atol=EXACT)


def test_wilson_is_symmetric_bounded_and_undefined_without_trials():
    none, all_ = wilson(0, 12), wilson(12, 12)
    assert (none.low, all_.high) == (0, 1)
    assert none.high == pytest.approx(1 - all_.low, abs=EXACT)
    assert 0 < none.high < 0.5
    assert wilson(0, 0).as_dict() == {"mean": None, "ci": None, "n": 0, "reason": "no value"}


# --- proportions


def test_38_of_40_has_one_interval_everywhere():
    estimate = proportion_ci([True] * 38 + [False] * 2)
    assert (estimate.mean, estimate.n) == (0.95, 40)
    # What bench has always said, and analyze (0.875 to 1) did not.
    np.testing.assert_allclose([estimate.low, estimate.high], [0.8350, 0.9862], atol=1e-4)


def test_rows_that_only_repeat_within_clusters_count_as_the_clusters():
    verdicts = np.array([1, 1, 1, 0, 1, 0, 1, 1, 0, 1], dtype=float)
    doubled = proportion_ci(np.repeat(verdicts, 2), np.repeat(np.arange(10), 2))
    assert (doubled.mean, doubled.n) == (0.7, 20)
    # Design effect 2 × 10 / 9 is cut to 2: ten effective rows, and Student's t of ten clusters.
    by_hand = wilson(7, 10, quantile=float(scipy.stats.t.ppf(0.975, 9)))
    np.testing.assert_allclose([doubled.low, doubled.high], [by_hand.low, by_hand.high], atol=EXACT)


def test_the_design_effect_by_hand():
    verdicts, clusters = [1, 1, 1, 0, 0, 0, 1, 0], list("aabbccdd")
    # Residuals of 0.5 sum to 1, 0, −1, 0: 4/3 × 2 / 8 over 0.25 is 4/3.
    by_hand = wilson(3, 6, quantile=float(scipy.stats.t.ppf(0.975, 3)))
    estimate = proportion_ci(verdicts, clusters)
    np.testing.assert_allclose([estimate.low, estimate.high], [by_hand.low, by_hand.high], atol=EXACT)


@pytest.mark.parametrize(("verdict", "ends"), [(1, (0.5655, 1.0)), (0, (0.0, 0.4345))])
def test_verdicts_that_are_all_alike_count_clusters_not_rows(verdict, ends):
    estimate = proportion_ci([verdict] * 20, np.arange(20) // 4)
    assert (estimate.mean, estimate.n) == (verdict, 20)
    np.testing.assert_allclose([estimate.low, estimate.high], ends, atol=1e-4)  # 5 of 5


def test_missing_verdicts_are_left_out_and_other_values_refused():
    estimate = proportion_ci([True, None, False, math.nan])
    assert (estimate.mean, estimate.n) == (0.5, 2)
    with pytest.raises(ValueError, match=r"verdicts \[2.0\]: expected True or False"):
        proportion_ci([0, 2])


# --- paired differences


def test_the_paired_interval_is_bonett_and_prices():
    differences = [1.0] * 8 + [-1.0] * 3 + [0.0] * 29
    estimate = paired_ci(differences)
    more, less, n = 9 / 42, 4 / 42, 42
    half = 1.959963984540054 * math.sqrt((more + less - (more - less) ** 2) / n)
    np.testing.assert_allclose([estimate.low, estimate.high], [more - less - half, more - less + half], atol=EXACT)
    assert (estimate.mean, estimate.n) == (5 / 40, 40)
    # McNemar's exact test is the binomial one of the discordant.
    assert estimate.p == pytest.approx(scipy.stats.binomtest(8, 11).pvalue, abs=EXACT)


def test_models_that_never_differ_are_not_equal_for_certain():
    few, many = paired_ci([0.0] * 10), paired_ci([0.0] * 200)
    assert few.low < -0.1 < 0.1 < few.high
    assert few.low == pytest.approx(-few.high, abs=EXACT)
    assert many.high < few.high
    assert (few.p, many.p) == (1.0, 1.0)
    clustered = paired_ci([0.0] * 40, np.arange(40) // 4)
    assert clustered.high == pytest.approx(few.high, abs=EXACT)  # ten clusters


@pytest.mark.parametrize("k", [-1, 1])
def test_a_difference_that_is_always_the_same_has_an_interval_that_ends_at_it(k):
    estimate = paired_ci([k] * 12 + [math.nan] * 3)
    assert (estimate.mean, estimate.n) == (k, 12)
    assert min(abs(estimate.low), abs(estimate.high)) < 1
    assert max(abs(estimate.low), abs(estimate.high)) <= 1


def test_the_order_of_the_models_turns_the_sign_alone():
    rng = np.random.default_rng(0)
    differences, clusters = rng.integers(-1, 2, size=60), np.arange(60) // 3
    one, other = paired_ci(differences, clusters), paired_ci(-differences, clusters)
    np.testing.assert_allclose([one.mean, one.low, one.high], [-other.mean, -other.high, -other.low], atol=EXACT)
    assert one.p == pytest.approx(other.p, abs=EXACT)


def test_differences_of_something_else_are_refused_and_of_nothing_undefined():
    with pytest.raises(ValueError, match=r"differences of verdicts \[0.5\]: expected −1, 0 or 1"):
        paired_ci([0.5, 1])
    assert math.isnan(paired_ci([]).mean)


def test_flipped_signs_are_counted_exactly():
    # Sums 2, 1, 1: of eight signs, ±(2 + 1 + 1) are as far as 4, and ±2 comes thrice each besides.
    assert sign_flips(np.array([2.0, 1.0, 1.0])) == pytest.approx(2 / 8, abs=EXACT)
    assert sign_flips(np.array([2.0, 1.0, -1.0])) == pytest.approx(6 / 8, abs=EXACT)
    assert sign_flips(np.zeros(4)) == 1
    assert math.isnan(sign_flips(np.zeros(0)))
