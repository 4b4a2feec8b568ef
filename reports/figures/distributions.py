"""How the maps are spread: entropy (paper, figure 4 and equation 10) and salient regions (table 2), by model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from perception_gap.metrics.measure import Measure
from perception_gap.metrics.table import TABLE
from reports.figures.marks import dot, interval, span
from reports.figures.models import Group, Model, NamedFigure, without
from reports.style import (
    COLUMN,
    RC,
    bins,
    caption,
    legend_below,
    new_figure,
    percent_ticks,
    row_captions,
    row_height,
    undefined,
)
from reports.summary import Metric, defined, written

OVERLAID = 3  # more models than this hide each other and get a row each


class _Spread(NamedTuple):
    """A model's values, one a valid sample that has one; cv: standard deviation (ddof 0) by mean, None undefined."""

    model: Model
    values: np.ndarray
    mean: Metric
    cv: float | None
    tokens: str


def _spread(model: Model, column: str) -> _Spread:
    stored = model.summary[column]
    rows = model.valid.dropna(subset=[column]) if defined(stored) else model.valid[:0]
    counts = rows["n_image_tokens"].astype(float)
    tokens = span(counts).replace(",", "") if len(counts) else ""
    return _Spread(model, rows[column].to_numpy(dtype=float), stored, stored["cv"], tokens)


def entropy(group: Group) -> list[NamedFigure]:
    """Entropy of the own-answer maps; [] for a benchmark without --gaze."""
    measure = TABLE["entropy"]
    return _figures(group, measure, f"{measure.heading} ({measure.unit}; a uniform map of N tokens has ln N)")


def salient_regions(group: Group) -> list[NamedFigure]:
    """Image tokens with more than 1.5 times the mean weight; [] for a benchmark without --gaze."""
    return _figures(group, TABLE["salient_regions"], "image tokens above 1.5 × the mean weight")


@matplotlib.rc_context(RC)
def _figures(group: Group, measure: Measure, axis_label: str) -> list[NamedFigure]:
    column, title = measure.name, f"{measure.heading.capitalize()} of the attention maps"
    group = without(group, column)
    if not group.models:
        return []
    spreads = [_spread(model, column) for model in group.models]
    known = [spread for spread in spreads if len(spread.values)]
    rows = len(spreads) > OVERLAID and len(known) > 0
    captions = [_caption(spread, 225) for spread in spreads]
    height = 0.72 + row_height(captions) * len(spreads) / 72 if rows else 1.85
    figure = new_figure(COLUMN, height)
    ax = figure.subplots()
    ax.set_title(title)
    if not known:
        undefined(ax, "no valid map")
    elif rows:
        _violins(ax, spreads, captions)
        ax.set_xlabel(
            f"{axis_label}\nbar: quartiles; black: mean with its 95 % interval"
            + f"\n{group.warning}" * bool(group.warning)
        )
    else:
        _overlaid(figure, ax, spreads, _edges(known, whole=column == "salient_regions"), group.warning)
        ax.set_xlabel(axis_label)
    if column == "salient_regions" and known:
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return [NamedFigure(column, title, _alt(spreads, title, measure.unit, group), figure)]


def _edges(known: Sequence[_Spread], whole: bool) -> np.ndarray:
    """Common edges of all models; of whole numbers each bin holds as many, so that no comb appears."""
    every = np.concatenate([spread.values for spread in known])
    low, high = every.min(), every.max()
    wanted = bins(max(len(spread.values) for spread in known), 25)
    if high == low:  # room on both sides of the one value
        low, high = low - 1, high + 1
    if not whole:
        return np.linspace(low - 1e-6, high + 1e-6, 1 + wanted)
    width = max(1, int(np.ceil((high - low + 1) / wanted)))
    return np.arange(low - 0.5, high + 0.5 + width, width)


def _overlaid(figure: Figure, ax: Axes, spreads: Sequence[_Spread], edges: np.ndarray, warning: str) -> None:
    for spread in spreads:
        (color, line, _), label = spread.model.look, _caption(spread, 210)
        if not len(spread.values):
            ax.plot([], [], color=color, ls=line, label=label)
            continue
        histogram(ax, spread.values, edges, color, line, label)
        ax.axvline(spread.mean["mean"], color=color, ls=line, lw=1, gid=f"mean {spread.model.label}")
    ax.set_ylabel("share of the samples")
    percent_ticks(ax.yaxis, 100)
    legend_below(figure, *ax.get_legend_handles_labels(), title=warning)


def histogram(ax: Axes, values: np.ndarray, edges: np.ndarray, color: str, line: str | tuple, label: str) -> None:
    """Percent of the values in each bin, as steps."""
    sns.histplot(
        x=values,
        bins=edges.tolist(),
        stat="percent",
        element="step",
        fill=True,
        alpha=0.2,
        lw=1.1,
        ls=line,
        color=color,
        label=label,
        ax=ax,
    )


def _caption(spread: _Spread, room: float) -> str:
    if not len(spread.values):
        return caption(spread.model.label, "undefined", room)
    return caption(
        spread.model.label, f"mean {spread.mean['mean']:.2f}, n = {len(spread.values):,}, {spread.tokens} tokens", room
    )


def _violins(ax: Axes, spreads: Sequence[_Spread], captions: Sequence[str]) -> None:
    """A row a model: the density (cut at the extremes), the quartiles as a bar, the mean with its interval."""
    point = 1 / row_height(captions)
    for y, spread in enumerate(spreads):
        color, _, marker = spread.model.look
        if not len(spread.values):
            continue
        if np.ptp(spread.values) > 0:
            sns.violinplot(
                x=spread.values,
                y=np.full(len(spread.values), y),
                orient="h",
                native_scale=True,
                cut=0,
                inner=None,
                density_norm="width",
                width=17 * point,
                color=color,
                alpha=0.3,
                linewidth=0,
                ax=ax,
            )
        quartiles = np.quantile(spread.values, [0.25, 0.75])
        interval(ax, quartiles, y, color, f"quartiles {spread.model.label}", lw=3.5)
        interval(ax, spread.mean["ci"], y, "black", lw=1.2)
        dot(ax, spread.mean["mean"], y, "black", marker, f"mean {spread.model.label}", ms=4)
    row_captions(ax, captions)  # last: the violins set limits of their own


def _alt(spreads: Sequence[_Spread], title: str, unit: str, group: Group) -> str:
    sentences = [f"{title}: their distribution over the samples."]
    for spread in spreads:
        if not len(spread.values):
            sentences.append(f"{spread.model.label}: undefined, no valid map.")
            continue
        cv = f", coefficient of variation {spread.cv:.2f}" if spread.cv is not None else ""
        sentences.append(
            f"{spread.model.label}: mean {written(spread.mean, unit)}{cv}, n = {len(spread.values):,}, "
            f"{spread.tokens} image tokens."
        )
    return " ".join([*sentences, *group.notes])
