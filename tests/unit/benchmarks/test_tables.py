import math
from pathlib import Path

import pandas as pd

from benchmarks import results, tables
from benchmarks.comparison import compare


def estimate(mean, n=10, ci=(0.1, 0.9)):
    return {"mean": mean, "ci": None if mean is None else list(ci), "n": n}


def summary(mean, strict=None, **more):
    found = {"n": 10, "n_cut": 1, "n_empty": 2, "chance": 0.25, "accuracy": estimate(mean)}
    return found | {"strict_accuracy": estimate(mean if strict is None else strict)} | more


def rows(task, correct, **more):
    n = len(correct)
    given = {"task": task, "sample_id": [f"{task}{i}" for i in range(n)], "cluster": None, "correct": correct,
             "strict_correct": correct, "status": "ok", "answer": "A", "references": [["A"]] * n,
             "n_image_tokens": 64, "n_tokens": 2, "seconds": 0.5}  # fmt: skip
    return pd.DataFrame(given | more)


def bench(tasks_first, tasks_second):
    done = []
    for name, tasks in (("a", tasks_first), ("b", tasks_second)):
        samples = pd.concat([rows(task, verdicts) for task, (verdicts, _) in tasks.items()], ignore_index=True)
        done.append(results.ModelResult(name, samples, {"tasks": {task: s for task, (_, s) in tasks.items()}}))
    frame = pd.concat([m.samples.assign(model=m.name) for m in done])
    compared = compare(frame, "a", "b").assign(model="b")
    return results.Bench(Path("out"), done, "a", compared, pd.DataFrame())


RIGHT, HALF = [True] * 10, [True, False] * 5
FIRST = {"scenes_iq": (HALF, summary(0.5)), "mmvp": (HALF, summary(0.5, pair_accuracy=estimate(0.2, 5)))}
SECOND = {"scenes_iq": (RIGHT, summary(1.0, 0.9)), "mmvp": (HALF, summary(0.5, pair_accuracy=estimate(None, 0)))}
TWO = bench(FIRST, SECOND)


def cells(table, start):
    line = next(line for line in table.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_accuracies_are_in_percent_with_both_verdicts_where_they_differ():
    table = tables.accuracies(TWO)
    assert cells(table, "scenes_iq") == [
        "scenes_iq",
        "10",
        "25.0",
        "50.0 [10.0, 90.0]",
        "100.0 [10.0, 90.0]; strict 90.0",
    ]
    assert cells(table, "both of a pair") == ["both of a pair", "5", "", "20.0 [10.0, 90.0]", "–"]


def test_comparisons_stand_in_the_order_of_the_suites_and_the_pool_last():
    lines = [line.split("|")[2].strip() for line in tables.comparisons(TWO).splitlines()[2:]]
    assert lines == ["scenes_iq", "mmvp", "all"]
    assert cells(tables.comparisons(TWO), "b")[3].startswith("+50.0 [")
    assert cells(tables.comparisons(TWO), "b")[4] == "5:0"


def test_what_cannot_be_compared_is_a_dash():
    nothing = [None] * 10
    alone = bench({"mmvp": (nothing, summary(None))}, {"mmvp": (HALF, summary(0.5))})
    assert cells(tables.comparisons(alone), "b")[2:] == ["0", "–", "0:0", "–", "–", "–"]
    assert "nan" not in tables.comparisons(alone) + tables.accuracies(alone)


def test_published_figures_of_shared_tasks_stand_beside_ours_once_a_model():
    table = tables.beside(TWO)
    assert cells(table, "LaViT 3B")[1] == "67.33"  # the main table, not the ablations
    assert cells(table, "PAPO 3B")[1] == "50.0*"
    assert "scenes_iq" not in table


def test_costs_count_what_failed_said_nothing_or_was_cut_off():
    assert cells(tables.costs(TWO), "a") == ["a", "64.0", "2.0", "0.500", "0", "0", "4", "2"]


def test_power_is_said_of_suites_where_answers_differ():
    (said,) = tables.power(TWO)
    assert said.startswith("scenes_iq: with 10 questions, 5 points are 0.5 questions")
    assert math.isclose(TWO.comparisons.set_index("task").loc["scenes_iq", "discordance"], 0.5)
