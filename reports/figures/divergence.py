"""Divergence from the teacher by word category (paper, figure 3): of the attention maps and of the hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perception_gap.metrics.measure import CATEGORIES
from perception_gap.metrics.table import TABLE
from reports.figures.marks import dot, interval, span
from reports.figures.models import Group, Model, NamedFigure
from reports.style import COLUMN, FLOOR, MUTED, RC, STUDENT, legend_below, new_figure, undefined
from reports.summary import defined, written

FLOOR_WORDS = "floor: the teacher on another picture (bars, bands: 95 %)"


@matplotlib.rc_context(RC)
def of_models(group: Group) -> list[NamedFigure]:
    """Both divergences of every student with a summary; [] for a benchmark, which compares no maps."""
    students = [model for model in group.students if "kl" in model.summary]
    if not students:
        return []
    several = len(students) > 1
    reason = "no word was compared" if group.compared else "no teacher"
    known = any(
        defined(_metrics(m, name).get(c)) for m in students for name in ("kl", "cosine_distance") for c in CATEGORIES
    )
    rows = max(0.36, 0.14 * len(students) + 0.12)  # inches of a category
    figure = new_figure(COLUMN, 0.72 + len(CATEGORIES) * rows if known else 0.9)
    left, right = figure.subplots(1, 2)
    left.set_title(f"Attention maps, {group.frame}" if known and " and " not in group.frame else "Attention maps")
    right.set_title("Hidden states")
    draw = _dots if several else _bars
    if draw(left, students, "kl", reason):
        left.set_xlabel(TABLE["kl"].label)
    if draw(right, students, "cosine_distance", reason):
        right.set_xlabel(TABLE["cosine_distance"].label)
        right.set_yticks(right.get_yticks(), _counts(students, "cosine_distance"))
    if known:
        _legend(figure, left, right, several, group.warning)
    title = "Divergence from the teacher by word category"
    return [NamedFigure("divergence_by_category", title, _alt(students, reason if not known else "", group), figure)]


def _metrics(model: Model, name: str) -> Mapping[str, Any]:
    return model.summary.get(name, {})


def _floor(metrics: Mapping[str, Any], category: str) -> Mapping[str, Any] | None:
    return metrics.get(f"{category}_floor", metrics.get("floor"))


def _counts(students: Sequence[Model], name: str) -> list[str]:
    """`n = 513`, or its range over the models, of every category."""
    metrics = [_metrics(model, name) for model in students]
    return [f"n = {span((of.get(category) or {'n': 0})['n'] for of in metrics)}" for category in CATEGORIES]


def _frame(ax: Axes, students: Sequence[Model], name: str, reason: str, *, named: bool) -> bool:
    """Ticks and limits of a panel with a row a category; False, and words, when every category is undefined."""
    if not any(defined(_metrics(model, name).get(category)) for model in students for category in CATEGORIES):
        undefined(ax, reason)
        return False
    counts = _counts(students, name)
    ticks = [f"{category}\n{count}" if named else count for category, count in zip(CATEGORIES, counts, strict=True)]
    ax.set_yticks(range(len(CATEGORIES)), ticks)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(CATEGORIES) - 0.45, -0.55)
    return True


def _bars(ax: Axes, students: Sequence[Model], name: str, reason: str) -> bool:
    """One model: bars with intervals, and each one's floor with its band."""
    if not _frame(ax, students, name, reason, named=name == "kl"):
        return False
    metrics, color = _metrics(students[0], name), STUDENT if name == "kl" else MUTED
    for y, category in enumerate(CATEGORIES):
        metric, floor = metrics.get(category), _floor(metrics, category)
        if not defined(metric):
            ax.text(0, y, " undefined", va="center", color=MUTED)
            continue
        ax.barh(y, metric["mean"], height=0.56, color=color, alpha=0.75, lw=0, gid=category)
        interval(ax, metric["ci"], y, "black", f"interval {category}", lw=1.2)
        if defined(floor):
            _floor_mark(ax, floor, y, 0.4, f"floor {category}")
    ax.set_xlim(0, None)
    return True


def _dots(ax: Axes, students: Sequence[Model], name: str, reason: str) -> bool:
    """Several models: a dot with its interval each, in their order within a category, and its floor."""
    if not _frame(ax, students, name, reason, named=name == "kl"):
        return False
    step = 0.8 / len(students)
    for i, model in enumerate(students):
        metrics = _metrics(model, name)
        for y, category in enumerate(CATEGORIES):
            metric, floor, at = metrics.get(category), _floor(metrics, category), y - 0.4 + step * (i + 0.5)
            if not defined(metric):
                ax.text(0, at, " undefined", va="center", color=MUTED)
                continue
            (color, _, marker), name_of = model.look, f"{category} {model.label}"
            interval(ax, metric["ci"], at, color, f"interval {name_of}")
            dot(ax, metric["mean"], at, color, marker, name_of, ms=4.2)
            if defined(floor):
                _floor_mark(ax, floor, at, 0.4 * step, f"floor {name_of}")
    for y in range(1, len(CATEGORIES)):
        ax.axhline(y - 0.5, color=MUTED, lw=0.4, alpha=0.5)
    for model in students:
        ax.plot([], [], marker=model.look.marker, ms=4.2, color=model.look.color, ls="", label=model.label)
    ax.set_xlim(0, None)
    return True


def _floor_mark(ax: Axes, floor: Mapping[str, Any], y: float, half: float, gid: str) -> None:
    ends = [y - half, y + half]
    ax.plot([floor["mean"]] * 2, ends, color=FLOOR, ls="--" if half >= 0.3 else "-", lw=1, gid=gid)
    if floor["ci"]:
        ax.fill_betweenx(ends, *floor["ci"], color=FLOOR, alpha=0.2, lw=0)


def _legend(figure: Figure, left: Axes, right: Axes, several: bool, warning: str) -> None:
    handles, names = max((ax.get_legend_handles_labels() for ax in (left, right)), key=lambda entries: len(entries[0]))
    floors = [line for ax in (left, right) for line in ax.get_lines() if str(line.get_gid()).startswith("floor")]
    if floors and not several:
        legend_below(figure, floors[:1], [FLOOR_WORDS])
    elif several:
        words = ["floor: another picture (all: 95 %)"] if floors else ["bars: 95 %"]
        mark = left.plot([], [], color=FLOOR, marker="|", ms=7, mew=1.2, ls="")[0]
        legend_below(figure, [*handles, mark] if floors else handles, [*names, *words] if floors else names, warning)


def _alt(students: Sequence[Model], reason: str, group: Group) -> str:
    met = f" (on the {group.frame})" if group.frame else ""
    sentences = [
        "Divergence from the teacher by word category, with 95 % intervals (the paper's figure 3): KL of the attention "
        f"maps{met} in nats, cosine distance of the hidden states; floor: the teacher on another picture."
    ]
    if reason:
        return " ".join([*sentences, f"Undefined: {reason}.", *group.notes])
    for model in students:
        for name, words in (("kl", "KL"), ("cosine_distance", "cosine distance")):
            metrics = _metrics(model, name)
            values = [
                f"{category} {written(metrics.get(category))} (floor {written(_floor(metrics, category))}, "
                f"n = {(metrics.get(category) or {'n': 0})['n']:,})"
                for category in CATEGORIES
            ]
            sentences.append(f"{model.label}, {words}: {', '.join(values)}.")
    return " ".join([*sentences, *group.notes])
