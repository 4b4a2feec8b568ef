"""What a model gains over another, in points: of the paper's as the prints differ, of ours paired where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks import published
from benchmarks.published.entries import pick
from perception_gap.stats.paired import by_sample
from perception_gap.stats.seeds import NO_INTERVAL, over_seeds
from reports.sources import BenchRun, Matrix
from reports.tables.match import title
from reports.tables.model import Cell, Row, estimate
from reports.tables.own import DRAWN, SCENES, Own
from reports.tables.places import Place

GROUP = "gains"
# What the presets of a matrix are held against: in table 1 the untrained student and plain fine-tuning; in table 3
# `ours`, from which the ablations differ by one setting, as they all have its closing token.
AGAINST = {"table1": ("student", "naive-sft"), "table3": ("ours", "paper")}
UNPAIRED = "difference of the two accuracies, no interval: the two were not compared sample by sample"
OTHER = "not compared: other questions"


def published_rows(paper: published.Paper, printed: published.Table, places: Sequence[Place]) -> list[Row]:
    """The gains that follow from the prints, a row a pair of rows; a star where one of the two figures has one."""
    by_pair: dict[tuple[str, str], dict[str, Cell]] = {}
    titles = {row.name: title(row) for row in printed.rows}
    for gain in published.gains(paper, [printed.id]):
        for place in places:
            if place.column.key == gain.column:
                cell = Cell(gain.points, decimals=gain.decimals, signed=True, starred=gain.starred)
                by_pair.setdefault((gain.row, gain.over), {})[place.key] = cell
    return [
        Row(f"{titles[row]} − {titles[over]}", "gain", cells, f"{GROUP}, published")
        for (row, over), cells in by_pair.items()
    ]


def own_rows(
    printed: published.Table,
    owns: Sequence[Own],
    places: Sequence[Place],
    rows_of: Mapping[str, str],
    baseline: str | None,
) -> list[Row]:
    """Gains of ours, over `baseline` (every other model) or over what stands where the paper's baseline does."""
    return [_gain(own, base, places) for own, base in _pairs(printed, owns, rows_of, baseline)]


def _pairs(
    printed: published.Table, owns: Sequence[Own], rows_of: Mapping[str, str], baseline: str | None
) -> list[tuple[Own, Own]]:
    if baseline is not None:
        named = {name: own for own in reversed(owns) for name in sorted(own.names)}
        base = pick(baseline, named, "model of these runs to take as --baseline")
        return [(own, base) for own in owns if own is not base]
    chosen = []
    for source in {id(own.source): own.source for own in owns}.values():
        inside = [own for own in owns if own.source is source]
        pairs = [
            (own, base)
            for gain in printed.gains
            for base in inside
            if rows_of.get(base.label) == gain.over
            for own in inside
            if own is not base and rows_of.get(own.label) in ({gain.row} if gain.row else rows_of.values())
        ]
        if isinstance(source, BenchRun):
            base_name = baseline_of(source)
            others = [(own, base) for base in inside if base.name == base_name for own in inside if own is not base]
            chosen += pairs or others
            continue
        by_label = {own.label: own for own in inside}
        against = [by_label[name] for name in AGAINST.get(printed.id, ()) if name in by_label]
        against = against[:1] if printed.id == "table3" else against
        mapped = [own for own in inside if own.label in rows_of]
        chosen += [(own, base) for base in against for own in mapped if own is not base and not own.hidden]
        chosen += [(own, by_label[own.name]) for own in mapped if own.hidden and own.name in by_label]
    return chosen


def baseline_of(bench: BenchRun) -> str | None:
    """The model that bench compared the others with, summarised or not.

    A bench.json of before it was written there: the one that is never the second of a comparison.
    """
    named = bench.info.get("baseline")
    if isinstance(named, str):
        return named
    compared = set() if bench.comparisons.empty else set(bench.comparisons["model"])
    return next((model.name for model in bench.models if model.name not in compared), None) if compared else None


