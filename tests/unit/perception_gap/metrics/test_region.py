"""Boxes over tokens: what is checked once for all maps, and that it is the same for each of them."""

import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.metrics.region import Region

GRID = TokenGeometry.grid(2, 2)


def test_share_chance_lift_and_peak_by_hand():
    upper = Region(GRID, [[0, 0, 1, 0.5]])
    assert upper.inside.tolist() == [1, 1, 0, 0]
    assert upper.chance == 0.5
    assert upper.share([1, 2, 1, 0]) == 0.75
    assert upper.lift([1, 2, 1, 0]) == 1.5
    assert upper.peak_inside([1, 2, 1, 0]) == 1
    assert upper.peak_inside([2, 0, 2, 1]) == 0.5  # two peaks, one of them inside


def test_boxes_without_an_area_are_no_boxes():
    for boxes in ([], [[0.2, 0.2, 0.2, 0.9]], [[1.5, 0, 2, 1]]):
        region = Region(GRID, boxes)
        assert len(region.boxes) == 0
        values = region.share(np.ones(4)), region.chance, region.lift(np.ones(4)), region.peak_inside(np.ones(4))
        assert np.isnan(values).all()


def test_a_map_without_mass_is_undefined_and_one_of_other_tokens_refused():
    region = Region(GRID, [[0, 0, 1, 0.5]])
    assert np.isnan([region.share(np.zeros(4)), region.lift(np.zeros(4)), region.peak_inside([0, np.nan, 1, 0])]).all()
    for function in (region.share, region.lift, region.peak_inside):
        with pytest.raises(ValueError, match=r"shape \(3,\) for 4 image tokens: expected \(4,\)"):
            function(np.ones(3))


@pytest.mark.parametrize(
    ("boxes", "images", "message"),
    [
        ([0, 0, 1, 1], None, r"boxes of shape \(4,\)"),
        ([[0, 0, 1, 1]], [0, 0], r"images of shape \(2,\) for 1 boxes"),
        ([[0, 0, 1, 1]], [1], r"boxes on images \[1\]: the prompt has images 0..0"),
    ],
)
def test_boxes_that_do_not_fit_are_refused_at_once(boxes, images, message):
    with pytest.raises(ValueError, match=message):
        Region(GRID, boxes, images)
