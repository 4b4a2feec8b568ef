"""CC and SIM: by hand, against naive references, invariances, what is undefined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_gap.metrics import correlation_coefficient, similarity

ATOL = 1e-12  # float64, sums of a few hundred terms


@pytest.mark.parametrize(
    ("p", "q", "cc", "sim"),
    [
        ([1, 2, 3], [2, 4, 6], 1.0, 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0, 2 / 3),  # min of (1, 2, 3)/6 and (3, 2, 1)/6: (1 + 2 + 1)/6
        ([1, 0], [0, 1], -1.0, 0.0),
        ([1, 0, 1, 0], [1, 1, 0, 0], 0.0, 0.5),
        ([4, 0, 0, 0], [1, 1, 1, 1], None, 0.25),  # nothing varies in a uniform map
    ],
)
def test_by_hand(p, q, cc, sim):
    assert similarity(p, q) == pytest.approx(sim, abs=ATOL)
    found = correlation_coefficient(p, q)
    assert np.isnan(found) if cc is None else found == pytest.approx(cc, abs=ATOL)


@given(st.integers(0, 10**6), st.integers(2, 300))
def test_naive_references_and_invariances(seed, n):
    rng = np.random.default_rng(seed)
    p, q = rng.gamma(0.5, 1, (2, n))
    cc, sim = correlation_coefficient(p, q), similarity(p, q)
    assert cc == pytest.approx(np.corrcoef(p, q)[0, 1], abs=1e-9)
    assert sim == pytest.approx(sum(min(a, b) for a, b in zip(p / p.sum(), q / q.sum(), strict=True)), abs=1e-9)
    assert sim == pytest.approx(1 - np.abs(p / p.sum() - q / q.sum()).sum() / 2, abs=1e-9)  # 1 − total variation
    order = rng.permutation(n)
    for function, value in ((correlation_coefficient, cc), (similarity, sim)):
        assert function(q, p) == pytest.approx(value, abs=1e-9)
        assert function(3 * p[order], q[order] / 7) == pytest.approx(value, abs=1e-9)
    assert -1 <= cc <= 1
    assert 0 <= sim <= 1


def test_rounding_leaves_no_similarity_above_1():
    p = np.arange(1.0, 27)  # scaled to sum 1, it sums to 1 + 2e-16
    assert similarity(p, p) <= 1


def test_the_rounding_of_a_uniform_map_is_no_pattern():
    uniform = np.full(1000, 1 / 3, np.float32) * np.float32(0.7)
    uniform[::2] = np.nextafter(uniform[0], np.float32(1))
    assert np.isnan(correlation_coefficient(uniform, np.arange(1000)))
    assert np.isnan(correlation_coefficient([1.0], [1.0]))
    for step in (1e-3, 1e-5):  # a spread of half of it, far above 1e-7 of the mean weight
        stripes = np.ones(1000) + step * (np.arange(1000) % 2)
        assert correlation_coefficient(stripes, np.arange(1000) % 2) == pytest.approx(1)


@pytest.mark.parametrize("bad", [[0, 0], [1, -1], [1, np.nan], [np.inf, 1], []])
def test_undefined_maps_are_nan_and_other_lengths_raise(bad):
    other = np.ones(len(bad)) + np.arange(len(bad))
    for function in (correlation_coefficient, similarity):
        assert np.isnan(function(bad, other))
        assert np.isnan(function(other, bad))
        with pytest.raises(ValueError, match="expected one raster"):
            function([1, 2, 3], [1, 2])