def _gain(own: Own, base: Own, places: Sequence[Place]) -> Row:
    cells = {}
    for place in places:
        mine, theirs = own.figures.get(place.task), base.figures.get(place.task)
        if mine is None or theirs is None:
            continue
        difference = _paired(own, base, place.task) or _by_sample(own, base, place.task)
        if difference is not None:
            unbound = isinstance(own.source, Matrix) and difference["mean"] is not None and difference["ci"] is None
            cells[place.key] = estimate(difference, "points", signed=True, notes=(NO_INTERVAL,) if unbound else ())
        elif mine.data != theirs.data:
            cells[place.key] = Cell(None, notes=(OTHER,))
        elif mine.estimate["mean"] is None or theirs.estimate["mean"] is None:
            cells[place.key] = Cell(None)
        else:
            points = 100 * (mine.estimate["mean"] - theirs.estimate["mean"])
            cells[place.key] = Cell(points, n=mine.estimate["n"], signed=True, notes=(UNPAIRED,))
    return Row(f"{own.label} − {base.label}", "gain", cells, f"{GROUP}, ours")


def _paired(own: Own, base: Own, task: str) -> dict[str, Any] | None:
    """{mean, ci, n} of own − base over the same samples as their source compared them, None where it did not."""
    if own.source is not base.source:
        return None
    table = own.source.comparisons
    if isinstance(own.source, BenchRun):
        if own.figures[task].data != base.figures[task].data:
            return None
        second, mean, ends = "model", "difference", ("difference_low", "difference_high")
        against = pd.Series(baseline_of(own.source), index=table.index)
    else:
        if own.hidden or base.hidden:
            return _cost(own, base, task)
        task = task.removeprefix(DRAWN) if task.removeprefix(DRAWN) in SCENES else task
        if not table.empty:
            table = table[(table["metric"] == "accuracy") & (table["rows"] == "answer")]
        second, mean, ends = "preset", "mean", ("low", "high")
        against = table.get("against", pd.Series(dtype=object))
    if table.empty:
        return None
    for a, b, sign in ((own.name, base.name, 1), (base.name, own.name, -1)):
        chosen = table[(table[second] == a) & (against == b) & (table["task"] == task)]
        if len(chosen):
            return _as_estimate(chosen.iloc[0], mean, ends, sign)
    return None


def _by_sample(own: Own, base: Own, task: str) -> dict[str, Any] | None:
    """The same for two models of benchmarks that were not compared there, from their answers to the same questions."""
    if not isinstance(own.source, BenchRun) or not isinstance(base.source, BenchRun):
        return None
    if own.figures[task].data != base.figures[task].data:
        return None
    mine, theirs = _verdicts(own, own.source, task), _verdicts(base, base.source, task)
    return by_sample(theirs, mine, "correct", share=True).as_dict()


def _verdicts(own: Own, bench: BenchRun, task: str) -> pd.DataFrame:
    """The task's rows by sample; `correct` is None where no scorer had a verdict."""
    samples = next(m for m in bench.models if m.name == own.name).samples
    return samples[samples["task"] == task].set_index("sample_id")


def _cost(own: Own, base: Own, task: str) -> dict[str, Any] | None:
    """With the latents masked against the same preset without: minus what masking costs, averaged over the seeds."""
    if isinstance(own.source, BenchRun) or own.name != base.name:
        return None
    results, names = own.source.results, (task, task.removeprefix(DRAWN))
    mine = results[(results["preset"] == own.name) & (results["metric"] == "cost_mask")]
    chosen = mine[mine["task"].isin(names)]
    if chosen.empty:
        return None
    cost = over_seeds(chosen, mine["seed"])
    return _signed(cost["mean"], cost["ci"], cost["n"], -1 if own.hidden else 1)


def _as_estimate(row: pd.Series, mean: str, ends: tuple[str, str], sign: int) -> dict[str, Any]:
    low, high = (float(row[end]) for end in ends)
    return _signed(float(row[mean]), [low, high] if low < high else None, int(row["n"]), sign)


def _signed(mean: float | None, ci: list[float] | None, n: int, sign: int) -> dict[str, Any]:
    value = None if mean is None or pd.isna(mean) else sign * mean
    return {"mean": value, "ci": None if ci is None else sorted(sign * end for end in ci), "n": n}
