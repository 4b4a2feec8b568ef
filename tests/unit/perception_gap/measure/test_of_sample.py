"""What is measured of a sample's maps, by hand: of one map, of latent rows, and with its sinks taken out."""

import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.measure.of_sample import (
    latent_values,
    normalised,
    of_maps,
    of_words,
    region_of,
    sink_values,
    unit_boxes,
)
from perception_gap.measure.teacher import Comparison
from perception_gap.metrics import columns
from perception_gap.metrics.measure import OfMap
from perception_gap.runs.rows import geometry_fields

ROW = {
    "sample_id": "s",
    "boxes": [0.0, 0.0, 2.0, 1.0],
    "box_images": [0],
    "heights": [2],
    "widths": [2],
} | geometry_fields(TokenGeometry.grid(2, 2))
RAW = np.array([0.1, 0.2, 0.3, 0.4], np.float32) / 2  # raw: a map need not sum to 1


OF_MAPS_WITHOUT_SINKS = [f"{m.name}_without_sinks" for m in columns.measures("without sinks", OfMap)]


def without_sinks(sinks, raw=RAW):
    return sink_values(ROW, region_of(ROW), {"own": raw, "sinks": np.array(sinks, np.uint8)}, None)


def own_values(row, attention):
    return of_maps(row, {"own": attention}, None)


def test_the_share_and_the_map_without_its_sinks_by_hand():
    kept = without_sinks([0, 0, 0, 1])
    assert kept["n_sinks"] == 1
    assert kept["sink_share"] == pytest.approx(0.4)
    # The box is the upper half: 0.3 of what is left, 0.6; a uniform map has half of its mass there.
    assert kept["focus_score_without_sinks"] == pytest.approx(0.5)
    assert kept["focus_lift_without_sinks"] == pytest.approx(1)
    assert kept["entropy_without_sinks"] == pytest.approx(-sum(p * np.log(p) for p in (1 / 6, 2 / 6, 3 / 6)))
    assert kept["salient_regions_without_sinks"] == 1  # above 1.5 × a mean of 1/4: the third alone
    assert set(kept) == {"n_sinks", "sink_share", *OF_MAPS_WITHOUT_SINKS}  # no teacher
    assert "focus_chance_without_sinks" not in kept


def test_no_sinks_change_nothing_all_sinks_leave_nothing():
    none, every = without_sinks([0, 0, 0, 0]), without_sinks([1, 1, 1, 1])
    assert (none["n_sinks"], none["sink_share"]) == (0, 0)
    assert none["focus_score_without_sinks"] == pytest.approx(0.3)
    assert (every["n_sinks"], every["sink_share"]) == (4, pytest.approx(1))
    assert all(np.isnan(every[name]) for name in OF_MAPS_WITHOUT_SINKS)


def test_a_map_without_mass_has_no_share_and_unknown_sinks_no_entry():
    assert np.isnan(without_sinks([0, 0, 0, 0], np.zeros(4, np.float32))["sink_share"])
    assert np.isnan(without_sinks([0, 1, 0, 0], np.full(4, np.nan, np.float32))["sink_share"])
    assert "n_sinks" not in own_values(ROW, RAW)


def test_one_map_by_hand():
    values = own_values(ROW, np.array([0.0, 3.0, 1.0, 0.0]))
    assert values == {
        "focus_score": 0.75,
        "focus_chance": 0.5,
        "focus_lift": 1.5,
        "pointing_game": 1.0,
        "entropy": pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)),
        "relative_entropy": pytest.approx((-0.75 * np.log(0.75) - 0.25 * np.log(0.25)) / np.log(4)),
        "salient_regions": 1.0,
        "salient_fraction": 0.25,
    }
    without_boxes = own_values(ROW | {"boxes": [], "box_images": []}, np.ones(4))
    undefined = {"focus_score", "focus_chance", "focus_lift", "pointing_game"}
    assert {name for name, value in without_boxes.items() if np.isnan(value)} == undefined


def test_a_box_counts_on_its_own_picture_alone():
    two = TokenGeometry.concatenate([TokenGeometry.grid(2, 2), TokenGeometry.grid(1, 2, image=1)])
    row = geometry_fields(two) | {"boxes": [0.0, 0.0, 4.0, 1.0], "box_images": [1], "heights": [2, 2], "widths": [2, 4]}
    values = own_values(row, np.array([2.0, 1, 2, 1, 4, 0]))
    # The upper half of the second picture, whose two tokens are as high as it is.
    assert values["focus_score"] == pytest.approx(0.2)
    assert values["focus_chance"] == pytest.approx(1 / 6)
    assert values["pointing_game"] == 1


def test_a_lift_is_undefined_where_chance_is_none():
    # Both tokens of the picture lie beside the box.
    half = geometry_fields(TokenGeometry.grid(1, 2, within=(0, 0.5, 1, 1)))
    values = own_values(ROW | half, np.array([1.0, 1.0]))
    assert values["focus_chance"] == 0
    assert values["focus_score"] == 0
    assert np.isnan(values["focus_lift"])


