"""What a matrix's results say of a preset: its seeds' values, their mean, and when it has an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

# Metrics that are a whole number of samples over n; with an ending for how the latents were hidden, `cost_mask`.
COUNTED = ("accuracy", "changed", "cost")
# Too few samples, or all values alike; results.csv of before had intervals without width there.
NO_INTERVAL = "no interval: undefined of one seed at least"


def restored(value: float, n: int) -> float:
    """k / n where `value` is that to five significant digits, which is what results.csv once had; else `value`.

    Rounding what was rounded is wrong in the last digit: 4 / 34 is 11.76 %, and its five digits, 0.11765, are 11.77 %.
    """
    if not math.isfinite(value) or n < 1:
        return value
    exact = round(value * n) / n
    return exact if f"{exact:.5g}" == f"{value:.5g}" else value


def value_of(row: Any) -> float:
    """The value of a row of a matrix's results (a mapping or Series), with all its digits where it counts samples."""
    counted = str(row["metric"]).split("_")[0] in COUNTED
    return restored(float(row["value"]), int(row["n"])) if counted else float(row["value"])


def over_seeds(rows: pd.DataFrame, seeds: Iterable[int]) -> dict[str, Any]:
    """{mean, ci, n} of rows of a matrix's results, one a seed of a preset: means of value, low, high; the smallest n.

    All seeds answer the same samples, so the mean's interval is at most as wide as the mean of theirs: the deviation
    of a mean is at most the mean of the deviations. That holds of intervals alone: where one seed has none, or one
    without width, the mean has none. seeds: all that were measured; one that has no row or no
    value leaves the mean undefined, for the mean of the others is of another set of trainings.
    """
    values = [value_of(row) for row in rows.to_dict("records")]
    mean = math.fsum(values) / len(values) if values and set(seeds) <= set(rows["seed"]) else math.nan
    low, high = rows["low"].astype(float), rows["high"].astype(float)
    sound = math.isfinite(mean) and bool((low < high).all())  # false of NaN too
    return {
        "mean": mean if math.isfinite(mean) else None,
        "ci": [float(low.mean()), float(high.mean())] if sound else None,
        "n": int(rows["n"].min()) if len(rows) else 0,
    }
