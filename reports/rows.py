"""Which rows a run has in the terminal's table, on the page and in `gapcheck tables`: derived from the measures."""

from __future__ import annotations

from collections.abc import Iterator

from perception_gap.metrics.columns import measures
from perception_gap.metrics.measure import CATEGORIES, Measure

Row = tuple[str, str, str]  # label (indented below its measure), path in summary.json, unit

# The units of the terminal's table → those of columns, whose figures are percent and bare ratios.
COLUMN_UNITS = {"%": "percent", "×": ""}

# What a summary says of a measure beside its mean, behind its row.
_BESIDE: dict[str, tuple[Row, ...]] = {
    "focus_score": (
        ("  right answers", "focus_score.correct_mean", "%"),
        ("  wrong answers", "focus_score.incorrect_mean", "%"),
        ("  right − wrong, tasks mixed", "focus_score.raw_difference", "points"),
        ("  right − wrong, within task", "focus_score.difference", "points"),
        ("  AUROC (right over wrong), within task", "focus_score.auroc", ""),
    ),
    "sink_share": (("  focus score without them", "sinks.without.focus_score", "%"),),
}
_FLOOR = "  floor (teacher, other sample)"


def own_rows() -> list[Row]:
    """Of the model's own maps: the measures without a floor."""
    alone = [measure for measure in measures("sample", Measure) if not measure.floor]
    return [
        row
        for measure in alone
        for row in (
            (f"  {measure.heading}" if _below(measure, alone) else measure.heading, measure.place, measure.unit),
            *_BESIDE.get(measure.name, ()),
        )
    ]


def compared_rows() -> list[Row]:
    """Of the model against its teacher: measures beside their floors; of whole samples first, then of words alone."""
    compared = dict.fromkeys(m for scope in ("sample", "word") for m in measures(scope, Measure) if m.floor)
    return [row for measure in sorted(compared, key=lambda m: "sample" not in m.shown) for row in _compared(measure)]


def _compared(measure: Measure) -> Iterator[Row]:
    name, unit = measure.name, measure.unit
    if "sample" in measure.shown:
        yield f"{measure.heading}, sample", f"{name}.sample", unit
        yield _FLOOR, f"{name}.sample_floor", unit
    if "words" in measure.shown:
        yield f"{measure.heading}, words", f"{name}.all", unit
        if "categories" in measure.shown:
            yield from ((f"  {category}", f"{name}.{category}", unit) for category in CATEGORIES)
        yield _FLOOR, f"{name}.floor", unit


def _below(measure: Measure, others: list[Measure]) -> bool:
    """Whether its row belongs to one above it: `entropy.relative` of the summary to `entropy`."""
    block = measure.place.rpartition(".")[0]
    return bool(block) and next(other for other in others if other.place.startswith(block)) is not measure
