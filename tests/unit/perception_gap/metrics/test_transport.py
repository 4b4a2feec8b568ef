"""Earth mover's distance: by hand, against a linear program, as a metric, on rasters of any size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from perception_gap.metrics import coarsened, earth_movers_distance
from perception_gap.metrics.transport import distances

# The simplex ends in an exact vertex; sums of at most 256 products in float64.
ATOL = 1e-9


def maps(shape, seed, n=2):
    return np.random.default_rng(seed).gamma(0.3, 1, (n, shape[0] * shape[1]))


@pytest.mark.parametrize(
    ("p", "q", "shape", "expected"),
    [
        ([1, 0, 0, 0], [0, 1, 0, 0], (1, 4), 0.25),  # one cell of four along the width
        ([1, 0, 0, 0], [0, 0, 0, 1], (1, 4), 0.75),
        ([1, 0, 0, 0], [0, 0, 0, 1], (2, 2), np.hypot(0.5, 0.5)),
        ([2, 2, 0, 0], [0, 2, 2, 0], (1, 4), 0.25),  # half of the mass, two cells: or all of it, one cell
        ([3, 1], [1, 3], (2, 1), 0.25),  # half of the mass over half of the height
        ([1, 1, 1], [5, 5, 5], (1, 3), 0.0),
        (np.eye(256)[0], np.eye(256)[255], (16, 16), np.hypot(15 / 16, 15 / 16)),  # from corner to corner
    ],
)
def test_by_hand(p, q, shape, expected):
    assert earth_movers_distance(p, q, shape) == pytest.approx(expected, abs=ATOL)


def test_a_step_is_a_fraction_of_its_own_side_of_the_picture():
    # 2 × 4 cells: to the right a quarter of the width, down half of the height.
    expected = [0, 0.25, 0.5, 0.75, 0.5, np.hypot(0.25, 0.5), np.hypot(0.5, 0.5), np.hypot(0.75, 0.5)]
    np.testing.assert_allclose(distances(2, 4)[0], expected)
    np.testing.assert_allclose(distances(4, 2)[0, [1, 2, 6]], [0.5, 0.25, 0.75])
    with pytest.raises(ValueError, match="read-only"):  # all callers share one table
        distances(2, 4)[0, 0] = 1


def linear_program(p, q, shape):
    """The definition, with every arc."""
    n, cost = len(p), distances(*shape)
    marginals = np.zeros((2 * n, n * n))
    for i in range(n):
        marginals[i, i * n : (i + 1) * n] = 1
        marginals[n + i, i::n] = 1
    found = linprog(cost.ravel(), A_eq=marginals, b_eq=np.concatenate([p / p.sum(), q / q.sum()]), method="highs")
    assert found.status == 0
    return found.fun


@pytest.mark.parametrize("shape", [(3, 4), (5, 2), (1, 7), (4, 4)])
def test_equals_the_linear_program_over_all_arcs(shape):
    for seed in range(4):
        p, q = maps(shape, seed)
        assert earth_movers_distance(p, q, shape) == pytest.approx(linear_program(p, q, shape), abs=1e-7)


def test_on_a_line_it_is_the_distance_between_cumulative_sums():
    p, q = maps((1, 40), 3)
    centres = (np.arange(40) + 0.5) / 40
    assert earth_movers_distance(p, q, (1, 40)) == pytest.approx(wasserstein_distance(centres, centres, p, q), abs=ATOL)


def test_the_whole_solver_agrees_with_the_reduced_one_on_the_usual_raster():
    import ot

    for seed in range(3):
        p, q = maps((16, 16), seed)
        whole = ot.emd2(p / p.sum(), q / q.sum(), distances(16, 16).copy())
        assert earth_movers_distance(p, q, (16, 16)) == pytest.approx(whole, abs=ATOL)


@given(st.integers(0, 10**6))
def test_it_is_a_metric_within_its_range_and_blind_to_scale(seed):
    p, q, r = maps((4, 5), seed, 3)
    d = {name: earth_movers_distance(a, b, (4, 5)) for name, a, b in (("pq", p, q), ("qr", q, r), ("pr", p, r))}
    assert earth_movers_distance(q, p, (4, 5)) == pytest.approx(d["pq"], abs=ATOL)
    assert earth_movers_distance(7 * p, 0.1 * q, (4, 5)) == pytest.approx(d["pq"], abs=ATOL)
    assert d["pr"] <= d["pq"] + d["qr"] + ATOL
    assert earth_movers_distance(p, p, (4, 5)) == 0
    assert 0 < d["pq"] <= np.sqrt(2)


def test_moving_a_picture_by_a_cell_costs_a_cell_and_turning_it_nothing():
    p = np.zeros((8, 8))
    p[1:4, 2:5] = np.random.default_rng(0).random((3, 3))
    assert earth_movers_distance(p, np.roll(p, 2, axis=1), (8, 8)) == pytest.approx(2 / 8, abs=ATOL)
    q = np.random.default_rng(1).random((8, 8))
    turned = earth_movers_distance(np.rot90(p), np.rot90(q), (8, 8))
    assert turned == pytest.approx(earth_movers_distance(p, q, (8, 8)), abs=ATOL)


@pytest.mark.parametrize("bad", [[0, 0, 0, 0], [1, -1, 1, 1], [1, np.nan, 1, 1], [1, np.inf, 1, 1]])
def test_undefined_maps_are_nan_and_other_shapes_raise(bad):
    assert np.isnan(earth_movers_distance(bad, [1, 1, 1, 1], (2, 2)))
    assert np.isnan(earth_movers_distance([1, 1, 1, 1], bad, (2, 2)))
    for p, q in (([1] * 4, [1] * 4), ([1] * 6, [1] * 4), ([1] * 4, [1] * 6)):
        with pytest.raises(ValueError, match="expected 2 × 3"):
            earth_movers_distance(p, q, (2, 3))


def test_a_fine_raster_is_summed_into_blocks_and_keeps_its_mass():
    fine = np.arange(32 * 24, dtype=float)
    coarse, shape = coarsened(fine, (32, 24))
    assert shape == (16, 16)
    assert coarse.sum() == pytest.approx(fine.sum())
    assert coarsened(fine.reshape(32, 24), (32, 24), 40)[0].tolist() == fine.tolist()
    even, _ = coarsened(np.arange(64.0), (8, 8), 4)
    blocks = np.arange(64.0).reshape(4, 2, 4, 2).sum((1, 3)).ravel()
    np.testing.assert_allclose(even, blocks, atol=1e-10)


def test_only_the_sides_that_are_too_fine_are_coarsened():
    fine = np.arange(32 * 3, dtype=float)
    for shape, expected in (
        ((32, 3), (fine.reshape(16, 2, 3).sum(1), (16, 3))),
        ((3, 32), (fine.reshape(3, 16, 2).sum(2), (3, 16))),
    ):
        coarse, found = coarsened(fine, shape)
        assert found == expected[1]
        np.testing.assert_allclose(coarse, expected[0].ravel(), atol=1e-10)


def test_coarsening_moves_the_distance_by_less_than_half_a_diagonal_of_its_cells():
    # No mass moves farther than from its place to its cell's centre, in either map; of 20 such pairs at most 0.008.
    for seed in range(3):
        p, q = maps((24, 24), seed)
        (a, shape), (b, _) = coarsened(p, (24, 24)), coarsened(q, (24, 24))
        exact = earth_movers_distance(p, q, (24, 24))
        assert abs(exact - earth_movers_distance(a, b, shape)) < np.sqrt(2) / 16
