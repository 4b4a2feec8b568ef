"""What a kept sample stores, and when it stores none."""

from __future__ import annotations

import numpy as np
import pytest

from lavit.traces import TraceSettings
from lavit.traces.look import TeacherLook
from lavit.traces.measure import gaze_fields, signal
from perception_gap.errors import UsageError
from perception_gap.geometry import TokenGeometry


def seen(attention, v_sem=(1.0, 2.0), n: int = 4) -> TeacherLook:
    geometry = TokenGeometry.grid(1, n)
    weights = None if attention is None else np.asarray(attention, np.float32)
    return TeacherLook("red", geometry, weights, 0.5, np.asarray(v_sem, np.float32))


def test_a_map_that_points_nowhere_is_said_and_never_stored_as_zeros():
    assert gaze_fields(seen([0.2] * 4), 8) == {"error": "the map is constant: no gaze target"}
    assert gaze_fields(seen(None), 8) == {"error": "the answer is empty: no map"}
    fields, arrays = signal("k", seen([0.2] * 4), TraceSettings())
    assert "gaze_index" not in fields
    assert arrays["k/v_sem"].dtype == np.float16


def test_weights_are_renormalised_before_rounding_and_what_rounds_to_nothing_is_left_out():
    fields = gaze_fields(seen([0, 3, 1, 1e-9]), 2)
    assert fields["gaze_index"] == [1, 2]
    assert fields["gaze_weight"] == [0.75, 0.25]
    assert gaze_fields(seen([0, 3, 1, 1e-9]), 8)["gaze_index"] == [1, 2]
    assert fields["gaze_boxes"] == [0.25, 0, 0.5, 1, 0.5, 0, 0.75, 1]
    assert fields["gaze_images"] == [0, 0]


def test_what_the_format_cannot_hold_fails_the_sample():
    attention = np.zeros(40_000)
    attention[32_767] = 1
    assert gaze_fields(seen(attention, n=40_000), 8)["gaze_index"] == [32_767]
    attention[32_768] = 1
    assert "32,768" in gaze_fields(seen(attention, n=40_000), 8)["error"]
    fields, _ = signal("k", seen([1, 2, 3, 4], v_sem=(1.0, 7e4)), TraceSettings())
    assert fields["status"] == "failed"
    assert "half precision" in fields["error"]


@pytest.mark.parametrize(
    "wrong",
    [{"filters": ("beauty",)}, {"v_sem": "max"}, {"without_boxes": "maybe"}, {"min_focus": 2.0}, {"top_k": 0}],
)
def test_settings_outside_their_choices_are_refused(wrong):
    with pytest.raises(UsageError, match="expected"):
        TraceSettings(**wrong)
