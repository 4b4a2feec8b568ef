import math

import numpy as np
import pytest

from perception_gap.proportions import wilson

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
