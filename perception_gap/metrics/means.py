"""Means of measured columns, over rows of samples or words that have a `cluster`; shares of right answers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from perception_gap.metrics.columns import range_of
from perception_gap.stats.statistics import mean_ci


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
