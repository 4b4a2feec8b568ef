import numpy as np
import pandas as pd
import pytest

from reports.page.albums import albums
from reports.page.choice import FAILED, RIGHT, UNSCORED, WRONG, facts, telling, verdict


def table(**columns) -> pd.DataFrame:
    n = len(columns["verdict_0"])
    frame = pd.DataFrame({"task": ["t"] * n, "kl": [np.nan] * n, "focus_0": [np.nan] * n} | columns)
    verdicts = frame.filter(regex="verdict")
    frame["disagree"] = (verdicts == RIGHT).any(axis=1) & (verdicts == WRONG).any(axis=1)
    return frame.set_index(pd.Index([f"s{i}" for i in range(n)]))


def test_verdicts_of_rows():
    rows = pd.DataFrame({"correct": [True, False, None, False], "status": ["ok", "ok", "ok", "failed"]})
    assert verdict(rows).tolist() == [RIGHT, WRONG, UNSCORED, FAILED]


def test_the_most_telling_are_those_where_the_models_differ_then_the_wrong_ones_by_falling_kl():
    found = table(
        verdict_0=[RIGHT, RIGHT, WRONG, RIGHT, FAILED, WRONG],
        verdict_1=[RIGHT, WRONG, WRONG, WRONG, WRONG, WRONG],
        kl=[9.0, 1.0, 2.0, 3.0, np.nan, 4.0],
    )
    assert telling(found) == ["s3", "s1", "s5", "s2", "s0", "s4"]


def test_tasks_take_turns():
    found = table(verdict_0=[WRONG] * 4, verdict_1=[RIGHT] * 4, kl=[4.0, 3.0, 2.0, 1.0], task=["a", "a", "a", "b"])
    assert telling(found) == ["s0", "s3", "s1", "s2"]


def test_without_a_teacher_the_lowest_focus_comes_first():
    assert telling(table(verdict_0=[RIGHT] * 3, focus_0=[0.5, 0.1, 0.3])) == ["s1", "s2", "s0"]


def test_telling_is_every_sample_once_whatever_is_undefined():
    rng = np.random.default_rng(0)
    found = table(verdict_0=rng.integers(0, 4, 50), verdict_1=rng.integers(0, 4, 50),
                  kl=np.where(rng.random(50) < 0.3, np.nan, rng.random(50)), task=list("abcde") * 10)  # fmt: skip
    order = telling(found)
    assert sorted(order) == sorted(found.index)
    failed = (found.filter(regex="verdict") == FAILED).any(axis=1)
    late = [failed[i] for i in order]
    assert late == sorted(late)


@pytest.fixture
def album(pair):
    return albums([pair[1]])[0]


def test_facts_are_those_of_the_runs(pair, album):
    teacher, student = pair
    found = facts(album)
    assert list(found.index) == list(student.samples["sample_id"])
    mine = student.samples.set_index("sample_id")
    np.testing.assert_array_equal(found["kl_1"], mine["kl"])
    np.testing.assert_array_equal(found["focus_0"], teacher.samples["focus_score"])
    assert (found["verdict_1"] == FAILED).sum() == 2
    assert found.loc[mine.index[0], "disagree"] == (
        teacher.samples["correct"].iloc[0] != student.samples["correct"].iloc[0]
    )


def test_the_worst_word_is_the_one_of_largest_divergence(pair, album):
    words = pair[1].words
    words = words[words["text"] == "shared"]
    for sample, category in facts(album)["word"].items():
        mine = words[words["sample_id"] == sample]
        assert category == (mine.loc[mine["kl"].idxmax(), "category"] if len(mine) else "")
