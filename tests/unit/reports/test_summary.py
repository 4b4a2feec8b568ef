"""What a run says of itself: numbers with their intervals, and no claim that the tests do not hold."""

import copy

import numpy as np
import pandas as pd
import pytest

from perception_gap.metrics.means import against_floor
from perception_gap.stats.decides import decides
from perception_gap.stats.estimates import side
from perception_gap.stats.statistics import auroc_ci, mean_ci
from reports.rows import own_rows
from reports.summary import finding, lookup, summary_table, too_few, written

NONE = {"mean": None, "ci": None, "n": 0}


def metric(mean, low=None, high=None, n=100, **more):
    return {"mean": mean, "ci": None if low is None else [low, high], "n": n} | more


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (metric(0.61, 0.552, 0.668), "%", "61.0 % [55.2, 66.8]"),
        (metric(-0.031, -0.05, 0.01), "points", "−3.1 points [−5.0, 1.0]"),
        (metric(0.84, 0.8, 0.9), "nats", "0.84 nats [0.80, 0.90]"),
        (metric(47.26, 46.0, 48.0), "tokens", "47.3 tokens [46.0, 48.0]"),
        (metric(0.5), "", "0.50"),
        (NONE, "%", "undefined"),
        (metric(float("nan")), "%", "undefined"),
        (None, "%", "undefined"),
    ],
)
def test_a_metric_is_written_with_unit_and_interval(value, unit, text):
    assert written(value, unit) == text


@pytest.mark.parametrize(
    ("value", "null", "expected"),
    [
        (metric(0.3, 0.1, 0.5), 0, 1),
        (metric(-0.3, -0.5, -0.1), 0, -1),
        (metric(0.3, -0.1, 0.5), 0, 0),
        (metric(0.3, 0.0, 0.5), 0, 0),  # the null is in the interval
        (metric(0.3), 0, 0),  # no interval, no claim
        (metric(0.7, 0.6, 0.8), 0.5, 1),
        (metric(0.3, 0.2, 0.4), 0.5, -1),
        (metric(0.3, 0.1, 0.5, p=0.05), 0, 1),
        (metric(0.3, 0.1, 0.5, p=0.051), 0, 0),  # the test does not reject
        (metric(0.3, -0.1, 0.5, p=0.001), 0, 0),  # the interval does not
        (metric(0.3, 0.1, 0.5, p=0.01, p_holm=0.06), 0, 0),
        (metric(0.3, 0.1, 0.5, p=0.01, p_holm=0.04), 0, 1),
        (metric(0.3, 0.1, 0.5, p=0.01, p_holm=None), 0, 0),  # asked of several, and no test among them
        (NONE, 0, 0),
        (None, 0, 0),
    ],
)
def test_a_side_needs_the_interval_and_the_test_adjusted_where_several_were_asked(value, null, expected):
    assert side(value, null) == expected


def test_only_a_test_that_no_data_could_have_passed_is_too_few():
    assert too_few(mean_ci([1.0, 2.0, 3.0, 4.0, 5.0], null=0).as_dict())  # 2 of 2⁵ signs: p = .0625 at best
    assert not too_few(mean_ci([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], null=0).as_dict())
    assert not too_few(mean_ci([1.0, 2.0]).as_dict())  # no test was asked for
    assert not too_few(None)


def samples(n_right=20, n_wrong=20, more=0.1, kl=0.8, floor=1.4, seed=0):
    """One task; right answers have `more` focus than wrong ones, KL scatters about `kl` and its floor about `floor`."""
    rng, n = np.random.default_rng(seed), n_right + n_wrong
    right = np.arange(n) < n_right
    return pd.DataFrame({
        "task": "pairs", "cluster": [f"c{i}" for i in range(n)], "correct": right,
        "focus_score": 0.2 + more * right + 0.03 * rng.normal(size=n),
        "focus_chance": 0.1, "kl": kl + 0.1 * rng.normal(size=n), "kl_floor": floor + 0.1 * rng.normal(size=n),
    })  # fmt: skip


def summary(frame):
    """What `finding` reads, from the functions that `summarise` takes it from."""
    focus, right = frame["focus_score"], frame["correct"]
    mean = mean_ci(focus).as_dict()
    return {
        "n_samples": len(frame),
        "n_failed": 0,
        "accuracy": mean_ci(right.astype(float)).as_dict(),
        "kl": {"sample": mean_ci(frame["kl"]).as_dict(), "against_floor": against_floor(frame, "kl", "kl_floor", 0)},
        "focus_score": mean | {
            "correct_mean": mean_ci(focus[right]).as_dict(), "incorrect_mean": mean_ci(focus[~right]).as_dict(),
            "decides": decides(frame, "focus_score", {}, 0), "chance": mean_ci(frame["focus_chance"]).as_dict(),
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "says"),
    [(0.1, "in pairs: AUROC"), (-0.1, "in pairs: the other way round: AUROC"), (0.0, "not established: AUROC")],
)
def test_focus_is_claimed_to_go_with_being_right_only_where_that_is_established(more, says):
    frame = samples(more=more)
    sentence = finding(summary(frame), None)
    assert f"does focus go with being right? {says}" in sentence
    area = auroc_ci(frame["focus_score"], frame["correct"], frame["cluster"], frame["task"]).as_dict()
    assert f"pairs {written(area)} (20 right, 20 wrong, p" in sentence
    assert "the model answers 50.0 % [35.2, 64.8] of the questions" in sentence.lower()


