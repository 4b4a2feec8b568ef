"""What a comparison found, in words that claim no more than the intervals allow, and what a terminal shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perception_gap.stats.estimates import side
from perception_gap.stats.permutation import TOO_FEW
from reports.answer import Answer
from reports.compared import CompareRun
from reports.names import frame
from reports.summary import Metric, defined, too_few, written
from reports.tables import as_text, compared
from reports.tables.compared import pair_label
from reports.tables.model import estimate

MOST_LISTED = 6  # pairs or models that a sentence names one by one


def terminal_text(comparison: CompareRun) -> str:
    """Leaderboard, matrix of the pairs, and the answers, for a terminal."""
    tables = [compared.leaderboard(comparison, brief=True)]
    tables += [compared.matrix(comparison)] if comparison.summary["pairs"] else []
    tables += compared.knockout(comparison)
    return as_text.render(tables) + "\n" + "\n".join(answer.line for answer in answers(comparison))


def answers(comparison: CompareRun) -> list[Answer]:
    """Who looks most alike, whether gazes agree where answers are right, whether focus goes with being right.

    After `--knockout` also whether the answers rest on what is in the boxes.
    """
    return [alike(comparison), agree(comparison), decides(comparison), *rests(comparison)]


def alike(comparison: CompareRun) -> Answer:
    """The pair of the smallest JS, whether all others are farther apart, and whether it is nearer than its floor."""
    nearest = comparison.summary["most_alike"]
    several = len(comparison.summary["models"]) > 2
    question = "Which two models look most alike?" if several else "Do the two models look alike?"
    if nearest is None:
        return Answer(question, "Undefined", "no two models have maps of one sample in common (n = 0).")
    row = next(row for row in comparison.summary["pairs"] if _ends(row) == _ends(nearest))
    first, second = comparison.pair(row)
    chance, numbers = _chance(comparison, row)
    others = nearest["others"]
    if not several:
        return Answer(question, chance, numbers + ".")
    reason, pair = numbers + f"; the smallest JS of {1 + len(others)} pairs", f"{first} and {second}"
    if others:
        certain = all(side(other["farther"]) == 1 for other in others)
        few = any(too_few(other["farther"]) for other in others)
        pair = pair if certain else "Too few to say" if few else "Not established"
        more = others[0]["farther"]
        next_pair = pair_label(comparison, others[0])
        reason += f"; the next, {next_pair}, is {nats(more)} farther apart, paired, n = {more['n']:,}"
    # Two diffuse maps are near each other whatever the picture: without the floor the smallest JS says little.
    return Answer(question, f"{pair}; {chance[0].lower()}{chance[1:]}", f"{reason}.")


def _ends(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["first"], row["second"]


def _chance(comparison: CompareRun, row: Mapping[str, Any]) -> tuple[str, str]:
    """(verdict, numbers) of a pair against its floor, all of the same samples."""
    pair, names = row["against_floor"], " and ".join(comparison.pair(row))
    difference = pair["difference"]
    if not pair["value"]["n"]:
        numbers = f"the JS divergence of the maps of {names}, on the {frame(comparison.info)}, is {nats(row['js'])}"
        numbers += f", n = {row['js']['n']:,}"
        return "No floor to compare with", numbers + "; no other sample of its task has a map"
    numbers = (
        f"the JS divergence of the maps of {names}, on the {frame(comparison.info)}, is {nats(pair['value'])}; to the "
        f"first's map of another picture of the same task it is {nats(pair['floor'])}; the paired difference is "
        f"{nats(difference)} (n = {difference['n']:,})"
    )
    if too_few(difference):
        return "Too few to say whether nearer than by chance", numbers
    words = {1: "Nearer than by chance", -1: "Farther than by chance", 0: "Not established to be nearer than by chance"}
    return words[side(difference)], numbers


def agree(comparison: CompareRun) -> Answer:
    """JS where both are right minus where both are wrong, within task, of every pair."""
    question = "Do gazes agree more where both are right than where both are wrong?"
    metrics = {
        pair_label(comparison, row): row["agreement"]["js"]["right_minus_wrong"] for row in comparison.summary["pairs"]
    }
    sizes = {
        pair_label(comparison, row): tuple(row["agreement"]["js"][key]["n"] for key in ("both_right", "both_wrong"))
        for row in comparison.summary["pairs"]
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


def decides(comparison: CompareRun) -> Answer:
    """Focus of right answers over wrong ones, of every model, over its tasks that can tell."""
    question = "Does more focus go with being right?"
    overall_of = {comparison.labels[row["name"]]: row["decides"] for row in comparison.summary["models"]}
    words = {
        name: f"{name} {written(overall['auroc'])}, {overall['n_right']:,} right, {overall['n_wrong']:,} wrong"
        + (f" in {', '.join(overall['tasks'])}" if overall["tasks"] else ": no task can tell")
        for name, overall in overall_of.items()
    }
    verdicts = {
        name: _side(overall["auroc"], 0.5, below="the other way round", above="yes")
        for name, overall in overall_of.items()
    }
    reason = "AUROC of focus, right over wrong answers, within the tasks that can tell: "
    reason += _listed(verdicts, words, "model") + _caution(verdicts)
    return Answer(question, _verdict(verdicts, "model"), reason)


def rests(comparison: CompareRun) -> list[Answer]:
    """What cutting the boxed tokens costs beside as many elsewhere, of every model that was cut; [] where none was."""
    metrics = {comparison.labels[row["name"]]: row["rests"] for row in comparison.summary["models"] if "rests" in row}
    if not metrics:
        return []
    words = {name: f"{name} {written(metric, 'nats')}, n = {metric['n']:,}" for name, metric in metrics.items()}
    verdicts = {name: _side(metric, 0, below="yes", above="the other way round") for name, metric in metrics.items()}
    reason = (
        "change of the answer's log-probability when all text behind the picture cannot see the boxed tokens, minus "
        "that for as many tokens elsewhere: " + _listed(verdicts, words, "model")
    )
    question = "Do the answers rest on what is in the boxes?"
    return [Answer(question, _verdict(verdicts, "model"), reason + _corrected(verdicts))]


def _side(metric: Metric, null: float, *, below: str, above: str) -> str:
    """On which side of `null` a metric is established, in these words; "" on neither, "undefined" without a value."""
    if not defined(metric):
        return "undefined"
    return {1: above, -1: below, 0: TOO_FEW if too_few(metric) else ""}[side(metric, null)]


def _verdict(verdicts: Mapping[str, str], what: str) -> str:
    """`Yes`, `For 2 of 6 pairs`, `Not established`, .."""
    n = len(verdicts)
    counts = {
        text: sum(verdict == text for verdict in verdicts.values())
        for text in ("yes", "the other way round", "undefined", TOO_FEW)
    }
    if counts["undefined"] == n:
        return "Undefined"
    if counts["undefined"] + counts[TOO_FEW] == n:
        return "Too few to say"
    if n == 1:
        return next(iter(verdicts.values())).capitalize() or "Not established"
    yes, no = counts["yes"], counts["the other way round"]
    parts = [f"for {yes} of {n} {what}s"] * bool(yes) + [f"the other way round for {no} of {n} {what}s"] * bool(no)
    text = ", ".join(parts) or "not established"
    return text[0].upper() + text[1:]


def _listed(verdicts: Mapping[str, str], words: Mapping[str, str], what: str) -> str:
    """The numbers of all, or of those that an interval decides and how many others there are."""
    if len(words) <= MOST_LISTED:
        return "; ".join(words.values()) + "."
    decided = [name for name, verdict in verdicts.items() if verdict in ("yes", "the other way round")]
    undefined = sum(verdict == "undefined" for verdict in verdicts.values())
    parts = [words[name] for name in decided[:MOST_LISTED]]
    counts = (
        (len(decided) - MOST_LISTED, "and {} more that a test decides"),
        (len(words) - len(decided) - undefined, f"not established for {{}} {what}s"),
        (undefined, f"undefined for {{}} {what}s, no task of which has right and wrong ones"),
    )
    return "; ".join(parts + [text.format(n) for n, text in counts if n > 0]) + "."


def _caution(verdicts: Mapping[str, str]) -> str:
    decided = any(verdict in ("yes", "the other way round") for verdict in verdicts.values())
    return (" This is a correlation, not a cause." if decided else "") + _corrected(verdicts)


def _corrected(verdicts: Mapping[str, str]) -> str:
    """What several verdicts of one question rest on."""
    return f" Verdicts are corrected for {len(verdicts)} tests (Holm); intervals are not." if len(verdicts) > 1 else ""


def nats(metric: Metric | None) -> str:
    """`0.041 nats [0.032, 0.050]`: divergences of two students are too small for two digits."""
    cell = estimate(metric, "nats")
    return f"{cell.figure} nats {cell.interval}".strip() if cell.defined else "undefined"
