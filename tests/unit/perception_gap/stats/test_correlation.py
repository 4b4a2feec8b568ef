"""Correlations of a few points by hand, and when they have no interval; how a figure writes them."""

import numpy as np
import pytest

from perception_gap.stats.correlation import correlations
from reports.figures.gap import words


def test_correlations_of_five_points_by_hand():
    # r = 8 / 10, ρ the same of these ranks; z = atanh 0.8 = 1.0986, ± 1.96 / √2 (and √(1.32 / 2) for ρ).
    pearson, spearman = correlations([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert (pearson.value, spearman.value) == (pytest.approx(0.8), pytest.approx(0.8))
    assert (pearson.low, pearson.high) == (
        pytest.approx(np.tanh(1.0986 - 1.3859), abs=1e-4),
        pytest.approx(0.9862, abs=1e-3),
    )
    assert spearman.low == pytest.approx(np.tanh(1.0986 - 1.5924), abs=1e-4)


def test_correlations_do_not_depend_on_scale_and_order_and_turn_with_the_sign():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 9))
    for one, other, turned in zip(
        correlations(x, y), correlations(3 * x[::-1] + 7, 0.1 * y[::-1]), correlations(-x, y), strict=True
    ):
        assert one[1:] == pytest.approx(other[1:])
        assert (turned.value, turned.low, turned.high) == pytest.approx((-one.value, -one.high, -one.low))


@pytest.mark.parametrize("sign", [1, -1])
def test_points_on_a_line_have_no_interval(sign):
    x = np.array([0.1, 0.2, 0.4, 0.7])
    value = "1.00" if sign > 0 else "−1.00"
    for found in correlations(x, sign * x / 3):
        assert found.value == pytest.approx(sign)
        assert np.isnan([found.low, found.high]).all()
        assert words(found) == f"{found.name} {value} (no interval at n = 4)"
    pearson, spearman = correlations(x, sign * x**3)  # ranks alone are in line
    assert np.isfinite([pearson.low, pearson.high]).all()
    assert np.isnan([spearman.low, spearman.high]).all()


def test_a_constant_has_no_correlation():
    assert [words(found) for found in correlations([1, 1, 1, 1], [1, 2, 3, 4])] == [
        "Pearson r undefined", "Spearman ρ undefined",
    ]  # fmt: skip
