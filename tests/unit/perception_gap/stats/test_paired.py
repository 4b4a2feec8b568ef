"""Differences by sample, by hand."""

import numpy as np
import pandas as pd
import pytest

from perception_gap.stats.paired import by_sample
from perception_gap.stats.proportions import paired_ci
from perception_gap.stats.statistics import mean_ci


def rows(values, ids):
    return pd.DataFrame({"x": values, "cluster": [f"c{i}" for i in ids]}, index=pd.Index(list(ids), name="sample_id"))


def test_samples_of_one_alone_and_undefined_ones_are_left_out_whatever_their_order():
    found = by_sample(rows([1.0, 2.0, 4.0, np.nan], "abcd"), rows([9.0, 7.0, 5.0, 3.0], "dcbe"), "x")
    assert found.n == 2
    assert found.mean == pytest.approx(((5 - 2) + (7 - 4)) / 2)


def test_it_turns_with_the_order_of_the_two():
    before, after = rows([1.0, 2.0, 4.0], "abc"), rows([2.0, 2.5, 3.0], "abc")
    assert by_sample(after, before, "x").mean == -by_sample(before, after, "x").mean


def test_verdicts_have_the_interval_of_paired_shares_and_other_values_that_of_a_mean():
    before, after = rows([0.0, 1.0, 0.0, 1.0, 0.0, 0.0], "abcdef"), rows([1.0, 1.0, 1.0, 0.0, 1.0, 1.0], "abcdef")
    difference, clusters = (after["x"] - before["x"]).to_numpy(), before["cluster"].to_numpy()
    assert by_sample(before, after, "x", share=True) == paired_ci(difference, clusters)
    assert by_sample(before, after, "x", seed=3) == mean_ci(difference, clusters, seed=3, null=0)
