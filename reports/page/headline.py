"""The answer in words: does the student look where its teacher looks, and does that decide whether it is right?

Every sentence rests on a 95 % interval; what an interval does not exclude is said to be not established.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perception_gap.statistics import Estimate, mean_ci
from perception_gap.store import Run
from reports.answer import Answer
from reports.page.albums import Album
from reports.summary import Metric, defined, interval_of, lookup, why_no_focus, written


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
    found = [_decides(run, name)]
    if run.info["teacher"] is not None:
        found = [_looks(run, name), *found]
        if before is not None:
            found.insert(1, _nearer(before, run, album.label(before), name))
    return found


def _looks(run: Run, name: str) -> Answer:
    question = f"Does {name} look where its teacher looks?"
    kl, floor, paired = (lookup(run.summary, f"kl.{key}") for key in ("sample", "sample_floor", "floor_minus_sample"))
    if not defined(kl):
        return Answer(question, "Undefined", "no sample has a map of both models on one text.")
    reason = f"KL(teacher ‖ student) of the maps is {written(kl, 'nats')}, n = {kl['n']:,}"
    if not defined(floor):
        return Answer(question, "No floor to compare with", reason + ".")
    reason += f"; to the teacher's map of another picture of the same task it is {written(floor, 'nats')}"
    interval = interval_of(paired) if defined(paired) else None
    if interval is None:
        return Answer(question, "Not established", reason + ".")
    reason += f", {written(paired, 'nats')} more."
    if interval[0] > 0:
        return Answer(question, "More than by chance", reason)
    return Answer(question, "No" if interval[1] < 0 else "Not established", reason)


def _nearer(before: Run, after: Run, first: str, last: str) -> Answer:
    kl, accuracy = paired(before, after, "kl"), paired(before, after, "correct")
    question = f"Does {last} look nearer to the teacher than {first}?"
    right = f"; its accuracy differs by {_points(accuracy)}, n = {accuracy.n:,}"
    if not np.isfinite(kl.mean):
        return Answer(question, "Undefined", f"no sample has a divergence in both runs{right}.")
    reason = f"on the samples of both its KL differs by {_signed(kl)} nats, n = {kl.n:,}{right}."
    verdict = "Yes" if kl.high < 0 else "No, it is farther" if kl.low > 0 else "Not established"
    return Answer(question, verdict, reason)


def _decides(run: Run, name: str) -> Answer:
    question = f"Does looking decide whether {name} is right?"
    right, wrong, difference, auroc = (
        lookup(run.summary, f"focus_score.{key}") for key in ("correct_mean", "incorrect_mean", "difference", "auroc")
    )
    if not defined(difference):
        reason = "right and wrong answers of one task are needed to compare them."
        if not defined(lookup(run.summary, "focus_score")):
            reason = f"the samples have {why_no_focus(run.summary)}."
        return Answer(question, "Undefined", reason)
    reason = (
        f"within task, right answers have {written(difference, 'points')} more focus on the reference boxes than wrong "
        f"ones (means {written(right, '%')}, n = {_n(right)}, and {written(wrong, '%')}, n = {_n(wrong)}"
        + (f"; AUROC {written(auroc)}" if defined(auroc) else "") + ")."
    )  # fmt: skip
    interval = interval_of(difference)
    if interval is None:
        return Answer(question, "Not established", reason)
    low, high = interval
    if low > 0:
        return Answer(question, "It goes with it", reason + " This is a correlation, not a cause.")
    return Answer(question, "The other way round" if high < 0 else "Not established", reason)


def paired(before: Run, after: Run, column: str) -> Estimate:
    """Mean of after − before over the samples of both, 95 % bootstrap interval clustered; a failed answer is wrong."""
    tables = [run.samples.set_index("sample_id") for run in (before, after)]
    common = tables[0].index.intersection(tables[1].index)
    values = [table.loc[common, column] for table in tables]
    if column == "correct":
        values = [
            value.astype(float).where(table.loc[common, "status"] == "ok", 0.0)
            for value, table in zip(values, tables, strict=True)
        ]
    difference = (values[1].astype(float) - values[0].astype(float)).to_numpy()
    return mean_ci(difference, tables[0].loc[common, "cluster"].to_numpy())


def _n(metric: Metric | None) -> str:
    return f"{metric['n']:,}" if metric else "0"


def _signed(found: Estimate) -> str:
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]".replace("-", "−")


def _points(found: Estimate) -> str:
    return f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]".replace("-", "−")


def lead(found: Sequence[Album]) -> list[Answer]:
    """The headline of the first album that has one."""
    return next((answers for album in found if (answers := headline(album))), [])
