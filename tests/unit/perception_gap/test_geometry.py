import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perception_gap.geometry import TokenGeometry

# Products of a few float64 factors, summed over at most some hundred tokens.
EXACT = 1e-12
# No time limits: the machine may be busy.
properties = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def layouts(draw):
    """Geometries of two images with overlapping, empty and cell-sharing rectangles, and a value for each token."""
    # Sixtieths meet the cells of many rasters exactly; the floats meet none.
    edge = st.one_of(st.integers(0, 60).map(lambda i: i / 60), st.floats(0, 1))
    token = st.tuples(edge, edge, edge, edge, st.integers(0, 1), st.one_of(st.just(0.0), st.floats(1e-60, 1e3)))
    columns = np.array(draw(st.lists(token, min_size=1, max_size=12)))
    boxes = np.concatenate(
        [columns[:, :4].reshape(-1, 2, 2).min(axis=1), columns[:, :4].reshape(-1, 2, 2).max(axis=1)], 1
    )
    image, values = columns[:, 4].astype(int), columns[:, 5]
    return TokenGeometry(boxes, image), values


def random_boxes(seed: int, n: int) -> np.ndarray:
    corners = np.random.default_rng(seed).random((n, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def naive_raster(geometry, values, rows, cols):
    """Every token's value, pixel by pixel, by the share of its area in each."""
    raster = np.zeros((geometry.n_images, rows, cols))
    for value, (x0, y0, x1, y1), image in zip(values, geometry.boxes, geometry.image, strict=True):
        area = (x1 - x0) * (y1 - y0)
        for r in range(rows):
            for c in range(cols):
                width = min(x1, (c + 1) / cols) - max(x0, c / cols)
                height = min(y1, (r + 1) / rows) - max(y0, r / rows)
                if area > 0 and width > 0 and height > 0:
                    raster[image, r, c] += value * width * height / area
    return raster


def naive_overlap(geometry, boxes, images, cells=60):
    """Share of cells × cells sample points of each token that lie in any box of its image."""
    share = np.zeros(len(geometry))
    steps = (np.arange(cells) + 0.5) / cells
    for i, ((x0, y0, x1, y1), image) in enumerate(zip(geometry.boxes, geometry.image, strict=True)):
        if (x1 - x0) * (y1 - y0) <= 0:
            continue
        x, y = np.meshgrid(x0 + steps * (x1 - x0), y0 + steps * (y1 - y0))
        hit = np.zeros_like(x, dtype=bool)
        for box, owner in zip(boxes, images, strict=True):
            if owner == image:
                hit |= (box[0] <= x) & (x <= box[2]) & (box[1] <= y) & (y <= box[3])
        share[i] = hit.mean()
    return share


# --- construction


def test_a_grid_runs_along_rows_from_the_top_left():
    geometry = TokenGeometry.grid(2, 4)
    assert len(geometry) == 8
    assert geometry.boxes[0].tolist() == [0, 0, 0.25, 0.5]
    assert geometry.boxes[1].tolist() == [0.25, 0, 0.5, 0.5]
    assert geometry.boxes[4].tolist() == [0, 0.5, 0.25, 1]
    assert geometry.image.tolist() == [0] * 8
    assert geometry.grid_shape == (2, 4)
    np.testing.assert_allclose(geometry.areas, 1 / 8, atol=EXACT)


def test_a_grid_within_a_tile_fills_the_tile_and_is_no_whole_raster():
    geometry = TokenGeometry.grid(3, 2, image=1, within=(0.5, 0.25, 1, 0.75))
    assert geometry.boxes[:, :2].min(axis=0).tolist() == [0.5, 0.25]
    assert geometry.boxes[:, 2:].max(axis=0).tolist() == [1, 0.75]
    assert geometry.areas.sum() == pytest.approx(0.25, abs=EXACT)
    assert geometry.grid_shape is None
    assert geometry.n_images == 2


def test_pieces_concatenate_in_prompt_order():
    base, separator, other = TokenGeometry.grid(1, 2), TokenGeometry.nowhere(1), TokenGeometry.grid(1, 1, image=1)
    geometry = TokenGeometry.concatenate([base, separator, other])
    assert geometry.areas.tolist() == [0.5, 0.5, 0, 1]
    assert geometry.image.tolist() == [0, 0, 0, 1]
    assert geometry.grid_shape is None
    assert TokenGeometry.concatenate([base]).grid_shape == (1, 2)


def test_geometries_are_equal_by_their_rectangles_and_images():
    assert TokenGeometry.grid(2, 2) == TokenGeometry.grid(2, 2)
    assert TokenGeometry.grid(2, 2) != TokenGeometry.grid(2, 2, image=1)
    assert TokenGeometry.grid(1, 4) != TokenGeometry.grid(2, 2)
    assert (TokenGeometry.grid(1, 1) == "grid") is False
    same_places = TokenGeometry.grid(2, 2).boxes
    assert TokenGeometry(same_places, [0] * 4) == TokenGeometry.grid(2, 2)  # whether or not it is known to be a raster


def test_rectangles_are_clipped_to_the_image():
    assert TokenGeometry([[-0.5, 0.5, 0.5, 1.5]], [0]).boxes.tolist() == [[0, 0.5, 0.5, 1]]


def test_whole_numbers_and_half_precision_are_computed_in_double():
    geometry = TokenGeometry([[0, 0, 1, 1]] * 3001, np.zeros(3001))
    assert (geometry.boxes.dtype, geometry.image.dtype) == (np.float64, np.int64)
    assert geometry.n_images == 1
    nowhere = TokenGeometry.nowhere(3001)
    assert nowhere.lost_mass(np.ones(3001, np.float16)) == 3001  # a sum in half precision ends at 3000 or before
    assert TokenGeometry.nowhere(0).n_images == 0


def test_errors_name_what_was_given_and_what_was_expected():
    with pytest.raises(ValueError, match="a grid of 0 × 3 tokens: expected at least 1 × 1"):
        TokenGeometry.grid(0, 3)
    with pytest.raises(ValueError, match="a grid of 3 × 0 tokens"):
        TokenGeometry.grid(3, 0)
    with pytest.raises(ValueError, match=r"boxes \(4,\), image \(4,\)"):
        TokenGeometry(np.zeros(4), np.zeros(4))
    for box in ([0.5, 0, 0.4, 1], [0, 0.5, 1, 0.4], [0, 0, np.nan, 1]):
        with pytest.raises(ValueError, match="expected xyxy with x0 <= x1 and y0 <= y1"):
            TokenGeometry([[0, 0, 1, 1], box], [0, 0])
    with pytest.raises(ValueError, match=r"boxes \(2, 3\), image \(2,\): expected \[N, 4\] and \[N\]"):
        TokenGeometry(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ValueError, match=r"boxes \(2, 4\), image \(3,\)"):
        TokenGeometry(np.zeros((2, 4)), np.zeros(3))
    for method in (TokenGeometry.grid(2, 2).lost_mass, lambda v: TokenGeometry.grid(2, 2).rasterize(v, 2, 2)):
        with pytest.raises(ValueError, match=r"values of shape \(3,\) for 4 image tokens: expected \(4,\)"):
            method([1, 2, 3])


# --- rasters


def test_a_raster_of_the_own_grid_is_the_map_itself():
    values = np.arange(12.0)
    np.testing.assert_allclose(TokenGeometry.grid(3, 4).rasterize(values, 3, 4), values.reshape(3, 4), atol=EXACT)


def test_a_value_spreads_evenly_over_its_rectangle():
    # One token over the left half, cut into 2 × 4 cells: two columns of two rows share its 8.
    raster = TokenGeometry([[0, 0, 0.5, 1]], [0]).rasterize([8], 2, 4)
    assert raster.tolist() == [[2, 2, 0, 0], [2, 2, 0, 0]]
    # Coarser: 3 columns onto 2, the middle one shared.
    np.testing.assert_allclose(TokenGeometry.grid(1, 3).rasterize([1, 2, 3], 1, 2), [[2, 4]], atol=EXACT)


def test_several_images_have_a_raster_each():
    geometry = TokenGeometry.concatenate([TokenGeometry.grid(1, 2), TokenGeometry.grid(1, 1, image=1)])
    assert geometry.rasterize([1, 2, 4], 1, 2).tolist() == [[[1, 2]], [[2, 2]]]


def test_the_mass_of_tokens_that_cover_nothing_is_lost_and_told():
    geometry = TokenGeometry.concatenate([TokenGeometry.grid(1, 2), TokenGeometry.nowhere(2)])
    values = [1, 2, 4, 8]
    assert geometry.lost_mass(values) == 12
    assert geometry.rasterize(values, 3, 5).sum() == pytest.approx(3, abs=EXACT)
    assert TokenGeometry.nowhere(2).rasterize([1, 1], 2, 2).tolist() == [[0, 0], [0, 0]]


@properties
@given(layouts(), st.integers(1, 13), st.integers(1, 13))
def test_raster_and_lost_mass_add_up_to_the_values(layout, rows, cols):
    geometry, values = layout
    found = geometry.rasterize(values, rows, cols).sum() + geometry.lost_mass(values)
    assert found == pytest.approx(values.sum(), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (4, 6), (7, 5)])
def test_a_raster_agrees_with_a_naive_loop_over_pixels(rows, cols):
    geometry = TokenGeometry.concatenate(
        [
            TokenGeometry.grid(3, 4),
            TokenGeometry.nowhere(2),
            TokenGeometry.grid(2, 3, image=1),
            TokenGeometry(random_boxes(0, 9), np.arange(9) % 2),
        ]
    )
    values = np.random.default_rng(1).random(len(geometry))
    expected = naive_raster(geometry, values, rows, cols)
    np.testing.assert_allclose(geometry.rasterize(values, rows, cols), expected, atol=EXACT)


def test_a_raster_is_linear_and_ignores_the_order_of_tokens():
    geometry = TokenGeometry(random_boxes(2, 15), np.zeros(15))
    values, order = np.random.default_rng(0).random(15), np.random.default_rng(1).permutation(15)
    raster = geometry.rasterize(values, 6, 6)
    shuffled = TokenGeometry(geometry.boxes[order], geometry.image[order])
    np.testing.assert_allclose(shuffled.rasterize(values[order], 6, 6), raster, atol=EXACT)
    np.testing.assert_allclose(geometry.rasterize(3 * values, 6, 6), 3 * raster, atol=EXACT)


# --- overlap with boxes


def test_overlap_is_the_part_of_each_token_inside_the_box():
    overlap = TokenGeometry.grid(2, 2).overlap([[0.25, 0, 1, 0.5]])
    np.testing.assert_allclose(overlap, [0.5, 1, 0, 0], atol=EXACT)


def test_the_union_of_boxes_is_not_counted_twice():
    # Two boxes of width 0.6 overlap by 0.2: together the whole width, half of the height.
    overlap = TokenGeometry.grid(1, 1).overlap([[0, 0, 0.6, 0.5], [0.4, 0, 1, 0.5]])
    np.testing.assert_allclose(overlap, [0.5], atol=EXACT)
    # A cross: 2 × 0.2 less the square of 0.04 in the middle.
    overlap = TokenGeometry.grid(1, 1).overlap([[0.4, 0, 0.6, 1], [0, 0.4, 1, 0.6]])
    np.testing.assert_allclose(overlap, [0.36], atol=EXACT)


def test_overlap_stays_on_the_image_of_the_box():
    geometry = TokenGeometry.concatenate([TokenGeometry.grid(1, 2), TokenGeometry.grid(1, 2, image=1)])
    left, right = [0, 0, 0.5, 1], [0.5, 0, 1, 1]
    assert geometry.overlap([left, right], images=[0, 1]).tolist() == [1, 0, 0, 1]
    assert geometry.overlap([left]).tolist() == [1, 0, 0, 0]


def test_no_box_and_no_area_overlap_nothing():
    assert TokenGeometry.grid(1, 2).overlap([]).tolist() == [0, 0]
    assert TokenGeometry.grid(1, 2).overlap([[0.2, 0, 0.2, 1]]).tolist() == [0, 0]
    assert TokenGeometry.nowhere(2).overlap([[0, 0, 1, 1]]).tolist() == [0, 0]


@pytest.mark.parametrize("n_boxes", [1, 3, 8])
def test_overlap_agrees_with_sample_points_in_many_overlapping_boxes(n_boxes):
    geometry = TokenGeometry.concatenate(
        [
            TokenGeometry.grid(3, 3),
            TokenGeometry.nowhere(1),
            TokenGeometry.grid(2, 2, image=1),
            TokenGeometry(random_boxes(5, 6), np.arange(6) % 2),
        ]
    )
    boxes, images = random_boxes(n_boxes, n_boxes), np.arange(n_boxes) % 2
    expected = naive_overlap(geometry, boxes, images)
    # Points are 1/60 of a token apart: each edge is misplaced by up to 1/120, and a few edges cross a token.
    np.testing.assert_allclose(geometry.overlap(boxes, images), expected, atol=0.03)


@properties
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_overlap_lies_between_0_and_1_ignores_the_order_of_boxes_and_grows_with_them(seed, n):
    geometry, boxes = TokenGeometry(random_boxes(seed, 8), np.zeros(8)), random_boxes(seed + 1, n)
    overlap = geometry.overlap(boxes)
    assert (overlap >= 0).all()
    assert (overlap <= 1 + EXACT).all()
    np.testing.assert_allclose(geometry.overlap(boxes[::-1]), overlap, atol=EXACT)
    assert (overlap >= geometry.overlap(boxes[:-1]) - EXACT).all()
