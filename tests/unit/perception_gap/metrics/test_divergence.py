import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perception_gap import metrics

# Sums of a few dozen float64 terms of size ~1 (up to ln 1e6 for KL): rounding is near 1e-15.
EXACT = 1e-12
# No time limits: the machine may be busy.
properties = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MIX = 1e-6


# Softmax weights in float32 are 0 or above 1e-45; denormal doubles, which vanish when halved, are no maps.
weights = st.one_of(st.just(0.0), st.floats(1e-60, 1e3))


@st.composite
def map_pairs(draw):
    n = draw(st.integers(1, 30))
    maps = arrays(np.float64, n, elements=weights).filter(lambda a: a.sum() > 0)
    return draw(maps), draw(maps)


def naive_kl(p, q, mix=0.0):
    p, q = [x / math.fsum(p) for x in p], [x / math.fsum(q) for x in q]
    q = [(1 - mix) * x + mix / len(q) for x in q]
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def naive_js(p, q):
    p, q = np.divide(p, math.fsum(p)), np.divide(q, math.fsum(q))
    return (naive_kl(p, (p + q) / 2) + naive_kl(q, (p + q) / 2)) / 2


def test_kl_by_hand():
    # KL((3/4, 1/4) ‖ (1/2, 1/2)) = ln 2 − H(3/4); a uniform student is unchanged by the uniform mix.
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert metrics.kl_divergence([3, 1], [5, 5]) == pytest.approx(expected, abs=EXACT)


def test_kl_runs_from_teacher_to_student():
    # The teacher looks at one of two tokens, the student at both: KL(p ‖ q) = ln 2. Exchanged, half of the mass
    # meets the 1e-6 / 2 that the mix leaves: far larger.
    assert metrics.kl_divergence([1, 0], [1, 1]) == pytest.approx(math.log(2), abs=EXACT)
    exchanged = 0.5 * math.log(0.5 / (1 - MIX / 2)) + 0.5 * math.log(0.5 / (MIX / 2))
    assert metrics.kl_divergence([1, 1], [1, 0]) == pytest.approx(exchanged, abs=1e-9)
    assert exchanged > 6


def test_kl_is_finite_where_the_student_never_looks():
    # All of the teacher's mass on one of four tokens that the student ignores: ln(1 / (1e-6 / 4)), the stated top.
    assert metrics.kl_divergence([0, 0, 0, 1], [1, 1, 1, 0]) == pytest.approx(math.log(4) + 6 * math.log(10), abs=1e-9)


@properties
@given(map_pairs())
def test_kl_equals_the_naive_sum_is_not_negative_and_ignores_scale_and_a_common_order(maps):
    p, q = maps
    value = metrics.kl_divergence(p, q)
    assert 0 <= value <= math.log(len(p)) + 6 * math.log(10) + EXACT
    assert value == pytest.approx(max(naive_kl(p, q, MIX), 0), abs=1e-11)
    assert metrics.kl_divergence(p[::-1] * 3, q[::-1] * 0.5) == pytest.approx(value, abs=1e-11)


def test_kl_of_a_map_with_itself_is_0_up_to_the_mix():
    p = np.random.default_rng(0).dirichlet(np.ones(64))
    # The mix moves q by at most 1e-6 relative: KL is of second order, far below 1e-6.
    assert 0 <= metrics.kl_divergence(p, p) < 1e-6


def test_js_by_hand():
    assert metrics.js_divergence([1, 0], [0, 1]) == pytest.approx(math.log(2), abs=EXACT)
    # (1, 0) and (1/2, 1/2) average to (3/4, 1/4).
    expected = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert metrics.js_divergence([1, 0], [1, 1]) == pytest.approx(expected, abs=EXACT)


@properties
@given(map_pairs())
def test_js_is_symmetric_bounded_and_equals_the_naive_sum(maps):
    p, q = maps
    value = metrics.js_divergence(p, q)
    assert 0 <= value <= math.log(2)
    assert metrics.js_divergence(q, p) == pytest.approx(value, abs=EXACT)
    assert value == pytest.approx(naive_js(p, q), abs=1e-11)
    assert metrics.js_divergence(p[::-1] * 9, q[::-1]) == pytest.approx(value, abs=EXACT)
    assert metrics.js_divergence(p, p) == pytest.approx(0, abs=EXACT)


