"""What the answer loses when attention to image tokens is cut: by tokens and by whose attention, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from reports.figures.marks import dot, interval
from reports.figures.models import Group, Model, NamedFigure
from reports.knockout import ROWS, conditions, finding, set_labels
from reports.style import FLOOR, MUTED, PAGE, RC, STUDENTS, legend_below, new_figure
from reports.summary import defined, written

TITLE = "Attention knockout"
_LOOKS = {
    "answer": (STUDENTS[0], "o"),
    "question": (STUDENTS[1], "s"),
    "text": (STUDENTS[2], "^"),
    "picture": (FLOOR, "D"),
}
_LEGEND = {
    "answer": "attention of the answer",
    "question": "of the question",
    "text": "of all text behind the image",
    "picture": "nothing cut, the scene redrawn",
}
_STEP = 0.22  # of a row, between the marks of two kinds of rows
_BOXED = ("inside", "redrawn")


@matplotlib.rc_context(RC)
def of_models(group: Group) -> list[NamedFigure]:
    """A row of panels a model that has a knockout; [] where none has."""
    models = [model for model in group.models if model.summary.get("knockout")]
    if not models:
        return []
    sets = max((len(_names(model)) for model in models), default=0)
    figure = new_figure(PAGE, 0.5 + len(models) * (0.34 * sets + 0.25))
    panels = figure.subplots(len(models), 2, squeeze=False, sharex="col")
    drawn: dict[str, None] = {}
    for model, (left, right) in zip(models, panels, strict=True):
        left.set_title(f"{TITLE}: {model.label}" if model is models[0] else model.label)
        drawn |= dict.fromkeys(_panel(left, model, "change"))
        _panel(right, model, "accuracy")
        right.set_yticklabels([])
    panels[-1, 0].set_xlabel("change of the answer's log-probability (nats)")
    panels[-1, 1].set_xlabel("change of accuracy (points)")
    panels[-1, 1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}".replace("-", "−")))
    marks = [Line2D([], [], color=_LOOKS[rows][0], marker=_LOOKS[rows][1], ms=4, lw=1.3) for rows in drawn]
    legend_below(figure, marks, [_LEGEND[rows] for rows in drawn])
    notes = " ".join([_alt(model) for model in models] + list(group.notes))
    title = "What the answer loses when attention to image tokens is cut"
    return [NamedFigure("knockout", title, notes, figure)]


def _names(model: Model) -> list[str]:
    """The sets of tokens, in their order, each once."""
    return list(dict.fromkeys(tokens for _, tokens, _ in conditions(model.summary["knockout"])))


def _panel(ax: Axes, model: Model, what: str) -> list[str]:
    """Draws one measure of a model; which kinds of rows it has."""
    cuts, names = model.summary["knockout"], _names(model)
    labels, kinds = set_labels(cuts), []
    for rows, tokens, condition in conditions(cuts):
        kinds.append(rows)
        metric = condition["change"] if what == "change" else condition["accuracy"]["difference"]
        y = names.index(tokens) + (_STEP * (list(ROWS).index(rows) - 1) if rows in ROWS else 0)
        _mark(ax, metric, y, rows, f"{what} {rows} {tokens} {model.label}")
    for y, name in enumerate(names):
        if name != "redrawn" and not cuts["text"][name]["change"]["n"]:
            ax.text(0.02, y, "undefined", va="center", color=MUTED, transform=ax.get_yaxis_transform())
    ax.axvline(0, color=MUTED, lw=0.8, zorder=0)
    ax.set_yticks(range(len(names)), [f"{labels[name]}{_count(cuts, name)}" for name in names])
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name in _BOXED else "normal")
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for y in range(1, len(names)):
        ax.axhline(y - 0.5, color=MUTED, lw=0.3, alpha=0.4, zorder=0)
    return kinds


def _count(cuts: Mapping[str, Any], name: str) -> str:
    """The number of samples, and of tokens on average, under a set's name."""
    cut = cuts["picture"]["redrawn"] if name == "redrawn" else cuts["text"][name]
    tokens = "" if cut["n_cut"]["mean"] is None else f"{cut['n_cut']['mean']:.1f} tokens, "
    return f"\n{tokens}n = {cut['change']['n']:,}"


def _mark(ax: Axes, metric: Mapping[str, Any], y: float, rows: str, gid: str) -> None:
    if defined(metric):
        color, marker = _LOOKS[rows]
        interval(ax, metric["ci"], y, color, f"interval {gid}")
        dot(ax, metric["mean"], y, color, marker, f"mean {gid}")


def _alt(model: Model) -> str:
    """The cuts of all text, the redrawn scene, and what is established; the other rows are in the figure."""
    cuts = model.summary["knockout"]
    labels = set_labels(cuts)
    sentences = [
        f"{labels[tokens]} {written(condition['change'], 'nats')}, accuracy "
        f"{written(condition['accuracy']['difference'], 'points')}"
        for rows, tokens, condition in conditions(cuts)
        if rows in ("text", "picture")
    ]
    sentence = f"{'; '.join(sentences)}. {finding(cuts)}"
    return f"{model.label}, attention of all text cut from image tokens (cut − uncut): {sentence}"