def test_boxes_of_pixels_become_fractions_of_their_own_picture():
    row = {
        "boxes": [1.0, 2.0, 3.0, 4.0, 0.0, 5.0, 10.0, 10.0],
        "box_images": [0, 1],
        "heights": [4, 20],
        "widths": [4, 10],
    }
    np.testing.assert_allclose(unit_boxes(row), [[0.25, 0.5, 0.75, 1], [0, 0.25, 1, 0.5]])
    assert unit_boxes(row | {"boxes": [], "box_images": []}).shape == (0, 4)


def test_every_row_is_scaled_by_itself_and_one_without_mass_stays_undefined():
    raw = np.array([[1, 3], [0, 0], [2, 2]], np.float32)
    np.testing.assert_array_equal(normalised(raw), [[0.25, 0.75], [np.nan, np.nan], [0.5, 0.5]])
    assert np.isnan(normalised(np.array([1.0, -1.0]))).all()


LATENTS = np.array([[0.1, 0.0, 0.0, 0.1], [0.0, 0.4, 0.0, 0.0], [0.0, 0.0, 0.2, 0.2]])


def test_latent_rows_are_measured_as_their_mean_and_as_the_last_of_them():
    values = latent_values(ROW, region_of(ROW), LATENTS, None)
    # The mean is (1, 4, 2, 3) / 10, the last row (0, 0, 1, 1) / 2; the box is the upper half.
    assert values["latent_focus_score"] == pytest.approx(0.5)
    assert values["latent_entropy"] == pytest.approx(-sum(p * np.log(p) for p in (0.1, 0.4, 0.2, 0.3)))
    assert values["last_latent_focus_score"] == 0
    assert values["last_latent_entropy"] == pytest.approx(np.log(2))
    names = ("focus_score", "entropy")
    assert set(values) == {f"{rows}{name}" for rows in ("latent_", "last_latent_") for name in names}
    assert of_maps(ROW, {"own": RAW, "latents": LATENTS}, None) == own_values(ROW, RAW) | values


class StoredTeacher:
    """Two pictures of a stored run: this one, looked at evenly, and another one that is looked at in one corner."""

    def __init__(self):
        self.maps = {"s": np.full(4, 0.25), "other": np.array([0.0, 0.0, 0.0, 1.0])}

    def __contains__(self, sample_id):
        return sample_id in self.maps

    def row(self, sample_id):
        return {"status": "ok", "question": "q", "image_hash": "h", "options": []}

    def geometry(self, sample_id):
        return TokenGeometry.grid(2, 2)

    def map(self, sample_id, kind):
        return self.maps[sample_id]

    def sinks(self, sample_id):
        return np.array([False, False, True, False])


def comparison():
    rows = [
        ROW
        | {
            "sample_id": i,
            "task": "t",
            "cluster": i,
            "status": "ok",
            "shared_text": "x",
            "question": "q",
            "image_hash": "h",
            "options": [],
        }
        for i in ("s", "other")
    ]
    return Comparison(rows, StoredTeacher(), "own", 0, (4, 4))


def test_latent_rows_diverge_from_the_teachers_map_of_the_same_picture_and_of_another():
    values = latent_values(ROW, region_of(ROW), LATENTS, comparison())
    assert values["latent_kl"] == pytest.approx(-sum(np.log(4 * p) for p in (0.1, 0.4, 0.2, 0.3)) / 4, abs=1e-4)
    assert values["latent_kl_floor"] == pytest.approx(-np.log(0.3), abs=1e-4)
    assert values["last_latent_kl_floor"] == pytest.approx(np.log(2), abs=1e-4)
    assert values["last_latent_kl"] > 5  # half of the teacher's gaze lies where the last latent row is blind


def test_without_sinks_the_shared_map_is_compared_and_the_own_one_measured():
    arrays = {"own": RAW, "shared": np.array([1.0, 1.0, 7.0, 2.0]), "sinks": np.array([0, 0, 1, 0], np.uint8)}
    values = sink_values(ROW, region_of(ROW), arrays, comparison())
    # The teacher's third token is a sink too: thirds against (1, 1, 2) / 4.
    assert values["similarity_without_sinks"] == pytest.approx(1 / 4 + 1 / 4 + 1 / 3)
    assert values["focus_score_without_sinks"] == pytest.approx(3 / 7)
    assert values["n_sinks"] == 1


def test_words_are_measured_on_both_texts_and_compared_on_the_shared_one():
    row = ROW | {
        "own_words": ["star"],
        "own_categories": ["object"],
        "shared_words": ["red"],
        "shared_categories": ["attribute"],
    }
    arrays = {"own_words": RAW[None], "shared_words": LATENTS[:1]}
    cosine = {"cosine_distance": np.array([0.25]), "cosine_floor": np.array([0.5])}
    own, shared = of_words(row, arrays, None, cosine)
    assert (own["text"], own["word"], own["category"], own["word_index"]) == ("own", "star", "object", 0)
    assert own["focus_score"] == pytest.approx(0.3)
    assert "cosine_distance" not in own
    assert shared["focus_score"] == pytest.approx(0.5)
    assert (shared["cosine_distance"], shared["cosine_floor"]) == (0.25, 0.5)
    assert of_words(row, {"own_words": RAW[None]}, None, cosine) == [own]
