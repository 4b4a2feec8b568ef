"""The layers and heads of a whole run: means with intervals, their order, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perception_gap.measure.per_layer import layer_measures
from perception_gap.metrics.columns import range_of
from perception_gap.stats.statistics import mean_ci

# What orders the layers → how a leading layer is told.
LEADS = {"focus_lift": "the highest focus lift", "mass": "the most text–image mass"}


def profiled() -> list[str]:
    """What a profile has of layers and heads: `layer_measures`, and behind the focus score its lift."""
    names = layer_measures()
    place = names.index("focus_score") + 1
    return [*names[:place], "focus_lift", *names[place:]]


class Profile:
    """Gathers `per_layer.on_frame` of one sample after the other: of layers all values, of heads the sums and counts.

    layers: the decoder's numbers of the layers measured, the order of all arrays.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        self._ids: list[str] = []
        self._values: list[np.ndarray] = []
        self._sums: Any = 0.0
        self._counts: Any = 0

    def add(self, sample_id: str, layers: np.ndarray, heads: np.ndarray, chance: float) -> None:
        """layers [M, L], heads [M, L, H]; chance: focus score of the uniform map (NaN or 0: no lift)."""
        lift = 1 / chance if chance > 0 else math.nan
        place = profiled().index("focus_lift")

        def with_lift(values: np.ndarray) -> np.ndarray:
            exact = values.astype(np.float64)
            return np.insert(exact, place, exact[place - 1] * lift, axis=0)

        self._ids.append(sample_id)
        self._values.append(with_lift(layers))
        of_heads = with_lift(heads)
        self._sums = self._sums + np.nan_to_num(of_heads)
        self._counts = self._counts + np.isfinite(of_heads)

    def summary(self, samples: pd.DataFrame) -> dict[str, Any]:
        """{"per_layer": ..} of summary.json, {} where nothing was measured.

        by_layer: `profiled` → layer → {mean, ci, n}. heads: `profiled` → {mean, n}, [L][H]. mass_of_total: layer → its
        part of the mass of all layers over all samples, 0..1. order: LEADS → layers, largest first. leads: see `lead`.
        finding: one sentence.
        """
        if not self._ids:
            return {}
        clusters = samples.set_index("sample_id").loc[self._ids, "cluster"].to_numpy()
        values = dict(zip(profiled(), np.stack(self._values, axis=1), strict=True))  # each [samples, L]
        estimates = {
            name: {
                str(layer): mean_ci(column, clusters, within=range_of(name)).as_dict()
                for layer, column in self._columns(of_layers)
            }
            for name, of_layers in values.items()
        }
        leads = {name: self.lead(values[name], clusters) for name in LEADS}
        mass = np.nansum(values["mass"], axis=0)
        parts = {str(i): float(m / mass.sum()) if mass.sum() > 0 else None for i, m in self._columns(mass)}
        means = np.divide(self._sums, self._counts, out=np.full(self._sums.shape, np.nan), where=self._counts > 0)
        return {
            "per_layer": {
                "layers": self.layers,
                "by_layer": estimates,
                "heads": {
                    name: {"mean": _lists(mean), "n": count.tolist()}
                    for name, mean, count in zip(profiled(), means, self._counts, strict=True)
                },
                "mass_of_total": parts,
                "order": {name: self._order(values[name]) for name in LEADS},
                "leads": leads,
                "finding": finding(self.layers, estimates, leads, parts),
            }
        }

    def _columns(self, values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        return zip(self.layers, values.T, strict=True)

    def _order(self, values: np.ndarray) -> list[int]:
        means = {layer: _mean(column) for layer, column in self._columns(values)}
        return sorted((i for i in self.layers if math.isfinite(means[i])), key=lambda layer: -means[layer])

    def lead(self, values: np.ndarray, clusters: np.ndarray) -> dict[str, Any] | None:
        """{layer, above, level}: the layer with the largest mean, and the layers that it is established to exceed.

        The leader is chosen on the samples that judge it, so a difference is established only at a level that holds
        for all pairs of layers together (95 %, Bonferroni) by the interval of the paired difference. None where no
        layer has a value.
        """
        order = self._order(values)
        if not order:
            return None
        first, others = order[0], order[1:]
        level = 1 - 0.05 / max(1, len(order) * len(others) // 2)
        columns, above = dict(self._columns(values)), []
        for layer in others:
            if mean_ci(columns[first] - columns[layer], clusters, level).low > 0:
                above.append(layer)
        return {"layer": first, "above": sorted(above), "level": level}


def finding(
    layers: Sequence[int],
    estimates: dict[str, dict[str, dict[str, Any]]],
    leads: dict[str, dict[str, Any] | None],
    parts: dict[str, float | None],
) -> str:
    """One sentence: which layer leads by each of LEADS, and over which others that is established."""
    clauses = []
    for name, words in LEADS.items():
        lead = leads[name]
        if lead is None:
            why = " (no answer with a word in it)" if leads["mass"] is None else " (no answered sample has boxes)"
            clauses.append(f"{words.split(' ', 2)[2]} is undefined{why}")
            continue
        layer = str(lead["layer"])
        value, scale, digits = estimates[name][layer], *((1, 2) if name == "focus_lift" else (100, 1))
        ends = f" [{', '.join(f'{scale * end:.{digits}f}' for end in value['ci'])}]" if value["ci"] else ""
        text = f"{scale * value['mean']:.{digits}f}{'×' if scale == 1 else ' %'}{ends}"
        if name == "mass":
            text += " of its attention" + (f", {100 * part:.1f} % of all layers'" if (part := parts[layer]) else "")
        clauses.append(f"layer {layer} has {words} ({text}, n = {value['n']:,}){_over(lead, len(layers))}")
    return f"Of {len(layers)} layers: {'; '.join(clauses)}."


def _over(lead: dict[str, Any], n_layers: int) -> str:
    above = lead["above"]
    if n_layers == 1:
        return ""
    if len(above) == n_layers - 1:
        return ", more than every other layer"
    if not above:
        return ", not established over any other layer"
    return f", established over {len(above)} of the {n_layers - 1} others ({', '.join(map(str, above))})"


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _lists(values: np.ndarray) -> list[list[float | None]]:
    """Nested lists for JSON, undefined as None."""
    return [[None if math.isnan(v) else float(v) for v in row] for row in values]
