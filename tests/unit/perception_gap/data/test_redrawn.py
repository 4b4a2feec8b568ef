"""Scenes without what is in their boxes: nothing else moves, and no scene changed."""

from hashlib import sha256

import numpy as np
import pytest

from perception_gap.data.redrawn import WITHOUT_OBJECT, without_boxed
from perception_gap.data.scenes import TASKS, scene

# sha256 over pixels and things, before painting could skip anything: heldout 0 of seed 0, train 7 of seed 3.
UNCHANGED = {
    "attribute": ("21869544bd9a8924", "4b0c143de10b0e3a"),
    "relative_depth": ("d3146d3162986bc2", "5961afb759c5d29d"),
    "relative_reflectance": ("0131eb92e182a5c7", "727162dd1bfac012"),
    "spatial_relation": ("35b0e245ead10b79", "410ca05075e5a830"),
    "pairs": ("27ab1b5899a67b90", "ee8f32ec85ca4f8a"),
    "iq": ("a1609c1891e17962", "c383b9825f18f11c"),
}
DRAWN = [task for task in TASKS if task not in WITHOUT_OBJECT]


def digest(s) -> str:
    return sha256(s.image.tobytes() + repr(s.things).encode()).hexdigest()[:16]


@pytest.mark.parametrize("task", TASKS)
def test_scenes_are_bit_for_bit_what_they_were(task):
    assert (digest(scene(task, 0)), digest(scene(task, 7, split="train", seed=3))) == UNCHANGED[task]


@pytest.mark.parametrize("task", DRAWN)
def test_every_pixel_outside_the_boxed_things_stays_with_its_noise(task):
    for index in range(6):
        whole, without = scene(task, index), scene(task, index, boxed=False)
        assert (whole.question, whole.answer, whole.boxes, whole.things) == (
            without.question, without.answer, without.boxes, without.things
        )  # fmt: skip
        differs = (whole.image != without.image).any(-1)
        allowed = np.zeros_like(differs)
        for x0, y0, x1, y1 in whole.boxes:
            below = 0.25 * (y1 - y0) if task == "relative_depth" else 0  # the shadow lies around the foot
            beside = 0.05 * (x1 - x0) if task == "relative_depth" else 0
            rows = slice(max(0, int(y0) - 1), int(np.ceil(y1 + below)) + 1)
            allowed[rows, max(0, int(x0 - beside) - 1) : int(np.ceil(x1 + beside)) + 1] = True
            inside = differs[int(max(y0, 0)) : int(y1), int(max(x0, 0)) : int(x1)]
            assert inside.mean() > 0.2, "the thing is still there"
        assert not differs[~allowed].any()


@pytest.mark.parametrize("task", DRAWN)
def test_what_was_behind_a_thing_is_the_background_and_not_a_patch(task):
    """Noise has a standard deviation of 3 levels and is the same: nothing of a shape's edge is left in the picture."""
    without = scene(task, 1, boxed=False).image.astype(float)
    kept = {t.box for t in scene(task, 1).things} - set(scene(task, 1).boxes)
    for x0, y0, x1, y1 in scene(task, 1).boxes:
        if task == "relative_depth" or any(k[0] < x1 and x0 < k[2] and k[1] < y1 and y0 < k[3] for k in kept):
            continue
        patch = without[int(max(y0, 0)) : int(y1), int(max(x0, 0)) : int(x1), 0]
        step = np.diff(patch, axis=1)
        assert np.abs(step).max() < 8 * 3 * np.sqrt(2)  # a rim would be 40 levels and more, all along it
        assert np.abs(step).std() < 6


def test_both_members_of_a_pair_are_the_same_picture_without_the_detail():
    assert np.array_equal(scene("pairs", 4, boxed=False).image, scene("pairs", 5, boxed=False).image)
    assert not np.array_equal(scene("pairs", 4).image, scene("pairs", 5).image)


def test_a_picture_is_redrawn_only_if_it_is_the_scene_of_its_id():
    whole = scene("iq", 3, split="train", seed=2)
    found = without_boxed(whole.id, whole.image)
    assert found is not None
    assert np.array_equal(found, scene("iq", 3, split="train", seed=2, boxed=False).image)
    touched = whole.image.copy()
    touched[0, 0, 0] ^= 1
    surface = scene("relative_reflectance", 0)
    for name, picture in (
        (whole.id, touched), (whole.id, whole.image[:100]), ("iq-heldout-0-000003", whole.image),
        ("my photo", whole.image), (f"{whole.id}0", whole.image), (surface.id, surface.image),
    ):  # fmt: skip
        assert without_boxed(name, picture) is None
    with pytest.raises(ValueError, match="no object that could be left out"):
        scene("relative_reflectance", 0, boxed=False)
