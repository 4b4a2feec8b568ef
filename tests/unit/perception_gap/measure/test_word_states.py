"""Cosine distances of the hidden states of words: aligned together, with a floor by stand-ins."""

import numpy as np

from perception_gap.measure.teacher import Comparison
from perception_gap.measure.word_states import cosine_by_word
from perception_gap.metrics import aligned_cosine_distance
from tests.unit.perception_gap.measure.stored_teacher import StoredTeacher, student_rows


class StatedTeacher(StoredTeacher):
    """A StoredTeacher that also has hidden states of its words."""

    def __init__(self, states: dict[str, np.ndarray]) -> None:
        super().__init__(dict.fromkeys(states, (2, 2)))
        self.states = states

    def row(self, sample_id: str) -> dict:
        n = len(self.states[sample_id])
        return super().row(sample_id) | {"shared_words": ["x"] * n, "shared_categories": ["object"] * n}

    def hidden(self, sample_id: str) -> np.ndarray | None:
        return self.states[sample_id]


def stated(states: dict[str, np.ndarray]) -> Comparison:
    teacher = StatedTeacher(states)
    rows = [row | teacher.row(row["sample_id"]) for row in student_rows(teacher.shapes)]
    return Comparison(rows, teacher, "own", 0, None)


def test_cosine_is_that_of_all_words_aligned_together_and_its_floor_that_of_the_partners_words():
    rng = np.random.default_rng(0)
    theirs, mine = ({f"s{i}": rng.normal(size=(2, 5)) for i in range(6)} for _ in range(2))
    comparison = stated(theirs)
    found = cosine_by_word(comparison, mine)
    flat = [np.concatenate(list(side.values())) for side in (theirs, mine)]
    groups = np.repeat(list(mine), 2)
    np.testing.assert_allclose(
        np.concatenate([found[i]["cosine_distance"] for i in mine]), aligned_cosine_distance(*flat, groups)
    )
    others = np.array([2 * int(comparison.partner[f"s{i}"][1:]) + w for i in range(6) for w in range(2)])
    np.testing.assert_allclose(
        np.concatenate([found[i]["cosine_floor"] for i in mine]), aligned_cosine_distance(*flat, groups, others=others)
    )


def test_cosine_leaves_out_other_words_and_undefined_states():
    rng = np.random.default_rng(1)
    theirs, mine = ({f"s{i}": rng.normal(size=(2, 5)) for i in range(6)} for _ in range(2))
    theirs["s0"][0, 2], mine["s1"][0, 0] = np.nan, np.inf
    comparison = stated(theirs)
    comparison.rows["s2"]["shared_words"] = ["y", "y"]
    comparison.teacher.states["s4"] = None
    comparison.teacher.row = StatedTeacher(mine).row
    found = cosine_by_word(comparison, mine)
    undefined = {i: np.isnan(found[i]["cosine_distance"]).tolist() for i in mine}
    changed = {"s0": [True, False], "s1": [True, False], "s2": [True, True], "s4": [True, True]}
    assert undefined == {i: [False, False] for i in mine} | changed
    # What has another word's floor cannot have one where that word's state is unknown.
    lacking = [i for i in mine if comparison.partner[i] == "s2"]
    assert all(np.isnan(found[i]["cosine_floor"]).all() for i in lacking)
    assert found.keys() == mine.keys()
    assert cosine_by_word(stated(mine), {}) == {}


def test_a_word_without_a_stand_in_has_no_cosine_floor():
    rng = np.random.default_rng(3)
    theirs, mine = ({f"s{i}": rng.normal(size=(2, 5)) for i in range(6)} for _ in range(2))
    comparison = stated(theirs)
    comparison.rows["s1"]["shared_categories"] = ["object", "attribute"]
    del comparison.partner["s2"]
    found = cosine_by_word(comparison, mine)
    undefined = {i: np.isnan(found[i]["cosine_floor"]).tolist() for i in mine}
    assert undefined == {i: [False, False] for i in mine} | {"s1": [False, True], "s2": [True, True]}
