import numpy as np
import pandas as pd

from perception_gap.stats.decides import decides
from perception_gap.stats.estimates import side
from perception_gap.stats.permutation import holm


def frame(tasks: dict[str, tuple[int, int, float]], seed: int = 0) -> pd.DataFrame:
    """task → right, wrong, how much more focus a right answer has (in standard deviations)."""
    rng, rows = np.random.default_rng(seed), []
    for task, (right, wrong, effect) in tasks.items():
        for i in range(right + wrong):
            correct = i < right
            rows.append({"task": task, "correct": correct, "focus": rng.normal() + effect * correct})
    return pd.DataFrame(rows).assign(cluster=lambda rows: np.arange(len(rows)))


def test_a_task_that_shows_it_is_named_though_guessed_and_solved_tasks_are_many():
    samples = frame({"pairs": (60, 30, 1.2), "depth": (60, 60, 0.0), "iq": (80, 0, 0.0), "colour": (99, 1, 0.0)})
    told = decides(samples, "focus", {"pairs": 0.5, "depth": 0.5, "iq": 0.1, "colour": None}, seed=0)
    reasons = {task: one["cannot_tell"] for task, one in told["by_task"].items()}
    assert reasons == {"pairs": None, "depth": "at chance", "iq": "no wrong answers", "colour": None}
    assert told["overall"]["tasks"] == ["colour", "pairs"]
    pairs = told["by_task"]["pairs"]
    assert (pairs["n_right"], pairs["n_wrong"], pairs["chance"]) == (60, 30, 0.5)
    assert side(pairs["auroc"] | {"p_holm": pairs["p_holm"]}, 0.5) == 1
    # Only pairs within a task and of these two count: nothing of `depth` and `iq`.
    assert told["overall"]["n_right"] == 159
    assert told["overall"]["auroc"]["n"] == 190


def test_holm_runs_over_the_tasks_that_can_tell_and_all_of_them_together():
    samples = frame({"a": (30, 20, 0.4), "b": (30, 20, 0.0), "guessed": (25, 25, 2.0)})
    told = decides(samples, "focus", {"guessed": 0.5}, seed=0)
    raw = {task: told["by_task"][task]["auroc"]["p"] for task in ("a", "b")} | {"": told["overall"]["auroc"]["p"]}
    adjusted = holm(raw)
    assert {task: told["by_task"][task]["p_holm"] for task in ("a", "b")} == {t: adjusted[t] for t in ("a", "b")}
    assert told["overall"]["p_holm"] == adjusted[""]
    assert told["by_task"]["guessed"]["p_holm"] is None


def test_one_task_alone_is_one_test():
    told = decides(frame({"a": (30, 20, 1.0)}), "focus", {}, seed=0)
    assert told["by_task"]["a"]["p_holm"] == told["by_task"]["a"]["auroc"]["p"] == told["overall"]["p_holm"]


def test_few_answers_say_that_they_are_too_few():
    told = decides(frame({"a": (2, 2, 9.0), "b": (0, 7, 0.0)}), "focus", {}, seed=0)
    assert told["by_task"]["a"]["cannot_tell"] == "too few to say"
    assert told["by_task"]["b"]["cannot_tell"] == "no right answers"
    assert told["overall"]["tasks"] == []
    assert told["overall"]["p_holm"] is None
    assert told["overall"]["auroc"] == {"mean": None, "ci": None, "n": 0, "reason": "no task can tell"}


def test_samples_without_verdict_or_value_are_left_out_and_no_sample_is_no_task():
    samples = frame({"a": (30, 20, 1.0)})
    samples["correct"] = samples["correct"].astype(object)
    samples.loc[:4, "correct"] = None
    samples.loc[49, "focus"] = np.nan
    told = decides(samples, "focus", {}, seed=0)
    assert (told["by_task"]["a"]["n_right"], told["by_task"]["a"]["n_wrong"]) == (25, 19)
    assert decides(samples[:0], "focus", {}, seed=0)["by_task"] == {}


def test_an_effect_the_other_way_round_has_the_other_sign():
    told = decides(frame({"a": (60, 30, -1.2)}), "focus", {}, seed=0)
    assert side(told["by_task"]["a"]["auroc"], 0.5) == -1


def test_a_claim_needs_interval_and_test():
    metric = {"mean": 0.7, "ci": [0.6, 0.8], "n": 9, "p": 0.04}
    assert side(metric, 0.5) == 1
    assert side(metric | {"p": 0.06}, 0.5) == 0
    assert side(metric | {"p_holm": 0.06}, 0.5) == 0
    assert side(metric | {"p_holm": None}, 0.5) == 0
    assert side(metric | {"ci": [0.5, 0.8]}, 0.5) == 0
    assert side(metric | {"ci": None}, 0.5) == 0
    assert side({"mean": None, "ci": None, "n": 0}) == 0
    assert side({"mean": -1.0, "ci": [-2.0, -0.5], "n": 9}) == -1
