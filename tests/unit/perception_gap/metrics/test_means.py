import numpy as np
import pandas as pd
import pytest

from perception_gap.metrics.means import focus_by_verdict, of_gaze


def answers(focus, correct, **more):
    """Valid rows of one task, each a cluster of its own."""
    n = len(focus)
    return pd.DataFrame({"focus_score": focus, "correct": correct, "cluster": range(n), "task": "t"} | more)


def test_focus_by_verdict_is_of_the_rows_that_have_both():
    rows = answers(
        [0.1, 0.2, 0.3, 0.4, np.nan], [False, True, None, True, True], focus_chance=[0.1, 0.1, 0.9, 0.4, 0.9]
    )
    told = focus_by_verdict(rows)
    assert told["correct_mean"]["mean"] == pytest.approx(0.3)
    assert told["incorrect_mean"] == {"mean": 0.1, "ci": None, "n": 1} | {"reason": told["incorrect_mean"]["reason"]}
    assert told["known_chance"]["mean"] == pytest.approx(0.2)
    assert told["auroc"]["mean"] == 1.0


def test_the_threshold_curve_counts_the_answers_above_each_threshold():
    focus = np.linspace(0.05, 1, 20)
    right = focus > 0.5
    curve = focus_by_verdict(answers(focus, right))["threshold_curve"]
    assert curve[0] == {"threshold": 0.0, "accuracy": 0.5, "n": 20} | {end: curve[0][end] for end in ("low", "high")}
    for point in curve:
        above = right[focus >= point["threshold"]]
        assert (point["accuracy"], point["n"]) == (pytest.approx(above.mean()), len(above))
        assert point["low"] < point["accuracy"] + 1e-12 < point["high"] + 1e-9


def test_without_a_verdict_the_curve_is_empty_and_the_means_are_undefined():
    told = focus_by_verdict(answers([0.5, 0.6], [None, None]))
    assert told["threshold_curve"] == []
    assert (told["correct_mean"]["mean"], told["known_chance"]["mean"]) == (None, None)


def test_of_a_choice_of_samples_what_was_measured_is_of_the_valid_ones():
    rows = answers([0.2, 0.4, 9.0], [True, False, True], status=["ok", "ok", "failed"], entropy=[1.0, 3.0, 9.0])
    told = of_gaze(rows)
    assert set(told) == {"focus_score", "entropy"}
    assert (told["entropy"]["mean"], told["entropy"]["cv"]) == (2.0, 0.5)
    assert told["focus_score"]["correct_mean"]["n"] == 1
    assert of_gaze(rows.drop(columns=["focus_score", "entropy"])) == {}
