"""What a comparison says: every verdict from an interval, what is undefined with its n."""

import copy
import dataclasses

import pytest

from perception_gap.statistics import mean_ci
from reports import comparison
from tests.unit.reports.synthetic_comparison import write_comparison


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("compared") / "out", failed={"x/broken": "no weights"})


def estimate(mean, low=None, high=None, n=20):
    return {"mean": mean, "ci": None if low is None else [low, high], "n": n}


def changed(found, change):
    summary = copy.deepcopy(found.summary)
    change(summary)
    return dataclasses.replace(found, summary=summary)


def only(found, *names):
    """The comparison of these models alone."""

    def change(summary):
        summary["models"] = [row for row in summary["models"] if row["name"] in names]
        summary["pairs"] = [row for row in summary["pairs"] if {row["first"], row["second"]} <= set(names)]

    return changed(found, change)


def pair(found, **values):
    """The one pair of teacher and student, with these values."""

    def change(summary):
        summary["pairs"][0].update(values)

    return changed(only(found, "tiny:teacher", "tiny:student"), change)


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (estimate(0.2, 0.1, 0.3), "Nearer than by chance"),
        (estimate(-0.2, -0.3, -0.1), "Farther than by chance"),
        (estimate(0.1, -0.1, 0.3), "Not established to be nearer than by chance"),
        (estimate(0.1, 0.1, 0.1), "Not established to be nearer than by chance"),  # no resample differed
        (estimate(0.1), "Not established to be nearer than by chance"),
    ],
)
def test_of_two_models_the_interval_against_the_floor_decides(found, difference, verdict):
    answer = comparison.alike(pair(found, floor_minus_js=difference))
    assert answer.question == "Do the two models look alike?"
    assert answer.verdict == verdict


def test_without_a_floor_or_a_common_sample_that_is_said(found):
    answer = comparison.alike(pair(found, js_floor=estimate(None, n=0), floor_minus_js=estimate(None, n=0)))
    assert answer.verdict == "No floor to compare with"
    answer = comparison.alike(pair(found, js=estimate(None, n=0)))
    assert (answer.verdict, "n = 0" in answer.reason) == ("Undefined", True)


def test_the_nearest_pair_is_the_one_of_smallest_js_and_only_an_interval_makes_it_that(found):
    rows = sorted(found.summary["pairs"], key=lambda row: row["js"]["mean"])
    frames = [
        found.pairs[(found.pairs["first"] == r["first"]) & (found.pairs["second"] == r["second"])] for r in rows[:2]
    ]
    both = frames[0].merge(frames[1], on="sample_id", suffixes=("", "_next"))
    naive = mean_ci((both["js_next"] - both["js"]).to_numpy(), both["cluster"].to_numpy())
    answer = comparison.alike(found)
    assert f"{naive.mean:.3f} nats [{naive.low:.3f}, {naive.high:.3f}] farther apart".replace("-", "−") in answer.reason
    first = " and ".join((rows[0]["first"], rows[0]["second"]))
    assert answer.verdict.startswith(first) == (naive.low > 0)
    # The same pair twice is no nearer than itself.
    twin = found.pairs.copy()
    twin.loc[twin["second"] == rows[1]["second"], "js"] = twin["js"].mean()
    twin["js"] = 0.25
    answer = comparison.alike(dataclasses.replace(found, pairs=twin))
    assert answer.verdict.startswith("Not established; ")


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (estimate(-0.2, -0.3, -0.1), "Yes"),
        (estimate(0.2, 0.1, 0.3), "The other way round"),
        (estimate(-0.2, -0.3, 0.1), "Not established"),
        (estimate(None, n=0), "Undefined"),
    ],
)
def test_gazes_agree_more_where_both_are_right_when_the_interval_lies_below_zero(found, difference, verdict):
    told = copy.deepcopy(found.summary["pairs"][0]["agreement"])
    told["js"]["right_minus_wrong"] = difference
    told["js"]["both_right"]["n"], told["js"]["both_wrong"]["n"] = 17, 3
    answer = comparison.agree(pair(found, agreement=told))
    assert answer.verdict == verdict
    assert f"n = {difference['n']} in tasks with both, of 20" in answer.reason


def test_of_several_models_the_verdict_counts_those_that_their_interval_decides(found):
    values = [estimate(0.8, 0.7, 0.9), estimate(0.3, 0.2, 0.4), estimate(0.6, 0.4, 0.8)]

    def change(summary):
        for row, auroc in zip(summary["models"], values, strict=True):
            row["auroc"] = auroc

    answer = comparison.decides(changed(found, change))
    assert answer.verdict == "For 1 of 3 models, the other way round for 1 of 3 models"
    assert "This is a correlation, not a cause." in answer.reason
    assert "0.80 [0.70, 0.90], n = 20" in answer.reason


def test_of_many_pairs_those_that_are_decided_are_listed_and_the_others_counted(found):
    def change(summary):
        row = summary["pairs"][0]
        summary["pairs"] = [copy.deepcopy(row) for _ in range(9)]
        names = list(found.labels)
        for i, one in enumerate(summary["pairs"]):
            one["first"], one["second"] = names[i // 3], names[i % 3]
            wanted = estimate(-0.2, -0.3, -0.1) if i < 2 else estimate(None, n=0) if i == 2 else estimate(0, -1, 1)
            one["agreement"]["js"]["right_minus_wrong"] = wanted

    answer = comparison.agree(changed(found, change))
    assert answer.verdict == "For 2 of 9 pairs"
    assert answer.reason.count("−0.200 nats") == 2
    assert "not established for 6 pairs; undefined for 1 pairs" in answer.reason


def test_the_terminal_shows_leaderboard_matrix_and_answers(found):
    said = comparison.told(found)
    best = max(found.summary["models"], key=lambda row: row["accuracy"]["mean"])
    lines = said.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("-----")) + 1
    assert lines[first].startswith(found.labels[best["name"]])
    for row in found.summary["pairs"]:
        assert said.count(f"{row['js']['mean']:.3f}") >= 2  # on both sides of the diagonal
    for answer in comparison.answers(found):
        assert answer.line in lines
