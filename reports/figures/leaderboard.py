"""Accuracy against focus: a point a model, and the focus of a map that looks everywhere alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib

from reports.compared import CompareRun
from reports.figures.labelling import place_labels
from reports.figures.marks import Point, cross, span, with_ends, words_below
from reports.figures.models import NamedFigure
from reports.style import COLUMN, FLOOR, RC, TEACHER_LOOK, Look, look, new_figure, percent_ticks, undefined
from reports.summary import defined, written

TITLE = "Accuracy and focus of each model"


@matplotlib.rc_context(RC)
def of_comparison(comparison: CompareRun, looks: Mapping[str, Look]) -> list[NamedFigure]:
    """looks: of the models of other figures, by label; here they look as they do there."""
    rows = comparison.summary["models"]
    known = [row for row in rows if defined(row["accuracy"]) and defined(row.get("focus_score"))]
    lacking = [comparison.labels[row["name"]] for row in rows if row not in known]
    notes = [f"Without focus or accuracy: {', '.join(lacking)}."] if lacking else []
    figure = new_figure(COLUMN, 3.2)
    ax = figure.subplots()
    ax.set_title(TITLE)
    if not known:
        undefined(ax, "no boxes, or no answer with words and a verdict")
        return [NamedFigure("leaderboard", TITLE, f"{TITLE}: undefined, no model has both.", figure)]
    targets = []
    for i, row in enumerate(known):
        name = comparison.labels[row["name"]]
        style = looks.get(name, TEACHER_LOOK if row["is_teacher"] else look(i))
        point = Point(name, with_ends(row["focus_score"]), with_ends(row["accuracy"]), style)
        targets.append(cross(ax, point, ("focus", "accuracy")))
    ax.margins(0.14, 0.12)
    _chance(ax, known)
    ax.set_xlabel("focus: share of the map in the boxes")
    ax.set_ylabel("accuracy")
    percent_ticks(ax.xaxis)
    percent_ticks(ax.yaxis)
    n = span((row["n_samples"] for row in known), " to ")
    words_below(figure, f"n = {n} samples; bars: 95 %\ndashed: focus by chance, of a uniform map")
    unplaced = place_labels(figure, ax, targets)
    if unplaced:
        notes.append(f"Without a label in the figure, for want of room: {', '.join(unplaced)}.")
    return [NamedFigure("leaderboard", TITLE, " ".join([_alt(comparison, known), *notes]), figure)]


def _chance(ax: Any, rows: list[Mapping[str, Any]]) -> None:
    """A line where the models' chance lies, a band where it differs: some leave parts of a picture without a token."""
    means = [row["focus_chance"]["mean"] for row in rows if defined(row["focus_chance"])]
    if means and max(means) - min(means) > 1e-9:
        ax.axvspan(min(means), max(means), color=FLOOR, alpha=0.15, lw=0, gid="chance band")
    if means:
        ax.axvline(max(means), color=FLOOR, ls="--", lw=0.9, gid="chance")


def _alt(comparison: CompareRun, rows: list[Mapping[str, Any]]) -> str:
    sentences = [
        f"A point a model ({len(rows)}): share of its maps in the boxes against accuracy, both with 95 % intervals."
    ]
    for row in rows:
        chance = written(row["focus_chance"], "%") if defined(row["focus_chance"]) else "undefined"
        sentences.append(
            f"{comparison.labels[row['name']]}: accuracy {written(row['accuracy'], '%')}, focus "
            f"{written(row['focus_score'], '%')}, by chance {chance}."
        )
    return " ".join(sentences)
