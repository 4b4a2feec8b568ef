"""The gaze target and its resampling: by hand, against naive references, by invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavit.traces import Target, resample, target
from perception_gap.geometry import TokenGeometry

GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 7))


def a_map(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(n)


def test_min_max_top_k_and_renormalising_by_hand():
    found = target([0.1, 0.3, 0.7, 0.3], TokenGeometry.grid(2, 2), k=2)
    # Scaled: 0, 1/3, 1, 1/3; of the two equal ones the lower index stays.
    assert found.index.tolist() == [2, 1]
    assert found.weights == pytest.approx([0.75, 0.25], abs=1e-15)
    assert found.boxes.tolist() == [[0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5]]
    assert found.images.tolist() == [0, 0]
    assert found.n_tokens == 4


def test_the_minimum_is_taken_over_all_tokens_separators_included():
    geometry = TokenGeometry.concatenate([TokenGeometry.grid(1, 3), TokenGeometry.nowhere(1)])
    found = target([2.0, 3.0, 4.0, 0.0], geometry, k=8)
    assert found.index.tolist() == [2, 1, 0]
    assert found.weights == pytest.approx(np.array([4, 3, 2]) / 9, abs=1e-15)


@given(GRIDS, st.integers(0, 99), st.integers(1, 9))
def test_target_equals_a_naive_one(shape, seed, k):
    values = a_map(shape[0] * shape[1], seed).round(1)  # rounded: many ties
    found = target(values, TokenGeometry.grid(*shape), k)
    low, high = min(values), max(values)
    if low == high:
        assert found is None
        return
    scaled = {i: (v - low) / (high - low) for i, v in enumerate(values)}
    chosen = sorted((i for i in scaled if scaled[i] > 0), key=lambda i: (-scaled[i], i))[:k]
    assert found.index.tolist() == chosen
    total = sum(scaled[i] for i in chosen)
    # Sums in another order: 1e-12 is thousands of rounding errors of float64.
    assert found.weights == pytest.approx([scaled[i] / total for i in chosen], abs=1e-12)


@given(GRIDS, st.integers(0, 99))
def test_target_does_not_change_with_scale_and_floor(shape, seed):
    values, geometry = a_map(shape[0] * shape[1], seed), TokenGeometry.grid(*shape)
    first, second = target(values, geometry), target(7 * values + 3, geometry)
    if first is None:
        assert second is None
        return
    assert first.index.tolist() == second.index.tolist()
    # 7 v + 3 loses about 1e-16 of v, which the span of the map divides.
    assert first.weights == pytest.approx(second.weights, abs=1e-9 / np.ptp(values))
    assert first.weights.sum() == pytest.approx(1, abs=1e-12)


def test_a_map_without_a_direction_has_no_target():
    assert target([0.25] * 4, TokenGeometry.grid(2, 2)) is None
    assert target([1.0], TokenGeometry.grid(1, 1)) is None
    assert target([], TokenGeometry.nowhere(0)) is None
    only = target([0, 0, 5, 0], TokenGeometry.grid(2, 2))
    assert (only.index.tolist(), only.weights.tolist()) == ([2], [1.0])


@pytest.mark.parametrize("values", [[1, 2, 3], [1, 2, 3, -1], [1, 2, 3, np.nan], [1, 2, 3, np.inf]])
def test_what_is_no_map_is_refused(values):
    with pytest.raises(ValueError, match=r"expected \[N\]|finite"):
        target(values, TokenGeometry.grid(2, 2))
    with pytest.raises(ValueError, match="top 0"):
        target([0, 1, 2, 3], TokenGeometry.grid(2, 2), k=0)


def test_resampling_by_hand():
    middle = Target(np.array([4]), np.array([1.0]), np.array([[1, 1, 2, 2]]) / 3, np.zeros(1, int))
    assert resample(middle, TokenGeometry.grid(2, 2)) == pytest.approx([0.25] * 4, abs=1e-12)
    corner = target([1, 0, 0, 0], TokenGeometry.grid(2, 2))
    expected = np.zeros((4, 4))
    expected[:2, :2] = 0.25
    assert resample(corner, TokenGeometry.grid(4, 4)) == pytest.approx(expected.ravel(), abs=1e-12)


@given(GRIDS, GRIDS, st.integers(0, 99))
def test_between_grids_it_is_the_exact_raster(teacher, student, seed):
    geometry = TokenGeometry.grid(*teacher)
    found = target(a_map(len(geometry), seed), geometry)
    if found is None:
        return
    values = np.zeros(len(geometry))
    values[found.index] = found.weights
    on_student = resample(found, TokenGeometry.grid(*student))
    assert on_student == pytest.approx(geometry.rasterize(values, *student).ravel(), abs=1e-12)
    assert on_student.sum() == pytest.approx(1, abs=1e-12)


def tiled() -> TokenGeometry:
    """Thumbnail, four tiles as one raster, a separator, and a second image."""
    return TokenGeometry.concatenate([
        TokenGeometry.grid(2, 2), TokenGeometry.grid(4, 4), TokenGeometry.nowhere(3), TokenGeometry.grid(3, 3, image=1),
    ])  # fmt: skip


@pytest.mark.parametrize("geometry", [TokenGeometry.grid(5, 3), tiled()])
def test_on_the_teachers_own_tokens_it_is_exactly_the_weights(geometry):
    found = target(a_map(len(geometry), 3), geometry)
    stored = Target(
        found.index,
        found.weights,
        found.boxes.astype(np.float32).astype(np.float64),
        found.images,
        found.n_tokens,
    )
    expected = np.zeros(len(geometry))
    expected[found.index] = found.weights
    assert np.array_equal(resample(stored, geometry), expected)


def test_tokens_upon_each_other_share_a_rectangle():
    one = TokenGeometry.concatenate([TokenGeometry.grid(1, 1), TokenGeometry.grid(2, 2)])
    corner = target([1, 0, 0, 0], TokenGeometry.grid(2, 2))
    # The thumbnail covers the corner wholly and so does one tile: half each.
    assert resample(corner, one) == pytest.approx([0.5, 0.5, 0, 0, 0], abs=1e-12)


@given(st.integers(0, 199))
def test_resampling_equals_counting_pixels(seed):
    """Rectangles on a lattice of 12 × 12 pixels, tokens that overlap and leave gaps, two images."""
    rng = np.random.default_rng(seed)
    lattice, k, n = 12, 4, 9

    def rectangles(count: int) -> np.ndarray:
        low = rng.integers(0, lattice - 1, (count, 2))
        return np.concatenate([low, low + rng.integers(1, lattice - low + 1)], axis=1)

    boxes, tokens = rectangles(k), rectangles(n)
    images, owners = rng.integers(0, 2, k), np.r_[0, 1, rng.integers(0, 2, n - 2)]
    weights = rng.dirichlet(np.ones(k))
    expected = np.zeros(n)
    for weight, (x0, y0, x1, y1), image in zip(weights, boxes, images, strict=True):
        count, seen = np.zeros(n), 0
        for x in range(x0, x1):
            for y in range(y0, y1):
                holds = [t[0] <= x < t[2] and t[1] <= y < t[3] and o == image
                         for t, o in zip(tokens, owners, strict=True)]  # fmt: skip
                count += holds
                seen += any(holds)
        if seen:
            expected += weight * (seen / ((x1 - x0) * (y1 - y0))) * count / count.sum()
    wanted = Target(np.full(k, -1), weights, boxes / lattice, images)
    student = TokenGeometry(tokens / lattice, owners)
    assert resample(wanted, student) == pytest.approx(expected, abs=1e-12)


def test_what_the_student_does_not_see_is_lost_and_never_moved():
    left = TokenGeometry.grid(2, 1, within=(0, 0, 0.5, 1))
    middle = Target(np.array([0]), np.array([1.0]), np.array([[0.25, 0, 0.75, 0.5]]), np.zeros(1, int))
    assert resample(middle, left) == pytest.approx([0.5, 0], abs=1e-12)
    twice = TokenGeometry.concatenate([left, left])
    assert resample(middle, twice) == pytest.approx([0.25, 0, 0.25, 0], abs=1e-12)
    right = Target(np.array([0]), np.array([1.0]), np.array([[0.5, 0, 1, 1]]), np.zeros(1, int))
    assert resample(right, left).tolist() == [0.0, 0.0]


def test_an_image_that_the_student_was_not_given_is_refused():
    second = Target(np.array([0]), np.array([1.0]), np.array([[0, 0, 1, 1.0]]), np.ones(1, int))
    with pytest.raises(ValueError, match=r"images \[1\].* has 1"):
        resample(second, TokenGeometry.grid(2, 2))
