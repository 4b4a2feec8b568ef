import math
from pathlib import Path

import pandas as pd

from benchmarks import results, tables
from benchmarks.comparison import paired_comparison


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
    compared = paired_comparison(frame, "a", "b").assign(model="b")
    return results.Bench(Path("out"), done, "a", compared, pd.DataFrame())


RIGHT, HALF = [True] * 10, [True, False] * 5
FIRST = {"scenes_iq": (HALF, summary(0.5)), "mmvp": (HALF, summary(0.5, pair_accuracy=estimate(0.2, 5)))}
SECOND = {"scenes_iq": (RIGHT, summary(1.0, 0.9)), "mmvp": (HALF, summary(0.5, pair_accuracy=estimate(None, 0)))}
TWO = bench(FIRST, SECOND)


def test_power_is_said_of_suites_where_answers_differ():
    (said,) = tables.power(TWO)
    assert said.startswith("scenes_iq: with 10 questions, 5 points are 0.5 questions")
    assert math.isclose(TWO.comparisons.set_index("task").loc["scenes_iq", "discordance"], 0.5)
