"""What is measured of one sample's maps, from its row and the arrays of its part; undefined is NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perception_gap import metrics
from perception_gap.measure.teacher import OF_SAMPLES
from perception_gap.runs.rows import geometry_of
from perception_gap.sample import Sample

if TYPE_CHECKING:
    from perception_gap.measure.teacher import Comparison

NOTHING = float("nan")
# Of the own map, and of it without its sinks.
OF_MAPS = (
    "focus_score", "focus_lift", "pointing_game", "entropy", "relative_entropy", "salient_regions", "salient_fraction",
)  # fmt: skip
WITHOUT_SINKS = tuple(f"{name}_without_sinks" for name in (*OF_MAPS, *OF_SAMPLES))
SAMPLE_METRICS = (
    "focus_score", "focus_chance", "focus_lift", "pointing_game", "entropy", "relative_entropy", "salient_regions",
    "salient_fraction", "kl", "kl_floor", "js", "js_floor", "top_k_overlap", "top_k_floor", "cc", "cc_floor",
    "similarity", "similarity_floor", "emd", "emd_floor", "n_sinks", "sink_share", *WITHOUT_SINKS,
)  # fmt: skip
# Of the mean of all latent rows and, with "last_", of the last one; NaN for a model without latent tokens.
LATENT_METRICS = tuple(
    f"{which}latent_{name}" for which in ("", "last_") for name in ("focus_score", "entropy", "kl", "kl_floor")
)
# Arrays of a part that are no raw maps, to be normalised.
NO_MAPS = ("sinks", "heads", "layers")


def normalised(raw: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; a row without mass stays NaN."""
    total = raw.sum(-1, keepdims=True)
    return np.divide(raw, total, out=np.full_like(raw, np.nan), where=total > 0)


def unit_boxes(row: dict) -> np.ndarray:
    """The row's boxes as [M, 4] fractions of their images."""
    boxes = np.asarray(row["boxes"], dtype=np.float64).reshape(-1, 4)
    sample = Sample("", (), "", "", tuple(map(tuple, boxes)), tuple(row["box_images"]))
    return sample.unit_boxes(list(zip(row["heights"], row["widths"], strict=True)))


def one_map(row: dict, attention: np.ndarray) -> dict:
    geometry, boxes, images = geometry_of(row), unit_boxes(row), row["box_images"]
    focus = metrics.focus_score(attention, geometry, boxes, images)
    chance = metrics.focus_chance(geometry, boxes, images)
    return {
        "focus_score": focus, "focus_chance": chance,
        "focus_lift": focus / chance if chance else NOTHING,
        "pointing_game": metrics.pointing_game(attention, geometry, boxes, images),
        "entropy": metrics.entropy(attention), "relative_entropy": metrics.relative_entropy(attention),
        "salient_regions": float(metrics.salient_region_count(attention)),
        "salient_fraction": metrics.salient_region_fraction(attention),
    }  # fmt: skip


def latent_rows(row: dict, rows: np.ndarray, comparison: Comparison | None) -> dict:
    """LATENT_METRICS of raw rows [K, N]; the divergence is from the teacher's map of the same sample."""
    found: dict[str, float] = {}
    for which, attention in (("", rows.mean(0)), ("last_", rows[-1])):
        own = one_map(row, attention) | (
            comparison.sample(row["sample_id"], attention) if comparison else {"kl": NOTHING, "kl_floor": NOTHING}
        )
        found |= {f"{which}latent_{name}": own[name] for name in ("focus_score", "entropy", "kl", "kl_floor")}
    return found


def sink_metrics(row: dict, arrays: dict[str, np.ndarray], comparison: Comparison | None) -> dict:
    """n_sinks, sink_share (of the own map, 0..1), WITHOUT_SINKS; {} where the model's sinks are undefined.

    Without sinks: their weights are 0 and the rest is scaled to sum 1; N stays what it was. NaN where nothing is left.
    """
    if "sinks" not in arrays:
        return {}
    sinks, own = arrays["sinks"].astype(bool), normalised(arrays["own"].astype(np.float64))
    kept = one_map(row, np.where(sinks, 0, own))
    kept |= (
        comparison.without_sinks(row["sample_id"], np.where(sinks, 0, arrays["shared"]))
        if comparison
        else dict.fromkeys(OF_SAMPLES, NOTHING)
    )
    found = {"n_sinks": int(sinks.sum()), "sink_share": float((own * sinks).sum())}
    return found | {f"{name}_without_sinks": kept[name] for name in (*OF_MAPS, *OF_SAMPLES)}