def test_four_comparable_samples_claim_nothing_whatever_their_means():
    sentence = finding(summary(samples(2, 2, more=-0.5)), None)
    assert "4 comparable samples: too few to say" in sentence
    assert "AUROC" not in sentence


@pytest.mark.parametrize(
    ("floor", "says"),
    [(1.4, "less than the 1.4"), (0.8, "not distinguishable from the 0."), (0.4, "more than the 0.")],
)
def test_divergence_is_held_against_its_floor_only_by_the_paired_test(floor, says):
    mine = summary(samples(floor=floor))
    sentence = finding(mine, {"accuracy": metric(0.92, 0.9, 0.94)})
    pair = mine["kl"]["against_floor"]
    assert f"by KL {written(pair['value'], 'nats')}, {says}" in sentence
    assert f"the {written(pair['floor'], 'nats')} to the teacher's map of another picture (n = 40)" in sentence
    assert "(teacher 92.0 % [90.0, 94.0])" in sentence


def test_the_sentence_holds_value_and_floor_of_the_same_samples():
    frame = samples()
    frame.loc[:9, "kl"], frame.loc[:9, "kl_floor"] = 50.0, np.nan
    sentence = finding(summary(frame), {"accuracy": metric(0.9, 0.8, 0.95)})
    assert written(against_floor(frame[10:], "kl", "kl_floor", 0)["value"], "nats") in sentence
    assert "(n = 30)" in sentence
    assert written(mean_ci(frame["kl"]).as_dict(), "nats") not in sentence


def test_few_samples_and_no_floor_are_said():
    few = finding(summary(samples(2, 2)), {"accuracy": metric(0.9, 0.8, 0.95)})
    assert "to the teacher's map of another picture (n = 4: too few to say more)" in few
    none = finding(summary(samples(floor=np.nan)), {"accuracy": metric(0.9, 0.8, 0.95)})
    assert "(no floor: no other sample of the same task)" in none


def test_answers_of_one_kind_and_missing_boxes_are_said_in_words():
    assert "cannot be compared (all answers are right)" in finding(summary(samples(n_wrong=0)), None)
    bare = summary(samples().assign(focus_score=np.nan, focus_chance=np.nan))
    assert "focus is undefined (no boxes)" in finding(bare, None)
    silent = summary(samples().assign(focus_score=np.nan, focus_chance=0.08))
    assert "focus is undefined (no answer with a word in it)" in finding(silent, None)


def test_a_difference_is_named_within_task_beside_the_raw_one(pair):
    _, student = pair
    lines = summary_table(student).splitlines()
    for label, key in (("tasks mixed", "raw_difference"), ("within task", "difference")):
        line = next(line for line in lines if line.startswith(f"  right − wrong, {label}"))
        assert written(student.summary["focus_score"][key], "points") in line
    raw = student.summary["focus_score"]["raw_difference"]["mean"]
    means = (student.summary["focus_score"][f"{kind}_mean"]["mean"] for kind in ("correct", "incorrect"))
    assert raw == pytest.approx(next(means) - next(means))
    assert all("within task" in label for label, path, _ in own_rows() if path.endswith((".difference", ".auroc")))


def test_table_shows_both_models_every_task_with_chance_and_the_failures(pair):
    teacher, student = pair
    text = summary_table(student)
    assert "28 samples, 2 failed" in text
    for task, value in student.summary["accuracy_by_task"].items():
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{task} (chance"))
        assert f"(chance {100 * value['chance']:.1f} %)" in line
        assert written(value, "%") in line
        assert written(teacher.summary["accuracy_by_task"][task], "%") in line
    kl = next(line for line in text.splitlines() if line.startswith("KL(teacher ‖ student), sample"))
    assert written(student.summary["kl"]["sample"], "nats") in kl
    assert str(student.summary["kl"]["sample"]["n"]) in kl


def test_table_of_a_run_alone_has_no_teacher_and_no_divergence(no_boxes):
    text = summary_table(no_boxes)
    assert "teacher" not in text
    assert "KL" not in text
    focus = next(line for line in text.splitlines() if line.startswith("focus score"))
    assert focus.split()[2:] == ["undefined", "0"]


def test_table_of_a_run_without_valid_rows_is_still_a_table(all_failed):
    text = summary_table(all_failed)
    assert "14 samples, 14 failed" in text
    assert "undefined" in text


def test_a_task_may_have_a_dot_in_its_name(no_boxes):
    other = copy.copy(no_boxes)
    other.summary = no_boxes.summary | {"accuracy_by_task": {"v1.5": metric(0.25, 0.2, 0.3) | {"chance": None}}}
    assert "v1.5" in summary_table(other)
    assert lookup(other.summary, "focus_score.nothing.here") is None


def test_a_run_of_failures_says_so_and_not_that_boxes_lack():
    failed = summary(samples()) | {"n_samples": 4, "n_failed": 4}
    assert finding(failed, None) == "None of the model's 4 samples is valid: every one failed."
