"""Which box is the right answer's, checked against what was drawn; and the share of a map on it, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from perception_gap.data.scenes import scene
from perception_gap.geometry import TokenGeometry
from scripts.leak import right_box, shares


@pytest.mark.parametrize("index", range(12))
def test_the_right_box_is_the_one_that_the_answer_names(index):
    depth = scene("relative_depth", index)
    objects = [t for t in depth.things if t.shape not in "ab"][:2]
    row = pd.Series({"task": depth.task, "reference": depth.answer})
    nearer = min(objects, key=lambda t: t.depth or 0.0)
    assert depth.boxes[right_box(row)] == pytest.approx(np.clip(nearer.box, 0, 256))

    surface = scene("relative_reflectance", index)
    marks = {t.shape: t.albedo for t in surface.things if t.shape in ("a", "b")}
    right = right_box(pd.Series({"task": surface.task, "reference": surface.answer}))
    assert marks["ab"[right]] < marks["ab"[1 - right]]


def test_the_share_on_each_object_by_hand():
    row = pd.Series({"task": "relative_depth", "reference": "point a is closer", "box_images": [0, 0],
                     "boxes": [0, 0, 5, 10, 5, 0, 10, 5], "heights": [10], "widths": [10]})  # fmt: skip
    attention = np.array([1.0, 4.0, 2.0, 3.0])  # of the quarters: left top, right top, left bottom, right bottom
    assert shares(attention, TokenGeometry.grid(2, 2), row) == (pytest.approx(0.4), pytest.approx(0.3))