def test_rounding_leaves_no_divergence_below_0_or_above_its_top():
    # Each case is one where the plain sum of float64 terms is outside by 1e-17 to 1e-16.
    nearly_uniform = 1 + 1e-9 * np.random.default_rng(18).random(5)
    assert metrics.kl_divergence(nearly_uniform, nearly_uniform) >= 0
    p = np.random.default_rng(2).random(2)
    assert metrics.js_divergence(p, 7 * p) >= 0
    left, right = np.arange(1.0, 9), np.zeros(8)
    assert metrics.js_divergence(np.append(left, right), np.append(right, left)) <= math.log(2)


def test_top_k_overlap_by_hand():
    # Top 2 of p: {0, 1}; of q: {1, 3}.
    assert metrics.top_k_overlap([4, 3, 2, 1], [0, 5, 1, 6], k=2) == 0.5
    assert metrics.top_k_overlap([4, 3, 2, 1], [1, 2, 3, 4], k=2) == 0.0


def test_top_k_is_8_by_default_and_capped_at_the_number_of_tokens():
    p, q = np.arange(20.0), np.arange(20.0)[::-1]
    assert metrics.top_k_overlap(p, q) == 0.0
    assert metrics.top_k_overlap(p, np.append(p[12:], p[:12])) == 0.0
    assert metrics.top_k_overlap(p, np.roll(p, 4)) == 4 / 8
    assert metrics.top_k_overlap(p, q, k=12) == pytest.approx(4 / 12, abs=EXACT)
    assert metrics.top_k_overlap([1, 2, 3], [3, 2, 1]) == 1.0


def test_top_k_breaks_ties_by_the_lower_index():
    assert metrics.top_k_overlap([1, 1, 1, 1], [9, 8, 1, 1], k=2) == 1.0
    assert metrics.top_k_overlap([1, 1, 1, 1], [1, 1, 8, 9], k=2) == 0.0


@properties
@given(map_pairs(), st.integers(1, 10))
def test_top_k_overlap_equals_the_naive_sets_is_symmetric_and_ignores_scale(maps, k):
    p, q = maps
    k = min(k, len(p))
    tops = [set(sorted(range(len(m)), key=lambda i, m=m: (-m[i] / m.max() / (m / m.max()).sum(), i))[:k]) for m in maps]
    assert metrics.top_k_overlap(p, q, k) == len(tops[0] & tops[1]) / k
    assert metrics.top_k_overlap(q, p, k) == metrics.top_k_overlap(p, q, k)
    assert metrics.top_k_overlap(p * 4, q * 0.5, k) == metrics.top_k_overlap(p, q, k)


def test_top_k_ignores_a_common_order_of_distinct_weights():
    rng = np.random.default_rng(1)
    p, q, order = rng.random(30), rng.random(30), rng.permutation(30)
    assert metrics.top_k_overlap(p[order], q[order]) == metrics.top_k_overlap(p, q)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [1.0, math.nan], [1.0, -0.1], [math.inf, 1.0]])
@pytest.mark.filterwarnings("error")
def test_divergences_are_undefined_where_either_map_is(bad):
    for metric in (metrics.kl_divergence, metrics.js_divergence, metrics.top_k_overlap):
        assert math.isnan(metric(bad, [1.0, 1.0]))
        assert math.isnan(metric([1.0, 1.0], bad))
        assert math.isnan(metric([], []))


def test_maps_of_different_size_and_k_below_1_are_refused():
    for metric in (metrics.kl_divergence, metrics.js_divergence, metrics.top_k_overlap):
        with pytest.raises(ValueError, match=r"maps of shapes \(2,\) and \(3,\): expected one raster"):
            metric([1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="k = 0"):
        metrics.top_k_overlap([1, 1], [1, 1], k=0)


def test_tensors_in_bfloat16_with_gradient_give_the_floats_of_the_arrays():
    p, q = (torch.tensor(v, dtype=torch.bfloat16, requires_grad=True) for v in ([1.0, 2, 5], [4.0, 1, 2]))
    for metric in (metrics.kl_divergence, metrics.js_divergence, metrics.top_k_overlap):
        assert type(metric(p, q)) is float
        assert metric(p, q) == metric([1, 2, 5], [4, 1, 2])
