"""Accuracy against the perception gap: a point a model, and whether the two go together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib

from perception_gap.metrics.table import TABLE
from perception_gap.stats.correlation import Correlation, correlations
from reports.figures.ablation import means
from reports.figures.labelling import place_labels
from reports.figures.marks import Point, cross, with_ends
from reports.figures.models import Group, NamedFigure
from reports.sources import Matrix
from reports.style import COLUMN, RC, SMALL, TEACHER, fitted, look, new_figure, percent_ticks
from reports.summary import defined, written

TITLE = "Accuracy against the gap to the teacher"


def words(correlation: Correlation) -> str:
    """`Pearson r 0.80 [−0.28, 0.99]`."""
    if math.isnan(correlation.value):
        return f"{correlation.name} undefined"
    interval = "(no interval at n = {0.n})" if math.isnan(correlation.low) else "[{0.low:.2f}, {0.high:.2f}]"
    return f"{correlation.name} {correlation.value:.2f} {interval.format(correlation)}".replace("-", "−")


def of_models(group: Group) -> list[NamedFigure]:
    """Each student's mean KL from its teacher against its accuracy; [] below two such models."""
    points = []
    for model in group.students:
        kl, accuracy = model.summary.get("kl", {}).get("sample"), model.summary.get("accuracy")
        if defined(kl) and defined(accuracy):
            points.append(Point(model.label, with_ends(kl), with_ends(accuracy), model.look))
    teacher = group.teacher.summary.get("accuracy") if group.teacher else None
    accuracy = with_ends(teacher)[0] if defined(teacher) else None
    return _figures(points, accuracy, group.notes, group.warning, group.frame)


def of_matrix(matrix: Matrix) -> list[NamedFigure]:
    """Each preset's mean over its seeds; [] below two presets that have both numbers."""
    kl, accuracy = means(matrix, "kl"), means(matrix, "accuracy")
    both = [name for name in accuracy if name in kl]
    # Each has its name beside it, so a look of its own would only be noise.
    points = [Point(name, kl[name][:3], accuracy[name][:3], look(0)) for name in both]
    seeds = max((len(accuracy[name].seeds) for name in both), default=1)
    notes = ("A preset is the mean of its seeds.",) if seeds > 1 else ()
    return _figures(points, None, notes)


@matplotlib.rc_context(RC)
def _figures(
    points: Sequence[Point], teacher: float | None, notes: Sequence[str], warning: str = "", frame: str = ""
) -> list[NamedFigure]:
    if len(points) < 2:
        return []
    correlated = correlations([p.x[0] for p in points], [p.y[0] for p in points])
    figure = new_figure(COLUMN, 3.3)
    ax = figure.subplots()
    ax.set_title(TITLE)
    targets = [cross(ax, point, ("gap", "accuracy")) for point in points]
    ax.margins(0.16, 0.1)
    kl = TABLE["kl"]
    if teacher is not None:
        ax.axhline(teacher, color=TEACHER, ls="--", lw=1, gid="teacher")
        ax.text(0.01, teacher, "teacher", va="bottom", transform=ax.get_yaxis_transform())
    ax.set_xlabel(f"mean {kl.heading} ({kl.unit}{f', {frame}' * bool(frame)})")
    ax.set_ylabel("accuracy")
    percent_ticks(ax.yaxis)
    below = "\n".join(map(words, correlated)) if correlated else f"n = {len(points)}: no correlation is computed"
    below += f"\nn = {len(points)} models (bars, brackets: 95 %; Fisher z)" if correlated else " (bars: 95 %)"
    below += f"\n{fitted(warning, 72 * COLUMN - 6)}" * bool(warning)
    figure.supxlabel(below, fontsize=SMALL, x=0.01, ha="left")
    unplaced = place_labels(figure, ax, targets)
    if unplaced:
        notes = (*notes, f"Without a label in the figure, for want of room: {', '.join(unplaced)}.")
    return [NamedFigure("gap_accuracy", TITLE, _alt(points, correlated, teacher, notes, frame), figure)]


def _alt(
    points: Sequence[Point], correlated: Sequence[Correlation], teacher: float | None, notes: Sequence[str], frame: str
) -> str:
    met = f" (maps on the {frame})" if frame else ""
    sentences = [
        f"A point a model ({len(points)}): mean KL from the teacher{met} against accuracy, both with 95 % intervals."
    ]
    for point in points:
        x, y = ({"mean": v, "ci": [low, high] if low == low else None} for v, low, high in (point.x, point.y))
        sentences.append(f"{point.label}: KL {written(x, 'nats')}, accuracy {written(y, '%')}.")
    if teacher is not None:
        sentences.append(f"Teacher: accuracy {100 * teacher:.1f} %, gap 0 by definition and not in the correlation.")
    if correlated:
        sentences.append(f"{'; '.join(map(words, correlated))}, 95 % by Fisher's z, n = {len(points)}.")
        sentences.append(
            "Models that were trained from one parent are not independent: the intervals are then too narrow."
        )
    else:
        sentences.append(f"n = {len(points)}: no correlation is computed.")
    return " ".join([*sentences, *notes])
