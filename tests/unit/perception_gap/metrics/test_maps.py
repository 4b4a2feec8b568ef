import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perception_gap import metrics
from perception_gap.geometry import TokenGeometry

# Sums of at most a few hundred float64 products: rounding is near 1e-15, 1e-12 leaves room for their order.
EXACT = 1e-12
# No time limits: the machine may be busy.
properties = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
GRID = TokenGeometry.grid(2, 2)
UNDEFINED = [[0.0, 0, 0, 0], [1.0, math.nan, 1, 1], [1.0, -1, 1, 1], [1.0, math.inf, 1, 1]]

weights = arrays(np.float64, st.integers(1, 40), elements=st.one_of(st.just(0.0), st.floats(1e-60, 1e6))).filter(
    lambda a: a.sum() > 0
)


def random_boxes(seed: int, n: int) -> np.ndarray:
    corners = np.random.default_rng(seed).random((n, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def naive_focus(attention, geometry, boxes, images, cells=40):
    """Equation 1 by sampling every token at the centres of cells × cells points: error at most about 2 / cells."""
    inside = total = 0.0
    for a, (x0, y0, x1, y1), image in zip(attention, geometry.boxes, geometry.image, strict=True):
        total += a
        if (x1 - x0) * (y1 - y0) <= 0:
            continue
        hits = 0
        for i in range(cells):
            for j in range(cells):
                x, y = x0 + (i + 0.5) / cells * (x1 - x0), y0 + (j + 0.5) / cells * (y1 - y0)
                hits += any(
                    b[0] <= x <= b[2] and b[1] <= y <= b[3] and image == k for b, k in zip(boxes, images, strict=True)
                )
        inside += a * hits / cells**2
    return inside / total


# --- focus


def test_focus_is_the_mass_inside_the_box():
    # Left column of a 2 × 2 grid: tokens 0 and 2 carry 1 + 3 of 10.
    assert metrics.focus_score([1, 2, 3, 4], GRID, [[0, 0, 0.5, 1]]) == pytest.approx(0.4, abs=EXACT)


def test_focus_counts_a_token_by_the_part_of_it_that_lies_inside():
    # The box covers a quarter of token 0 and nothing else.
    assert metrics.focus_score([4, 0, 0, 0], GRID, [[0, 0, 0.25, 0.25]]) == pytest.approx(0.25, abs=EXACT)


def test_focus_keeps_the_mass_of_tokens_that_cover_nothing_in_the_denominator():
    geometry = TokenGeometry.concatenate([TokenGeometry.grid(1, 2), TokenGeometry.nowhere(1)])
    assert metrics.focus_score([1, 1, 2], geometry, [[0, 0, 1, 1]]) == pytest.approx(0.5, abs=EXACT)


def test_focus_counts_overlapping_boxes_once():
    box = [0, 0, 0.5, 0.5]
    assert metrics.focus_score([1, 1, 1, 1], GRID, [box, box]) == pytest.approx(0.25, abs=EXACT)


def test_focus_looks_for_each_box_on_its_own_image():
    geometry = TokenGeometry.concatenate([TokenGeometry.grid(1, 2), TokenGeometry.grid(1, 2, image=1)])
    left = [[0, 0, 0.5, 1]]
    assert metrics.focus_score([1, 2, 3, 4], geometry, left) == pytest.approx(0.1, abs=EXACT)
    assert metrics.focus_score([1, 2, 3, 4], geometry, left, images=[1]) == pytest.approx(0.3, abs=EXACT)


def test_focus_agrees_with_a_naive_loop_on_tiles_thumbnail_and_separators():
    geometry = TokenGeometry.concatenate(
        [
            TokenGeometry.grid(3, 4),
            TokenGeometry.nowhere(2),
            TokenGeometry.grid(2, 2),
            TokenGeometry.grid(2, 3, image=1),
        ]
    )
    attention = np.random.default_rng(0).random(len(geometry))
    boxes, images = random_boxes(1, 4), [0, 1, 0, 1]
    expected = naive_focus(attention, geometry, boxes, images)
    # The reference is the coarse one: 40 points a side misplace an edge by up to 1 / 80 of a token.
    assert metrics.focus_score(attention, geometry, boxes, images) == pytest.approx(expected, abs=0.02)


@properties
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_focus_lies_between_0_and_1_and_ignores_scale_and_token_order(seed, n_boxes):
    rng = np.random.default_rng(seed)
    geometry = TokenGeometry(random_boxes(seed, 12), np.zeros(12))
    attention, boxes, order = rng.random(12), random_boxes(seed + 1, n_boxes), rng.permutation(12)
    shuffled = TokenGeometry(geometry.boxes[order], geometry.image[order])
    focus = metrics.focus_score(attention, geometry, boxes)
    assert 0 <= focus <= 1
    assert metrics.focus_score(attention * 7, geometry, boxes) == pytest.approx(focus, abs=EXACT)
    assert metrics.focus_score(attention[order], shuffled, boxes) == pytest.approx(focus, abs=EXACT)
    assert metrics.focus_score(attention, geometry, [[0, 0, 1, 1]]) == pytest.approx(1, abs=EXACT)


def test_focus_chance_of_a_grid_is_the_area_of_the_box_and_lift_the_ratio_to_it():
    boxes = [[0.1, 0.2, 0.6, 0.7]]
    assert metrics.focus_chance(TokenGeometry.grid(7, 5), boxes) == pytest.approx(0.25, abs=EXACT)
    two = TokenGeometry.concatenate([TokenGeometry.grid(2, 2), TokenGeometry.grid(1, 1, image=1)])
    assert metrics.focus_chance(two, boxes, [1]) == pytest.approx(0.25 / 5, abs=EXACT)  # of its own picture's token
    assert metrics.focus_lift([1, 1, 1, 1, 6], two, boxes, [1]) == pytest.approx(3, abs=EXACT)
    assert metrics.focus_lift([1, 2, 3, 4], GRID, [[0, 0, 0.5, 1]]) == pytest.approx(0.4 / 0.5, abs=EXACT)
    assert metrics.focus_lift(np.full(35, 3.0), TokenGeometry.grid(7, 5), boxes) == pytest.approx(1, abs=EXACT)


@pytest.mark.parametrize(
    "boxes", [[], [[0.5, 0.5, 0.5, 1]], [[0.9, 0, 0.1, 1]], [[1.5, 0, 2, 1]], [[math.nan, 0, 1, 1]]]
)
def test_focus_is_undefined_without_a_box_with_an_area_inside_the_image(boxes):
    assert math.isnan(metrics.focus_score([1, 1, 1, 1], GRID, boxes))
    assert math.isnan(metrics.focus_chance(GRID, boxes))
    assert math.isnan(metrics.focus_lift([1, 1, 1, 1], GRID, boxes))
    assert math.isnan(metrics.pointing_game([1, 1, 1, 1], GRID, boxes))


def test_lift_is_undefined_where_chance_is_0():
    half = TokenGeometry.grid(1, 2, within=(0, 0, 0.5, 1))
    assert metrics.focus_chance(half, [[0.6, 0, 1, 1]]) == 0
    assert math.isnan(metrics.focus_lift([1, 1], half, [[0.6, 0, 1, 1]]))


def test_focus_refuses_maps_boxes_and_images_that_do_not_fit():
    with pytest.raises(ValueError, match=r"a map of shape \(3,\) for 4 image tokens: expected \(4,\)"):
        metrics.focus_score([1, 2, 3], GRID, [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"boxes of shape \(4,\)"):
        metrics.focus_score([1, 2, 3, 4], GRID, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="expected one image per box"):
        metrics.focus_score([1, 2, 3, 4], GRID, [[0, 0, 1, 1]], images=[0, 0])
    with pytest.raises(ValueError, match=r"boxes on images \[1\]: the prompt has images 0..0"):
        metrics.focus_score([1, 2, 3, 4], GRID, [[0, 0, 1, 1]], images=[1])


# --- pointing game


def test_pointing_game_hits_where_the_centre_of_the_peak_lies_in_a_box():
    assert metrics.pointing_game([1, 5, 1, 1], GRID, [[0.7, 0.2, 0.8, 0.3]]) == 1.0
    # The box covers most of the peak's token, but not its centre.
    assert metrics.pointing_game([1, 5, 1, 1], GRID, [[0.76, 0, 1, 0.5]]) == 0.0


@pytest.mark.parametrize("box", [[0.25, 0, 1, 1], [0, 0, 0.25, 1], [0, 0.25, 1, 1], [0, 0, 1, 0.25]])
def test_pointing_game_counts_the_edges_of_a_box_as_inside(box):
    assert metrics.pointing_game([1, 0, 0, 0], GRID, [box]) == 1  # the centre of the first of 2 × 2 tokens: (¼, ¼)


def test_pointing_game_averages_over_tied_peaks():
    assert metrics.pointing_game([2, 1, 2, 2], GRID, [[0, 0, 0.5, 1]]) == pytest.approx(2 / 3, abs=EXACT)


def test_pointing_game_misses_on_another_image_and_on_a_separator():
    geometry = TokenGeometry.concatenate([TokenGeometry.grid(1, 1), TokenGeometry.grid(1, 1, image=1)])
    assert metrics.pointing_game([1, 3], geometry, [[0, 0, 1, 1]]) == 0.0
    assert metrics.pointing_game([1, 3], geometry, [[0, 0, 1, 1]], images=[1]) == 1.0
    separated = TokenGeometry.concatenate([TokenGeometry.grid(1, 1), TokenGeometry.nowhere(1)])
    # An empty rectangle at the corner lies inside the box by its coordinates.
    assert metrics.pointing_game([1, 3], separated, [[0, 0, 1, 1]]) == 0.0


def test_pointing_game_agrees_with_a_naive_loop_and_ignores_scale():
    rng = np.random.default_rng(3)
    geometry, outcomes = TokenGeometry.grid(5, 6), []
    for seed in range(30):
        attention, boxes = rng.integers(0, 6, 30).astype(float), random_boxes(seed, 2)
        hits = []
        for a, token in zip(attention, geometry.boxes, strict=True):
            if a == attention.max():
                x, y = (token[0] + token[2]) / 2, (token[1] + token[3]) / 2
                hits.append(any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in boxes))
        outcomes.append(metrics.pointing_game(attention, geometry, boxes))
        assert outcomes[-1] == pytest.approx(np.mean(hits), abs=EXACT)
        assert metrics.pointing_game(attention * 4, geometry, boxes) == outcomes[-1]
    assert len(set(outcomes)) > 3


# --- entropy and salient regions


def test_entropy_of_uniform_halves_and_one_hot_maps():
    assert metrics.entropy(np.ones(8)) == pytest.approx(math.log(8), abs=EXACT)
    assert metrics.entropy([0.5, 0.25, 0.25]) == pytest.approx(1.5 * math.log(2), abs=EXACT)
    assert metrics.entropy([0, 0, 3]) == 0.0
    assert metrics.relative_entropy(np.ones(8)) == pytest.approx(1, abs=EXACT)
    assert metrics.relative_entropy([0.5, 0.25, 0.25]) == pytest.approx(1.5 * math.log(2) / math.log(3), abs=EXACT)


@properties
@given(weights)
def test_entropy_lies_between_0_and_ln_n_and_equals_the_naive_sum(attention):
    total = math.fsum(attention)
    naive = -math.fsum(a / total * math.log(a / total) for a in attention if a / total > 0)
    value = metrics.entropy(attention)
    assert -EXACT <= value <= math.log(len(attention)) + EXACT
    assert value == pytest.approx(naive, abs=1e-11)
    assert metrics.entropy(attention[::-1] * 3) == pytest.approx(value, abs=1e-11)


def test_relative_entropy_of_two_tokens_by_hand():
    assert metrics.relative_entropy([1, 1]) == pytest.approx(1, abs=EXACT)
    assert metrics.relative_entropy([1, 3]) == pytest.approx((2 * math.log(2) - 0.75 * math.log(3)) / math.log(2))


def test_relative_entropy_of_a_single_token_is_undefined():
    assert math.isnan(metrics.relative_entropy([1.0]))
    assert metrics.entropy([1.0]) == 0.0


def test_salient_regions_exceed_one_and_a_half_times_the_mean():
    # Mean 2: the threshold is 3, and 3 does not exceed it.
    assert metrics.salient_region_count([4, 3, 1, 0]) == 1.0
    assert metrics.salient_region_fraction([4, 3, 1, 0]) == 0.25
    assert metrics.salient_region_count([4, 3, 1, 0], factor=1.0) == 2.0
    assert metrics.salient_region_count([1, 1, 1]) == 0.0


@properties
@given(weights)
def test_salient_regions_equal_the_naive_count_and_ignore_order(attention):
    threshold = 1.5 * math.fsum(attention) / len(attention)
    # Weights within rounding of the threshold may fall on either side.
    surely = sum(a > threshold * (1 + 1e-9) for a in attention)
    possibly = sum(a > threshold * (1 - 1e-9) for a in attention)
    count = metrics.salient_region_count(attention)
    assert surely <= count <= possibly
    assert metrics.salient_region_fraction(attention) == pytest.approx(count / len(attention), abs=EXACT)


def test_salient_regions_and_entropy_ignore_scale_and_order():
    rng = np.random.default_rng(5)
    attention = rng.random(50)
    assert metrics.salient_region_count(rng.permutation(attention) * 1e-5) == metrics.salient_region_count(attention)
    assert metrics.entropy(attention * 1e300) == pytest.approx(metrics.entropy(attention), abs=EXACT)
    assert metrics.entropy(attention * 1e-300) == pytest.approx(metrics.entropy(attention), abs=EXACT)


@pytest.mark.parametrize("attention", UNDEFINED)
@pytest.mark.filterwarnings("error")
def test_maps_without_a_distribution_are_undefined_without_a_warning(attention):
    boxes = [[0, 0, 0.5, 1]]
    for value in (
        metrics.entropy(attention),
        metrics.relative_entropy(attention),
        metrics.salient_region_count(attention),
        metrics.salient_region_fraction(attention),
        metrics.focus_score(attention, GRID, boxes),
        metrics.focus_lift(attention, GRID, boxes),
        metrics.pointing_game(attention, GRID, boxes),
    ):
        assert math.isnan(value)


def test_a_map_without_tokens_is_undefined_and_a_matrix_refused():
    assert math.isnan(metrics.entropy([]))
    assert math.isnan(metrics.focus_score([], TokenGeometry.nowhere(0), [[0, 0, 1, 1]]))
    with pytest.raises(ValueError, match=r"a map of shape \(2, 2\).*flatten"):
        metrics.entropy([[1, 2], [3, 4]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_dtype_with_gradient_give_the_floats_of_the_array(dtype):
    # 1, 2, 3, 4 are exact in every dtype, so nothing is lost on the way.
    tensor = torch.tensor([1, 2, 3, 4], dtype=dtype, requires_grad=True)
    boxes = torch.tensor([[0, 0, 0.5, 1]])
    assert metrics.focus_score(tensor, GRID, boxes) == metrics.focus_score([1, 2, 3, 4], GRID, boxes.numpy())
    for metric in (metrics.entropy, metrics.relative_entropy, metrics.salient_region_count):
        assert type(metric(tensor)) is float
        assert metric(tensor) == metric([1, 2, 3, 4])


def test_the_map_given_is_left_unchanged():
    attention = np.array([1.0, 2, 3, 4])
    metrics.entropy(attention)
    metrics.focus_score(attention, GRID, [[0, 0, 0.5, 1]])
    assert attention.tolist() == [1, 2, 3, 4]


# --- raw mass, spread over samples


def test_text_image_mass_is_the_mean_row_sum():
    rows = [[0.1, 0.2], [0.3, 0.4]]
    assert metrics.text_image_mass(rows) == pytest.approx(0.5, abs=EXACT)
    # Not normalised: half the attention is half the mass.
    assert metrics.text_image_mass(np.array(rows) / 2) == pytest.approx(0.25, abs=EXACT)


def test_text_image_mass_agrees_with_a_naive_loop_and_ignores_order():
    rows = np.random.default_rng(0).dirichlet(np.ones(9), size=5)[:, :6]
    naive = sum(sum(float(x) for x in row) for row in rows) / 5
    assert metrics.text_image_mass(rows) == pytest.approx(naive, abs=EXACT)
    assert metrics.text_image_mass(rows[::-1, ::-1]) == pytest.approx(naive, abs=EXACT)
    # bfloat16 keeps 8 bits: relative 2^-9 per weight.
    assert metrics.text_image_mass(torch.tensor(rows).bfloat16()) == pytest.approx(naive, rel=2**-8)


def test_text_image_mass_is_undefined_without_rows_tokens_or_finite_weights():
    assert math.isnan(metrics.text_image_mass(np.zeros((0, 4))))
    assert math.isnan(metrics.text_image_mass(np.zeros((4, 0))))
    assert math.isnan(metrics.text_image_mass([[0.1, math.nan]]))
    assert math.isnan(metrics.text_image_mass([[0.1, -0.1]]))
    # No attention at all is a value, not a missing one.
    assert metrics.text_image_mass([[0.0, 0.0]]) == 0.0
    with pytest.raises(ValueError, match=r"rows of shape \(2,\)"):
        metrics.text_image_mass([0.1, 0.2])


def test_coefficient_of_variation_divides_the_population_deviation_by_the_mean():
    # σ of 1 and 3 over the population is 1, µ is 2; the sample deviation would give 0.707.
    assert metrics.coefficient_of_variation([1, 3]) == pytest.approx(0.5, abs=EXACT)
    assert metrics.coefficient_of_variation([1, math.nan, 3, math.inf]) == pytest.approx(0.5, abs=EXACT)
    assert metrics.coefficient_of_variation([2, 2, 2]) == 0.0


def test_coefficient_of_variation_agrees_with_a_naive_loop_and_ignores_scale_and_order():
    values = np.random.default_rng(0).random(20) + 0.1
    mean = sum(values) / 20
    naive = math.sqrt(sum((v - mean) ** 2 for v in values) / 20) / mean
    assert metrics.coefficient_of_variation(values) == pytest.approx(naive, abs=EXACT)
    assert metrics.coefficient_of_variation(values[::-1] * 50) == pytest.approx(naive, abs=EXACT)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [-1.0, 1.0]])
@pytest.mark.filterwarnings("error")
def test_coefficient_of_variation_is_undefined_for_one_value_or_a_mean_of_0(values):
    assert math.isnan(metrics.coefficient_of_variation(values))
