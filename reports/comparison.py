"""What a comparison found, in words that claim no more than the intervals allow, and what a terminal shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perception_gap.statistics import mean_ci
from reports.answer import Answer
from reports.compared import CompareRun
from reports.summary import Metric, defined, interval_of, written
from reports.tables import as_text, compared
from reports.tables.compared import FARTHER, NEARER, pair_label
from reports.tables.model import estimate

MOST_LISTED = 6  # pairs or models that a sentence names one by one


def told(found: CompareRun) -> str:
    """Leaderboard, matrix of the pairs, and the answers, for a terminal."""
    tables = [compared.leaderboard(found, brief=True)]
    tables += [compared.matrix(found)] if found.summary["pairs"] else []
    tables += compared.knockout(found)
    return as_text.render(tables) + "\n" + "\n".join(answer.line for answer in answers(found))


def answers(found: CompareRun) -> list[Answer]:
    """Who looks most alike, whether gazes agree where answers are right, whether focus goes with being right.

    After `--knockout` also whether the answers rest on what is in the boxes.
    """
    return [alike(found), agree(found), decides(found), *rests(found)]


def alike(found: CompareRun) -> Answer:
    """The pair of the smallest JS, whether the next one is farther apart, and whether it is nearer than its floor."""
    ranked = sorted((row for row in found.summary["pairs"] if defined(row["js"])), key=lambda row: row["js"]["mean"])
    several = len(found.summary["models"]) > 2
    question = "Which two models look most alike?" if several else "Do the two models look alike?"
    if not ranked:
        return Answer(question, "Undefined", "no two models have maps of one sample in common (n = 0).")
    first, second = found.pair(ranked[0])
    js = ranked[0]["js"]
    reason = f"the JS divergence of the maps of {first} and {second} is {nats(js)}, n = {js['n']:,}"
    chance, floor = _chance(ranked[0])
    if not several:
        return Answer(question, chance, reason + floor + ".")
    verdict, reason = f"{first} and {second}", f"{reason}, the smallest of {len(ranked)} pairs"
    if len(ranked) > 1:
        more = _more(found, ranked[0], ranked[1])
        others = [_side(_more(found, ranked[0], other), 0, below="", above="farther") for other in ranked[1:]]
        certain = all(other == "farther" for other in others)
        verdict = verdict if certain else "Not established"
        reason += f"; the next, {pair_label(found, ranked[1])}, is {nats(more)} farther apart, paired by sample"
    # Two diffuse maps are near each other whatever the picture: without the floor the smallest JS says little.
    return Answer(question, f"{verdict}; {chance[0].lower()}{chance[1:]}", f"{reason}{floor}.")


def _chance(row: Mapping[str, Any]) -> tuple[str, str]:
    """(verdict, reason) of a pair against its floor."""
    floor, paired = row["js_floor"], row["floor_minus_js"]
    if not defined(floor):
        return "No floor to compare with", "; no other sample of its task has a map"
    reason = f"; to the first's map of another picture of the same task it is {nats(floor)}, {nats(paired)} more"
    said = {NEARER: "Nearer than by chance", FARTHER: "Farther than by chance"}
    return said.get(compared.against_floor(paired), "Not established to be nearer than by chance"), reason


def _more(found: CompareRun, row: Mapping[str, Any], other: Mapping[str, Any]) -> Metric:
    """JS of another pair minus that of this one, on the samples of both."""
    frames = []
    for one in (row, other):
        mine = found.pairs[(found.pairs["first"] == one["first"]) & (found.pairs["second"] == one["second"])]
        frames.append(mine.set_index("sample_id"))
    common = frames[0].index.intersection(frames[1].index)
    difference = frames[1].loc[common, "js"].to_numpy(float) - frames[0].loc[common, "js"].to_numpy(float)
    return mean_ci(difference, frames[0].loc[common, "cluster"].to_numpy()).as_dict()


def agree(found: CompareRun) -> Answer:
    """JS where both are right minus where both are wrong, within task, of every pair."""
    question = "Do gazes agree more where both are right than where both are wrong?"
    metrics = {pair_label(found, row): row["agreement"]["js"]["right_minus_wrong"] for row in found.summary["pairs"]}
    sizes = {
        pair_label(found, row): tuple(row["agreement"]["js"][key]["n"] for key in ("both_right", "both_wrong"))
        for row in found.summary["pairs"]
    }
    words = {
        name: f"{name} {nats(metric)}, n = {metric['n']:,} in tasks with both, of {sum(sizes[name]):,}"
        for name, metric in metrics.items()
    }
    verdicts = {name: _side(metric, 0, below="yes", above="the other way round") for name, metric in metrics.items()}
    if not verdicts:
        return Answer(question, "Undefined", "no two models have maps of one sample in common (n = 0).")
    reason = "JS where both are right minus JS where both are wrong, within task: "
    return Answer(question, _verdict(verdicts, "pair"), reason + _listed(verdicts, words, "pair") + _caution(verdicts))


def decides(found: CompareRun) -> Answer:
    """Focus of right answers over wrong ones, of every model."""
    question = "Does more focus go with being right?"
    metrics = {found.labels[row["name"]]: row["auroc"] for row in found.summary["models"]}
    words = {name: f"{name} {written(metric)}, n = {metric['n']:,}" for name, metric in metrics.items()}
    verdicts = {name: _side(metric, 0.5, below="the other way round", above="yes") for name, metric in metrics.items()}
    reason = "AUROC of focus, right over wrong answers, within task: " + _listed(verdicts, words, "model")
    return Answer(question, _verdict(verdicts, "model"), reason + _caution(verdicts))


def rests(found: CompareRun) -> list[Answer]:
    """What cutting the boxed tokens costs beside as many elsewhere, of every model that was cut; [] where none was."""
    cut = {found.labels[name]: run.summary["knockout"] for name, run in found.members.items()
           if run.summary.get("knockout")}  # fmt: skip
    if not cut:
        return []
    metrics = {name: told["contrasts"]["text"]["inside_minus_outside_number"]["change"] for name, told in cut.items()}
    words = {name: f"{name} {written(metric, 'nats')}, n = {metric['n']:,}" for name, metric in metrics.items()}
    verdicts = {name: _side(metric, 0, below="yes", above="the other way round") for name, metric in metrics.items()}
    reason = (
        "change of the answer's log-probability when all text behind the picture cannot see the boxed tokens, minus "
        "that for as many tokens elsewhere: " + _listed(verdicts, words, "model")
    )
    alone = " Each interval is 95 % by itself." if len(verdicts) > 1 else ""
    return [Answer("Do the answers rest on what is in the boxes?", _verdict(verdicts, "model"), reason + alone)]


def _side(metric: Metric, none: float, *, below: str, above: str) -> str:
    """On which side of `none` the whole interval lies, in these words; "" on neither, "undefined" without a value."""
    if not defined(metric):
        return "undefined"
    interval = interval_of(metric)
    if interval is None:
        return ""
    return above if interval[0] > none else below if interval[1] < none else ""


def _verdict(verdicts: Mapping[str, str], what: str) -> str:
    """`Yes`, `For 2 of 6 pairs`, `Not established`, .."""
    n = len(verdicts)
    counts = {
        said: sum(one == said for one in verdicts.values()) for said in ("yes", "the other way round", "undefined")
    }
    if counts["undefined"] == n:
        return "Undefined"
    if n == 1:
        return next(iter(verdicts.values())).capitalize() or "Not established"
    yes, no = counts["yes"], counts["the other way round"]
    parts = [f"for {yes} of {n} {what}s"] * bool(yes) + [f"the other way round for {no} of {n} {what}s"] * bool(no)
    said = ", ".join(parts) or "not established"
    return said[0].upper() + said[1:]


def _listed(verdicts: Mapping[str, str], words: Mapping[str, str], what: str) -> str:
    """The numbers of all, or of those that an interval decides and how many others there are."""
    if len(words) <= MOST_LISTED:
        return "; ".join(words.values()) + "."
    decided = [name for name, said in verdicts.items() if said not in ("", "undefined")]
    undefined = sum(said == "undefined" for said in verdicts.values())
    parts = [words[name] for name in decided[:MOST_LISTED]]
    counts = (
        (len(decided) - MOST_LISTED, "and {} more that an interval decides"),
        (len(words) - len(decided) - undefined, f"not established for {{}} {what}s"),
        (undefined, f"undefined for {{}} {what}s, no task of which has right and wrong ones"),
    )
    return "; ".join(parts + [text.format(n) for n, text in counts if n > 0]) + "."


def _caution(verdicts: Mapping[str, str]) -> str:
    decided = any(said not in ("", "undefined") for said in verdicts.values())
    alone = " Each interval is 95 % by itself." if len(verdicts) > 1 else ""
    return (" This is a correlation, not a cause." if decided else "") + alone


def nats(metric: Metric | None) -> str:
    """`0.041 nats [0.032, 0.050]`: divergences of two students are too small for two digits."""
    cell = estimate(metric, "nats")
    return f"{cell.figure} nats {cell.interval}".strip() if cell.defined else "undefined"
