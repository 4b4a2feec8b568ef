"""Drawn scenes once more, without the things in their boxes: the picture in which the evidence itself is missing."""

from __future__ import annotations

import re

import numpy as np

from perception_gap.data.scenes import SPLITS, TASKS, scene

WITHOUT_OBJECT = ("relative_reflectance",)  # tasks whose boxes hold a part of the one surface, and no object
_ID = re.compile(rf"({'|'.join(TASKS)})-({'|'.join(SPLITS)})-(\d+)-(\d{{6,}})")


def without_boxed(name: str, picture: np.ndarray) -> np.ndarray | None:
    """The scene of this id without what lies in its boxes, uint8 [256, 256, 3]; all else, noise too, is the same.

    None unless `picture` (uint8 [H, W, 3]) is exactly the scene that the id names, whatever file brought it, and for
    WITHOUT_OBJECT.
    """
    named = _ID.fullmatch(name)
    if named is None or named[1] in WITHOUT_OBJECT:
        return None
    task, split, seed, index = named[1], named[2], int(named[3]), int(named[4])
    drawn = scene(task, index, split=split, seed=seed)
    if drawn.id != name or not np.array_equal(drawn.image, picture):
        return None
    return scene(task, index, split=split, seed=seed, boxed=False).image
