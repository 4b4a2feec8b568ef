"""Two models on the samples of both: the mean of the differences, paired by sample."""

from __future__ import annotations

import pandas as pd

from perception_gap.stats.estimates import Estimate
from perception_gap.stats.proportions import paired_ci
from perception_gap.stats.statistics import mean_ci


def by_sample(
    before: pd.DataFrame, after: pd.DataFrame, column: str, *, seed: int = 0, share: bool = False
) -> Estimate:
    """Mean of after − before over the samples of both that have a value in both, tested against 0.

    before, after: rows indexed by sample id, with `column` and (before) `cluster`. share: the values are verdicts, 0
    or 1, whose difference has the interval of paired shares. seed: of the arrangements of the test of other values.
    """
    both = before[["cluster", column]].join(after[column].rename("after"), how="inner")
    difference = (both["after"].astype(float) - both[column].astype(float)).to_numpy()
    clusters = both["cluster"].to_numpy()
    return paired_ci(difference, clusters) if share else mean_ci(difference, clusters, seed=seed, null=0)
