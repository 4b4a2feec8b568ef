"""What is measured of a sample's maps with its sinks taken out, by hand."""

import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.measures import WITHOUT_SINKS, sink_metrics
from perception_gap.store import geometry_fields

ROW = {
    "sample_id": "s", "boxes": [0.0, 0.0, 2.0, 1.0], "box_images": [0], "heights": [2], "widths": [2],
} | geometry_fields(TokenGeometry.grid(2, 2))  # fmt: skip
RAW = np.array([0.1, 0.2, 0.3, 0.4], np.float32) / 2  # raw: a map need not sum to 1


def found(sinks, raw=RAW):
    return sink_metrics(ROW, {"own": raw, "sinks": np.array(sinks, np.uint8)}, None)


def test_the_share_and_the_map_without_its_sinks_by_hand():
    one = found([0, 0, 0, 1])
    assert one["n_sinks"] == 1
    assert one["sink_share"] == pytest.approx(0.4)
    # The box is the upper half: 0.3 of what is left, 0.6; a uniform map has half of its mass there.
    assert one["focus_score_without_sinks"] == pytest.approx(0.5)
    assert one["focus_lift_without_sinks"] == pytest.approx(1)
    assert one["entropy_without_sinks"] == pytest.approx(-sum(p * np.log(p) for p in (1 / 6, 2 / 6, 3 / 6)))
    assert one["salient_regions_without_sinks"] == 1  # above 1.5 × a mean of 1/4: the third alone
    assert np.isnan(one["kl_without_sinks"])  # no teacher
    assert set(one) == {"n_sinks", "sink_share", *WITHOUT_SINKS}


def test_no_sinks_change_nothing_all_sinks_leave_nothing():
    none, every = found([0, 0, 0, 0]), found([1, 1, 1, 1])
    assert (none["n_sinks"], none["sink_share"]) == (0, 0)
    assert none["focus_score_without_sinks"] == pytest.approx(0.3)
    assert (every["n_sinks"], every["sink_share"]) == (4, pytest.approx(1))
    assert all(np.isnan(every[name]) for name in WITHOUT_SINKS)


def test_a_map_without_mass_has_no_share_and_unknown_sinks_no_entry():
    assert np.isnan(found([0, 0, 0, 0], np.zeros(4, np.float32))["sink_share"])
    assert np.isnan(found([0, 1, 0, 0], np.full(4, np.nan, np.float32))["sink_share"])
    assert sink_metrics(ROW, {"own": RAW}, None) == {}
