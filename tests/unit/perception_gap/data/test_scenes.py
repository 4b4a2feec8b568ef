from collections import Counter
from hashlib import sha256

import numpy as np
import pytest

from perception_gap.data.drawing import COLORS, SIDE
from perception_gap.data.scenes import RELATIONS, TASKS, scene, scenes


@pytest.fixture(scope="module")
def drawn():
    return {split: list(scenes(n=300, split=split)) for split in ("train", "heldout")}


@pytest.fixture(scope="module")
def all_drawn(drawn):
    return [*drawn["train"], *drawn["heldout"]]


@pytest.mark.parametrize("task", TASKS)
def test_a_scene_is_a_function_of_task_split_seed_and_index(task):
    first, again = scene(task, 5, seed=3), scene(task, 5, seed=3)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.record("x.png") == again.record("x.png")
    assert not np.array_equal(first.image, scene(task, 5, seed=4).image)
    assert not np.array_equal(first.image, scene(task, 7, seed=3).image)


def test_train_and_heldout_never_share_an_image(drawn):
    images = {split: {sha256(s.image.tobytes()).digest() for s in some} for split, some in drawn.items()}
    assert len(images["train"]) == len(images["heldout"]) == 300
    assert not images["train"] & images["heldout"]


def test_more_scenes_only_add_to_the_first_ones(drawn):
    fewer = list(scenes(n=10, split="heldout"))
    assert [s.id for s in fewer] == [s.id for s in drawn["heldout"][:10]]


def test_ids_are_unique_and_records_name_every_scene(all_drawn):
    assert len({s.id for s in all_drawn}) == len(all_drawn)
    assert Counter(s.record("a.png")["task"] for s in all_drawn).keys() == TASKS.keys()


def test_every_scene_has_boxes_that_cover_something(all_drawn):
    boxes = np.array([box for s in all_drawn for box in s.boxes])
    assert all(s.boxes for s in all_drawn)
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 8


def test_every_box_lies_on_the_canvas(all_drawn):
    boxes = np.array([box for s in all_drawn for box in s.boxes])
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE


def answer_class(s):
    """What a blind guesser would have to guess: the part of the answer that varies, and how many there are."""
    words = s.answer.split()
    if s.task == "attribute":
        return words[-1], len(COLORS)
    if s.task == "spatial_relation":
        return next(r for r in RELATIONS if f" is {r} " in s.answer), len(RELATIONS)
    if s.task == "pairs":
        first, second = s.question.rstrip("?").split()[-3::2]
        return [first, second].index(words[-1]), 2
    if s.task == "iq":
        return words[-2], len(COLORS)
    return words[1], 2


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_balanced(task, all_drawn):
    classes = [answer_class(s) for s in all_drawn if s.task == task]
    counts, n, chance = Counter(c for c, _ in classes), len(classes), 1 / classes[0][1]
    # 4.5 standard deviations of a binomial count: the scenes are fixed by their seeds, so this cannot flicker.
    bound = 4.5 * np.sqrt(n * chance * (1 - chance))
    assert len(counts) == classes[0][1]
    assert all(abs(count - n * chance) <= bound for count in counts.values()), counts


def test_members_of_a_pair_share_the_question_and_differ_inside_the_box_only():
    for first in range(0, 24, 2):
        a, b = scene("pairs", first), scene("pairs", first + 1)
        assert a.pair == b.pair
        assert a.question == b.question
        assert a.answer != b.answer
        assert a.boxes == b.boxes
        different = np.abs(a.image.astype(int) - b.image.astype(int)).max(axis=-1) > 0
        x0, y0, x1, y1 = a.boxes[0]
        # One pixel of margin: boxes follow the pixels' edges, smoothing reaches the next pixel.
        outside = different.copy()
        outside[int(y0) - 1 : int(np.ceil(y1)) + 1, int(x0) - 1 : int(np.ceil(x1)) + 1] = False
        assert different.sum() > 20
        assert not outside.any()


def test_options_hold_the_right_answer_exactly_once(all_drawn):
    shown = [s for s in all_drawn if s.options]
    assert {s.task for s in shown} == TASKS.keys()
    for s in shown:
        assert len(set(s.options)) == len(s.options)
        assert sum(f" {option} " in f" {s.answer} " for option in s.options) == 1, (s.answer, s.options)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown scenes task 'colour': expected one of attribute, relative_depth"):
        scene("colour", 0)
    with pytest.raises(ValueError, match=r"unknown scenes split 'test': expected one of train, heldout"):
        scene("attribute", 0, split="test")
