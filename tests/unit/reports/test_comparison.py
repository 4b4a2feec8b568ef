"""What a comparison says: every verdict from interval and test, what is undefined with its n."""

import copy
import dataclasses
import math

import pytest

from perception_gap.compare.summary import most_alike, of_pairs
from perception_gap.stats.estimates import side
from perception_gap.stats.permutation import TOO_FEW, holm
from perception_gap.stats.statistics import mean_ci
from reports import comparison
from reports.summary import written
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
        summary["most_alike"] = most_alike(summary["pairs"], found.pairs, 0)

    return changed(found, change)


def pair(found, **values):
    """The one pair of teacher and student, with these values."""

    def change(summary):
        summary["pairs"][0].update(values)
        summary["most_alike"] = most_alike(summary["pairs"], found.pairs, 0)

    return changed(only(found, "tiny:teacher", "tiny:student"), change)


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (estimate(0.2, 0.1, 0.3), "Nearer than by chance"),
        (estimate(-0.2, -0.3, -0.1), "Farther than by chance"),
        (estimate(0.1, -0.1, 0.3), "Not established to be nearer than by chance"),
        (estimate(0.1), "Not established to be nearer than by chance"),
        (estimate(0.2, 0.1, 0.3) | {"p": 0.01, "p_holm": 0.06}, "Not established to be nearer than by chance"),
        (estimate(0.1, n=3) | {"reason": TOO_FEW}, "Too few to say whether nearer than by chance"),
    ],
)
def test_of_two_models_interval_and_test_against_the_floor_decide(found, difference, verdict):
    told = found.summary["pairs"][0]["against_floor"] | {"difference": difference}
    answer = comparison.alike(pair(found, against_floor=told))
    assert answer.question == "Do the two models look alike?"
    assert answer.verdict == verdict
    assert f"(n = {difference['n']})" in answer.reason


def test_js_its_floor_and_their_difference_are_of_the_same_samples(found):
    samples = found.pairs[(found.pairs["first"] == "tiny:teacher") & (found.pairs["second"] == "tiny:student")].copy()
    samples.loc[samples.index[:9], "js_floor"] = math.nan
    (row,) = of_pairs(samples, found.words, 0)
    kept = samples.dropna(subset=["js_floor"])
    reason = comparison.alike(pair(found, **row)).reason
    assert f"on the 16 × 16 raster, is {kept['js'].mean():.3f} nats [" in reason
    assert f"of the same task it is {kept['js_floor'].mean():.3f} nats [" in reason
    assert f"the paired difference is {(kept['js_floor'] - kept['js']).mean():.3f} nats [".replace("-", "−") in reason
    assert reason.endswith(f"(n = {len(kept)}).")


def test_without_a_floor_or_a_common_sample_that_is_said(found):
    samples = found.pairs[(found.pairs["first"] == "tiny:teacher") & (found.pairs["second"] == "tiny:student")]
    (alone,) = of_pairs(samples.assign(js_floor=math.nan), found.words, 0)
    answer = comparison.alike(pair(found, **alone))
    assert answer.verdict == "No floor to compare with"
    assert answer.reason.endswith(f"n = {alone['js']['n']}; no other sample of its task has a map.")
    answer = comparison.alike(pair(found, js=estimate(None, n=0)))
    assert (answer.verdict, "n = 0" in answer.reason) == ("Undefined", True)


def test_the_nearest_pair_is_the_one_of_smallest_js_and_only_an_interval_makes_it_that(found):
    rows = sorted(found.summary["pairs"], key=lambda row: row["js"]["mean"])
    frames = [
        found.pairs[(found.pairs["first"] == r["first"]) & (found.pairs["second"] == r["second"])] for r in rows[:2]
    ]
    both = frames[0].merge(frames[1], on="sample_id", suffixes=("", "_next"))
    naive = mean_ci((both["js_next"] - both["js"]).to_numpy(), both["cluster"].to_numpy(), null=0)
    answer = comparison.alike(found)
    assert f"{naive.mean:.3f} nats [{naive.low:.3f}, {naive.high:.3f}] farther apart".replace("-", "−") in answer.reason
    first = " and ".join((rows[0]["first"], rows[0]["second"]))
    others = found.summary["most_alike"]["others"]
    assert len(others) == 2
    assert answer.verdict.startswith(first) == all(side(other["farther"]) == 1 for other in others)
    # Three pairs of one and the same JS: none is nearer than the others.
    twins = found.pairs.assign(js=0.25)

    def same(summary):
        summary["most_alike"] = most_alike(of_pairs(twins, found.words, 0), twins, 0)

    assert comparison.alike(changed(found, same)).verdict.startswith("Not established; ")


def test_a_nearest_pair_on_four_samples_is_too_few_to_say(found):
    few = found.pairs[found.pairs["sample_id"].isin(found.pairs["sample_id"].unique()[:4])]

    def change(summary):
        summary["pairs"] = of_pairs(few, found.words, 0)
        summary["most_alike"] = most_alike(summary["pairs"], few, 0)

    answer = comparison.alike(changed(found, change))
    assert answer.verdict == "Too few to say; too few to say whether nearer than by chance"


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (estimate(-0.2, -0.3, -0.1), "Yes"),
        (estimate(0.2, 0.1, 0.3), "The other way round"),
        (estimate(-0.2, -0.3, 0.1), "Not established"),
        (estimate(-0.2, -0.3, -0.1) | {"p": 0.02, "p_holm": 0.06}, "Not established"),
        (estimate(-0.2, n=4) | {"reason": TOO_FEW}, "Too few to say"),
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


def test_of_several_models_the_verdict_counts_those_that_are_established(found):
    values = [estimate(0.8, 0.7, 0.9), estimate(0.3, 0.2, 0.4), estimate(0.6, 0.4, 0.8)]

    def change(summary):
        for row, auroc in zip(summary["models"], values, strict=True):
            row["decides"] = {"tasks": ["iq", "pairs"], "n_right": 12, "n_wrong": 8, "auroc": auroc | {"p_holm": 0.03}}

    answer = comparison.decides(changed(found, change))
    assert answer.verdict == "For 1 of 3 models, the other way round for 1 of 3 models"
    assert "This is a correlation, not a cause." in answer.reason
    assert "0.80 [0.70, 0.90], 12 right, 8 wrong in iq, pairs" in answer.reason
    assert "corrected for 3 tests (Holm)" in answer.reason


def test_the_question_of_focus_rests_on_the_tasks_that_can_tell(found):
    answer = comparison.decides(found)
    adjusted = holm([row["decides"]["auroc"].get("p", math.nan) for row in found.summary["models"]])
    for row, p in zip(found.summary["models"], adjusted, strict=True):
        told, own = row["decides"], found.members[row["name"]].summary["focus_score"]["decides"]["overall"]
        assert told["tasks"] == own["tasks"]
        assert told["auroc"]["p_holm"] == (None if math.isnan(p) else pytest.approx(p))
        words = f"{written(told['auroc'])}, {told['n_right']} right, {told['n_wrong']} wrong"
        assert f"{found.labels[row['name']]} {words}" in answer.reason


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
    said = comparison.terminal_text(found)
    best = max(found.summary["models"], key=lambda row: row["accuracy"]["mean"])
    lines = said.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("-----")) + 1
    assert lines[first].startswith(found.labels[best["name"]])
    for row in found.summary["pairs"]:
        assert said.count(f"{row['js']['mean']:.3f}") >= 2  # on both sides of the diagonal
    for answer in comparison.answers(found):
        assert answer.line in lines
