import math

import numpy as np
import pytest

from perception_gap.proportions import paired_ci, wilson
from perception_gap.statistics import mean_ci

EXACT = 1e-12  # sums of at most a few thousand float64 numbers


def test_wilson_equals_the_closed_form():
    z, p, n = 1.959963984540054, 0.8, 10
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    estimate = wilson(8, 10)
    assert (estimate.mean, estimate.n) == (0.8, 10)
    # SciPy's normal quantile is exact to float64.
    np.testing.assert_allclose([estimate.low, estimate.high], [centre - half, centre + half], atol=1e-9)


def test_wilson_is_symmetric_bounded_and_undefined_without_trials():
    none, all_ = wilson(0, 12), wilson(12, 12)
    assert none.low == pytest.approx(0, abs=EXACT)
    assert none.high == pytest.approx(1 - all_.low, abs=EXACT)
    assert 0 < none.high < 0.5
    assert wilson(0, 0).as_dict() == {"mean": None, "ci": None, "n": 0}


@pytest.mark.parametrize("k", [-1, 0, 1])
def test_a_difference_that_is_always_the_same_has_a_score_interval_over_its_clusters(k):
    found = paired_ci([k] * 12 + [math.nan] * 3, [*range(4)] * 3 + [7, 8, 9])
    u = wilson(0, 4).high  # four clusters, and none of a row without a value
    assert (found.mean, found.n) == (k, 12)
    np.testing.assert_allclose([found.low, found.high], [k - (1 + k) * u, k + (1 - k) * u], atol=EXACT)


def test_a_difference_that_varies_has_the_bootstrap():
    values = [1.0, 0.0, -1.0, 1.0, 0.0]
    assert paired_ci(values) == mean_ci(values)
    assert math.isnan(paired_ci([]).mean)
