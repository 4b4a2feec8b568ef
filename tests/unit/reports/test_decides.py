"""Does looking decide? Every sentence from the real `decides` of small frames, whose answer is plain to see."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from perception_gap.stats.decides import decides
from reports.decides import FOCUS, KL, claims, clause, p_value, reason, verdict

HIGH, LOW = list(np.linspace(0.5, 0.9, 9)), list(np.linspace(0.1, 0.4, 9))
# 79 of 100 pairs the right way: p = .03 of the Mann–Whitney test.
MOSTLY, OTHERS = list(np.arange(10) / 10 + 0.35), list(np.arange(10) / 10)


def rows(task: str, right: list[float], wrong: list[float]) -> pd.DataFrame:
    n = len(right) + len(wrong)
    return pd.DataFrame({
        "task": task, "cluster": [f"{task}{i}" for i in range(n)],
        "correct": [True] * len(right) + [False] * len(wrong), "value": [*right, *wrong],
    })  # fmt: skip


def told(*tasks: pd.DataFrame, **chances: float) -> dict:
    return decides(pd.concat(tasks), "value", chances, seed=0)


def test_a_task_with_more_focus_on_right_answers_is_named_with_its_numbers():
    found = told(rows("pairs", HIGH, LOW))
    assert verdict(found, FOCUS) == "In pairs"
    assert claims(found, FOCUS)
    assert reason(found, FOCUS).startswith("AUROC of focus, right over wrong answers: pairs 1.00 [")
    assert reason(found, FOCUS).endswith("(9 right, 9 wrong, p < 0.001)")
    assert clause(found, FOCUS) == f"does focus go with being right? in pairs: {reason(found, FOCUS)}"


def test_less_focus_on_right_answers_is_the_other_way_round():
    found = told(rows("pairs", LOW, HIGH), rows("iq", HIGH, LOW))
    assert verdict(found, FOCUS) == "In iq; in pairs: the other way round"
    assert claims(found, FOCUS)


def test_right_answers_are_expected_nearer_to_the_teacher():
    nearer, farther = told(rows("pairs", LOW, HIGH)), told(rows("pairs", HIGH, LOW))
    assert verdict(nearer, KL) == "In pairs"
    assert "AUROC of KL from the teacher, right over wrong answers: pairs 0.00 [" in reason(nearer, KL)
    assert verdict(farther, KL) == "In pairs: the other way round"


def test_tasks_that_decide_only_together_are_said_to():
    right, wrong = [0.2, 0.4, 0.5, 0.6, 0.7, 0.8], [0.1, 0.15, 0.25, 0.3, 0.45]
    found = told(rows("a", right, wrong), rows("b", right, wrong))
    assert all(one["p_holm"] > 0.05 for one in found["by_task"].values())
    assert found["overall"]["p_holm"] <= 0.05
    assert verdict(found, FOCUS) == "Over 2 tasks together"
    assert "; all 2 together 0." in reason(found, FOCUS)
    assert "(12 right, 10 wrong, p = " in reason(found, FOCUS)
    flipped = told(rows("a", wrong, right), rows("b", wrong, right))
    assert verdict(flipped, FOCUS) == "Over 2 tasks together: the other way round"


def test_the_adjusted_p_decides_and_is_the_one_that_is_shown():
    alone = told(rows("a", MOSTLY, OTHERS))
    p = alone["by_task"]["a"]["auroc"]["p"]
    beside = told(rows("a", MOSTLY, OTHERS), *(rows(name, [0.1, 0.9] * 4, [0.1, 0.9] * 4) for name in "bcd"))
    assert beside["by_task"]["a"]["auroc"]["p"] == p
    assert beside["by_task"]["a"]["p_holm"] == pytest.approx(min(1, 5 * p))  # four tasks and all of them together
    assert p <= 0.05 < 5 * p
    assert (verdict(alone, FOCUS), verdict(beside, FOCUS)) == ("In a", "Not established")
    assert not claims(beside, FOCUS)
    assert f"a {alone['by_task']['a']['auroc']['mean']:.2f} [" in reason(beside, FOCUS)
    assert p_value(beside["by_task"]["a"]["p_holm"]) in reason(beside, FOCUS)


def test_what_shows_nothing_is_not_established():
    found = told(rows("pairs", [0.1, 0.9] * 5, [0.1, 0.9] * 5))
    assert verdict(found, FOCUS) == "Not established"
    assert not claims(found, FOCUS)
    assert "pairs 0.50 [" in reason(found, FOCUS)


def test_four_comparable_samples_are_too_few_to_say():
    found = told(rows("pairs", [0.8, 0.9], [0.1, 0.2]), rows("iq", HIGH, []))
    assert verdict(found, FOCUS) == "Too few to say"
    assert not claims(found, FOCUS)
    assert reason(found, FOCUS) == (
        "4 comparable samples: too few to say (pairs 2 right, 2 wrong); cannot tell, no wrong answers: iq (n = 9)"
    )
    assert "too few to say: 4 comparable samples: too few to say" in clause(found, FOCUS)


def test_tasks_that_are_solved_or_guessed_are_named_and_no_evidence():
    solved = (rows("iq", HIGH, []), rows("trivial", LOW, []))
    found = told(*solved, rows("depth", [], LOW), rows("dice", HIGH, LOW), dice=0.5)
    assert verdict(found, FOCUS) == "Cannot be told"
    assert not claims(found, FOCUS)
    assert reason(found, FOCUS) == (
        "cannot tell, no right answers: depth (n = 9); accuracy not above guessing: dice (50.0 % [29.0, "
        "71.0], guessing 50.0 %, n = 18); "
        "no wrong answers: iq (n = 9), trivial (n = 9)"
    )


def test_beside_a_guessed_task_one_that_can_tell_still_does():
    found = told(rows("pairs", HIGH, LOW), rows("dice", LOW, HIGH), dice=0.5)
    assert verdict(found, FOCUS) == "In pairs"
    guessed = "accuracy not above guessing: dice (50.0 % [29.0, 71.0], guessing 50.0 %, n = 18)"
    assert reason(found, FOCUS).endswith(f"; cannot tell, {guessed}")
    assert "together" not in reason(found, FOCUS)


def test_a_guessed_task_beside_too_few_samples_is_no_lack_of_samples_alone():
    found = told(rows("pairs", [0.8, 0.9], [0.1, 0.2]), rows("dice", HIGH, LOW), dice=0.5)
    assert verdict(found, FOCUS) == "Cannot be told"
    assert "4 comparable samples: too few to say" in reason(found, FOCUS)


def test_without_a_verdict_or_a_value_there_is_nothing_to_say():
    found = told(rows("pairs", HIGH, LOW).assign(value=np.nan))
    assert (verdict(found, FOCUS), reason(found, FOCUS)) == (
        "Cannot be told", "no sample has both a value and a verdict (n = 0)",
    )  # fmt: skip
    assert not claims(found, FOCUS)


@pytest.mark.parametrize(
    ("p", "text"), [(None, "no test"), (0.0005, "p < 0.001"), (0.0312, "p = 0.031"), (1.0, "p = 1.000")]
)
def test_a_p_value_is_written_in_three_digits(p, text):
    assert p_value(p) == text
