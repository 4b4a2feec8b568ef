import copy

import pytest

from reports.summary import finding, lookup, summary_table, written

NONE = {"mean": None, "ci": None, "n": 0}


def metric(mean, low=None, high=None, n=100):
    return {"mean": mean, "ci": None if low is None else [low, high], "n": n}


def summary(**focus):
    found = {"correct_mean": metric(0.16, 0.14, 0.18), "incorrect_mean": metric(0.12, 0.1, 0.14)} | focus
    return {
        "n_samples": 240,
        "n_failed": 3,
        "accuracy": metric(0.61, 0.55, 0.67),
        "kl": {"sample": metric(0.84, 0.8, 0.9), "sample_floor": metric(2.1, 2.0, 2.2)},
        "focus_score": metric(0.15, 0.13, 0.17) | found,
    }


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
    ("difference", "says"),
    [
        (metric(0.04, 0.01, 0.07), "right answers have more focus than wrong ones"),
        (metric(-0.04, -0.07, -0.01), "right answers have less focus than wrong ones"),
        (metric(0.04, -0.01, 0.09), "no difference in focus between right and wrong answers is established"),
        (metric(0.04, 0.0, 0.09), "no difference in focus between right and wrong answers is established"),
        (metric(0.04), "no difference in focus between right and wrong answers is established"),
    ],
)
def test_focus_is_claimed_to_differ_only_when_the_interval_excludes_none(difference, says):
    sentence = finding(summary(difference=difference, auroc=metric(0.61, 0.55, 0.67)), None)
    assert says in sentence
    assert "AUROC 0.61 [0.55, 0.67]" in sentence


@pytest.mark.parametrize(
    ("floor", "paired", "says"),
    [
        (metric(2.1, 2.0, 2.2), metric(1.3, 1.2, 1.4), "less than the 2.10 nats"),
        (metric(0.9, 0.7, 1.1), metric(0.06, 0.01, 0.1), "less than the 0.90 nats"),  # intervals overlap, pairs part
        (metric(0.9, 0.88, 0.95), metric(0.06, -0.01, 0.1), "not distinguishable from the 0.90 nats"),
        (metric(0.5, 0.4, 0.6), metric(-0.3, -0.4, -0.2), "more than the 0.50 nats"),
        (metric(2.1), metric(1.3), "beside the 2.10 nats"),
        (NONE, NONE, "no floor"),
    ],
)
def test_divergence_is_called_less_than_its_floor_only_when_the_paired_interval_excludes_none(floor, paired, says):
    mine = summary(difference=NONE, auroc=NONE)
    mine["kl"] |= {"sample_floor": floor, "floor_minus_sample": paired}
    sentence = finding(mine, {"accuracy": metric(0.92, 0.9, 0.94)})
    assert "KL 0.84 nats [0.80, 0.90]" in sentence
    assert says in sentence
    assert "(teacher 92.0 % [90.0, 94.0])" in sentence


def test_answers_of_one_kind_and_missing_boxes_are_said_in_words():
    alone = summary(difference=NONE, auroc=NONE, incorrect_mean=NONE)
    assert "cannot be compared (all answers are right)" in finding(alone, None)
    bare = summary(difference=NONE, auroc=NONE) | {"focus_score": NONE | {"difference": NONE}}
    assert "focus is undefined (no boxes)" in finding(bare, None)
    silent = summary(difference=NONE, auroc=NONE) | {"focus_score": NONE | {"difference": NONE, "chance": metric(0.08)}}
    assert "focus is undefined (no answer with a word in it)" in finding(silent, None)


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


def test_an_interval_without_width_claims_nothing():
    sentence = finding(summary(difference=metric(-0.007, -0.007, -0.007), auroc=metric(0.0, 0.0, 0.0)), None)
    assert "no difference in focus between right and wrong answers is established" in sentence


def test_a_run_of_failures_says_so_and_not_that_boxes_lack():
    failed = summary(difference=NONE, auroc=NONE) | {"n_samples": 4, "n_failed": 4}
    assert finding(failed, None) == "None of the model's 4 samples is valid: every one failed."
