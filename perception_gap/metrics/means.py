"""Means of measured columns, over rows of samples or words that have a `cluster`; shares of right answers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from perception_gap.stats.statistics import mean_ci

# Least and largest value of a measure, where it has one; a mean's interval ends there.
_SHARES = (
    "focus_score",
    "focus_chance",
    "pointing_game",
    "relative_entropy",
    "salient_fraction",
    "top_k_overlap",
    "top_k",
    "similarity",
    "sink_share",
    "text_image_mass",
)
_POSITIVE = ("focus_lift", "entropy", "salient_regions", "kl", "kl_reverse", "target_kl", "n_sinks")
RANGES = (
    dict.fromkeys(_SHARES, (0.0, 1.0))
    | dict.fromkeys(_POSITIVE, (0.0, math.inf))
    | dict.fromkeys(("cosine_distance", "cosine"), (0.0, 2.0))
    | {"js": (0.0, math.log(2)), "emd": (0.0, math.sqrt(2)), "cc": (-1.0, 1.0)}
)


def range_of(column: str) -> tuple[float, float]:
    """The RANGES of a column's measure, whatever it is measured of; all numbers for one without."""
    measure = column.removesuffix("_without_sinks").removesuffix("_floor").removeprefix("last_").removeprefix("latent_")
    return RANGES.get(measure, (-math.inf, math.inf))


def mean_of(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """{mean, ci, n} of a column of rows that have a `cluster`, as everywhere (`statistics.mean_ci`)."""
    values, clusters = rows[column].to_numpy(float), rows["cluster"].to_numpy()
    return mean_ci(values, clusters, within=range_of(column)).as_dict()


def against_floor(rows: pd.DataFrame, column: str, floor: str, seed: int) -> dict[str, Any]:
    """{value, floor, difference}: means over the same rows, those that have both; difference: floor − value, paired."""
    both = rows[rows[column].notna() & rows[floor].notna()]
    difference = (both[floor] - both[column]).to_numpy(float)
    return {
        "value": mean_of(both, column),
        "floor": mean_of(both, floor),
        "difference": mean_ci(difference, both["cluster"].to_numpy(), seed=seed, null=0).as_dict(),
    }


def verdicts(samples: pd.DataFrame) -> pd.Series:
    """1 right, 0 wrong or failed (a failed sample stays in the denominator), NaN without a reference [rows]."""
    known = samples["correct"].notna() | (samples["status"] != "ok")
    return samples["correct"].eq(True).astype(float).where(known)
