"""The answer in words: does the student look where its teacher looks, and does that decide whether it is right?

Every claim rests on a test at 5 % and on the 95 % interval beside it (`reports.summary.side`); what they do not exclude
is said to be not established, and what no such sample could have shown is said to rest on too few.
"""

from __future__ import annotations

from collections.abc import Sequence

from perception_gap.runs.rows import verdicts
from perception_gap.runs.run import Run
from perception_gap.stats.estimates import Estimate, side
from perception_gap.stats.paired import by_sample
from reports.answer import Answer
from reports.decides import FOCUS, KL, claims, reason, verdict
from reports.names import frame
from reports.page.albums import Album
from reports.summary import defined, lookup, too_few, why_no_focus, written


def headline(album: Album) -> list[Answer]:
    """The two questions of the project for the last run of an album, beside its first where there are several.

    Several runs are taken as before and after: the first the student as it was, the last what became of it.
    """
    if not album.runs:
        return []
    run = album.runs[-1]
    if not (run.samples["status"] == "ok").any():
        return [Answer("What was measured?", "Nothing", f"All {len(run.samples):,} samples of the run failed.")]
    before = album.runs[0] if len(album.runs) > 1 else None
    name = album.label(run)
    answers = _decides(run, name)
    if run.info["teacher"] is not None:
        answers = [_looks(run, name), *answers]
        if before is not None:
            answers.insert(1, _nearer(before, run, album.label(before), name))
    return answers


def _looks(run: Run, name: str) -> Answer:
    question = f"Does {name} look where its teacher looks?"
    kl, pair = lookup(run.summary, "kl.sample"), run.summary["kl"]["against_floor"]
    if not defined(kl):
        return Answer(question, "Undefined", "no sample has a map of both models on one text.")
    if not pair["value"]["n"]:
        reason = (
            f"KL(teacher ‖ student) of the maps, on the {frame(run.info)}, is {written(kl, 'nats')}, n = {kl['n']:,}."
        )
        return Answer(question, "No floor to compare with", reason)
    difference = pair["difference"]
    reason = (
        f"KL(teacher ‖ student) of the maps, on the {frame(run.info)}, is {written(pair['value'], 'nats')}; to the "
        f"teacher's map of another picture of the same task it is {written(pair['floor'], 'nats')}; the paired "
        f"difference is {written(difference, 'nats')} (n = {difference['n']:,})."
    )
    if too_few(difference):
        return Answer(question, "Too few to say", reason)
    return Answer(question, {1: "More than by chance", -1: "No", 0: "Not established"}[side(difference)], reason)


def _nearer(before: Run, after: Run, first: str, last: str) -> Answer:
    kl, accuracy = paired(before, after, "kl"), paired(before, after, "correct")
    question = f"Does {last} look nearer to the teacher than {first}?"
    points = written(accuracy.as_dict(), "points")
    right = f"; its accuracy differs by {points} (n = {accuracy.n:,})" if accuracy.n else ""
    if not kl.n:
        return Answer(question, "Undefined", f"no sample has a divergence in both runs{right}.")
    by = written(kl.as_dict(), "nats")
    reason = f"on the samples of both its KL from the teacher differs by {by} (n = {kl.n:,}){right}."
    if too_few(kl.as_dict()):
        return Answer(question, "Too few to say", reason)
    return Answer(question, {-1: "Yes", 1: "No, it is farther", 0: "Not established"}[side(kl.as_dict())], reason)


def _decides(run: Run, name: str) -> list[Answer]:
    """Of the focus on the boxes and, with a teacher, of the divergence from it."""
    asked = [(f"Does looking decide whether {name} is right?", run.summary["focus_score"]["decides"], FOCUS)]
    if run.info["teacher"] is not None:
        question = f"Is {name} right where it looks as its teacher does?"
        asked.append((question, run.summary["kl"]["decides"], KL))
    answers = []
    for question, decides, looking in asked:
        if looking is FOCUS and not defined(lookup(run.summary, "focus_score")):
            answers.append(Answer(question, "Undefined", f"the samples have {why_no_focus(run.summary)}."))
            continue
        caution = " This is a correlation, not a cause." if claims(decides, looking) else ""
        answers.append(Answer(question, verdict(decides, looking), f"{reason(decides, looking)}.{caution}"))
    return answers


def paired(before: Run, after: Run, column: str) -> Estimate:
    """Mean of after − before over the samples of both, tested; a failed answer is wrong, one unscored is left out."""
    rows = [run.samples.assign(correct=verdicts(run.samples)).set_index("sample_id") for run in (before, after)]
    return by_sample(rows[0], rows[1], column, seed=after.info["settings"]["seed"], share=column == "correct")


def lead(listed: Sequence[Album]) -> list[Answer]:
    """The headline of the first album that has one."""
    return next((answers for album in listed if (answers := headline(album))), [])
