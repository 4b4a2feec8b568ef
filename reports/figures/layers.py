"""Which layers and heads carry the gaze: focus and gap of every head, focus and mass of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures.marks import interval, span
from reports.figures.models import Group, Model, NamedFigure
from reports.style import MUTED, PAGE, RC, fitted, legend_below, new_figure, percent_ticks, undefined
from reports.summary import defined, written

TITLE = "Layers and heads that carry the gaze"
FOCUS, GAP = sns.color_palette("crest", as_cmap=True), sns.color_palette("flare", as_cmap=True)
_LAYER, _LEAST = 0.115, 0.95  # inches of a layer, and of a panel at least
_COLUMNS = ("focus lift of heads (×)", "KL of heads (nats)", "focus lift of layers (×)", "text–image mass")


@matplotlib.rc_context(RC)
def of_models(group: Group) -> list[NamedFigure]:
    """A row of four panels a model that was analyzed with --per-layer; [] where none was."""
    models = [model for model in group.models if model.summary.get("per_layer")]
    if not models:
        return []
    heights = [max(_LEAST, _LAYER * len(_measured(model)["layers"])) for model in models]
    figure = new_figure(PAGE, sum(heights) + 0.42 * len(models) + 0.3)
    panels = figure.subplots(
        len(models), 4, squeeze=False, gridspec_kw={"height_ratios": heights, "width_ratios": (1.15, 1.15, 1, 1)}
    )
    scales = {"focus_lift": (0.0, _range(models, "focus_lift")[1]), "kl": _range(models, "kl")}
    for ax, title in zip(panels[0], _COLUMNS, strict=True):
        ax.set_title(title)
    for model, row, height in zip(models, panels, heights, strict=True):
        _row(figure, row, model, scales)
        row[0].set_ylabel(f"{fitted(model.label, 72 * height)}\nlayer")
    even = Line2D([], [], color=MUTED, lw=0.8, ls=":")
    legend_below(figure, [even], ["a uniform map; the mean of the layers (bars: 95 %)"], group.warning)
    return [NamedFigure("layers", TITLE, _alt(models, group), figure)]


def _measured(model: Model) -> Mapping[str, Any]:
    return model.summary["per_layer"]


def _matrix(model: Model, name: str) -> np.ndarray:
    """[L, H] means over the samples, NaN where undefined."""
    return np.asarray(_measured(model)["heads"][name]["mean"], dtype=float)


def _range(models: Sequence[Model], name: str) -> tuple[float, float]:
    """One scale for all models, so that their colours compare; (0, 1) where nothing is defined."""
    values = np.concatenate([_matrix(model, name).ravel() for model in models])
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _row(figure: Figure, row: Sequence[Axes], model: Model, scales: Mapping[str, tuple[float, float]]) -> None:
    focus, gap, lift, mass = row
    masses = [metric["mean"] for metric in _measured(model)["by_layer"]["mass"].values() if defined(metric)]
    no_focus = "no boxes" if masses else "no answer with a word in it"
    _heads(figure, focus, model, "focus_lift", scales["focus_lift"], FOCUS, no_focus)
    _heads(figure, gap, model, "kl", scales["kl"], GAP, "the teacher" if model.is_teacher else "no teacher")
    _profile(lift, model, "focus_lift", 1.0, no_focus)
    _profile(mass, model, "mass", float(np.mean(masses)) if masses else 0.0, "no text")
    if masses:
        percent_ticks(mass.xaxis)
        mass.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))


def _heads(
    figure: Figure, ax: Axes, model: Model, name: str, scale: tuple[float, float], colors: Any, reason: str
) -> None:
    """A cell a head, layer by layer downwards; heads that a layer lacks, and undefined ones, stay blank."""
    values = _matrix(model, name)
    if not np.isfinite(values).any():
        undefined(ax, reason)
        return
    image = ax.imshow(
        values,
        cmap=colors,
        vmin=scale[0],
        vmax=scale[1],
        aspect="auto",
        interpolation="nearest",
        gid=f"heads {name} {model.label}",
    )
    _layer_ticks(ax, model)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel(f"head (n = {span(np.ravel(_measured(model)['heads'][name]['n']))})")
    bar = figure.colorbar(image, ax=ax, location="right", aspect=14, pad=0.02)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def _profile(ax: Axes, model: Model, name: str, even: float, reason: str) -> None:
    """The layers' means with their 95 % intervals. even: what a layer that stands out in nothing would have."""
    measured = _measured(model)
    metrics = [measured["by_layer"][name][str(layer)] for layer in measured["layers"]]
    if not any(defined(metric) for metric in metrics):
        undefined(ax, reason)
        return
    places = [i for i, metric in enumerate(metrics) if defined(metric)]
    ax.plot(
        [metrics[i]["mean"] for i in places],
        places,
        color=model.look.color,
        marker=model.look.marker,
        ms=4,
        lw=0.9,
        clip_on=False,
        gid=f"profile {name} {model.label}",
    )
    for i in places:
        gid = f"interval {name} {measured['layers'][i]} {model.label}"
        interval(ax, metrics[i]["ci"], i, model.look.color, gid, lw=1.6, alpha=0.55)
    ax.axvline(even, color=MUTED, lw=0.8, ls=":", zorder=0, gid=f"even {name} {model.label}")
    _layer_ticks(ax, model)
    ends = [max([metrics[i]["mean"], *(metrics[i]["ci"] or ())]) for i in places]
    ax.set_xlim(0, 1.08 * max([*ends, even]))
    ax.set_ylim(len(metrics) - 0.5, -0.5)
    ax.set_xlabel(f"n = {span(metrics[i]['n'] for i in places)}")


def _layer_ticks(ax: Axes, model: Model) -> None:
    layers = _measured(model)["layers"]
    step = max(1, round(len(layers) / 8))
    ax.set_yticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
    ax.tick_params(axis="y", length=0)


def _alt(models: Sequence[Model], group: Group) -> str:
    met = f", on the {group.frame}," if group.frame else ""
    sentences = [
        "Layer by layer, with 95 % intervals: focus lift (focus over that of a uniform map) and KL from the teacher's "
        f"final map{met} of every head, focus lift and text–image mass of every layer."
    ]
    for model in models:
        by_layer = _measured(model)["by_layer"]
        values = [
            f"layer {layer} {written(by_layer['focus_lift'][str(layer)], '×')}, "
            f"{written(by_layer['mass'][str(layer)], '%')} on the image, KL {written(by_layer['kl'][str(layer)])}"
            for layer in _measured(model)["layers"]
        ]
        sentences.append(f"{model.label}: {'; '.join(values)}. {_measured(model)['finding']}")
    return " ".join([*sentences, *group.notes])
