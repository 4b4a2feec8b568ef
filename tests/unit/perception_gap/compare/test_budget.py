"""What every model of a comparison gets to see of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from perception_gap.compare.budget import common_budget
from perception_gap.data.images import shrink
from perception_gap.errors import UsageError
from perception_gap.models.loading import load


@pytest.fixture
def families(tiny_checkpoint):
    # Largest pictures: 40 tokens of 28 × 28, a square of 84 that is cropped from, tiles of at most 112 × 112.
    return {kind: load(tiny_checkpoint(kind)).family for kind in ("qwen2_5_vl", "llava", "llava_next")}


def test_the_smallest_model_sets_the_budget_and_is_left_alone(families):
    areas = {name: family.largest_area() for name, family in families.items()}
    assert areas == {"qwen2_5_vl": 40 * 28 * 28, "llava": 84 * 84, "llava_next": 112 * 112}
    budgets, line = common_budget(families)
    assert budgets == {"qwen2_5_vl": 7056, "llava": None, "llava_next": 7056}
    assert line == (
        "pictures: at most 7,056 pixels for every model, as llava sees no more (--pixels own leaves each its own)"
    )


def test_own_and_given_budgets(families):
    assert common_budget(families, "own") == (dict.fromkeys(families), "pictures: each model its own resolution")
    budgets, line = common_budget(families, "10000")
    assert budgets == {"qwen2_5_vl": 10000, "llava": None, "llava_next": 10000}
    assert "at most 10,000 pixels" in line
    for wrong in ("0", "-5", "large", "1e4", ""):
        with pytest.raises(UsageError, match=f'--pixels {wrong!r}: expected "same", "own" or a number of pixels'):
            common_budget(families, wrong)


@pytest.mark.parametrize("size", [(640, 480), (100, 3000), (7, 7), (1, 50), (317, 211)])
@pytest.mark.parametrize("most", [1, 50, 7056, 10**7])
def test_a_shrunk_picture_keeps_its_shape_and_its_budget(size, most):
    shrunk = shrink(Image.new("RGB", size), most)
    assert shrunk.width * shrunk.height <= max(most, 1)
    if size[0] * size[1] <= most:
        assert shrunk.size == size
    elif min(shrunk.size) > 10:
        assert shrunk.width / shrunk.height == pytest.approx(size[0] / size[1], rel=0.1)
        assert shrunk.width * shrunk.height > 0.9 * most


def test_shrinking_by_two_averages_and_nothing_is_done_without_a_budget():
    picture = Image.fromarray(np.kron(np.array([[0, 200], [100, 50]], np.uint8), np.ones((8, 8), np.uint8)))
    assert shrink(picture, None) is picture
    small = np.asarray(shrink(picture, 64))
    assert small.shape == (8, 8)
    assert small[1, 1] == pytest.approx(0, abs=1)  # far from the edges a flat patch keeps its value
    assert small[1, 6] == pytest.approx(200, abs=1)
    with pytest.raises(ValueError, match="most 0"):
        shrink(picture, 0)
