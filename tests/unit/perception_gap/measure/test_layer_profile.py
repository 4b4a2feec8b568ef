"""Layers of a whole run: means, lift by sample, who leads, and what the sentence may say."""

import numpy as np
import pandas as pd
import pytest

from perception_gap.measure.layer_profile import Profile, finding
from perception_gap.stats.statistics import mean_ci

LAYERS = [3, 7, 11]  # a hybrid's attention layers keep the decoder's numbers


def samples(n: int) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": [f"s{i}" for i in range(n)], "cluster": [f"c{i // 2}" for i in range(n)]})


def filled(focus, n=40, chance=0.1, mass=(0.1, 0.2, 0.1), noise=0.02, seed=0):
    """A profile of n samples whose layers have this mean focus; layers and heads are returned as well."""
    rng, profile = np.random.default_rng(seed), Profile(LAYERS)
    layers = np.stack([
        np.broadcast_to(mass, (n, 3)), focus + noise * rng.normal(size=(n, 3)), rng.random((n, 3)), rng.random((n, 3)),
    ], axis=1).astype(np.float32)  # fmt: skip
    heads = rng.random((n, 4, 3, 2)).astype(np.float32)
    for i in range(n):
        profile.add(f"s{i}", layers[i], heads[i], chance)
    return profile, layers, heads


def test_means_intervals_and_heads_are_those_of_the_columns():
    profile, layers, heads = filled([0.2, 0.3, 0.5])
    values = profile.summary(samples(40))["per_layer"]
    assert values["layers"] == LAYERS
    clusters = samples(40)["cluster"]
    for place, layer in enumerate(LAYERS):
        by_layer = {name: values[str(layer)] for name, values in values["by_layer"].items()}
        assert by_layer["focus_score"] == mean_ci(layers[:, 1, place], clusters, within=(0, 1)).as_dict()
        assert by_layer["kl"]["mean"] == pytest.approx(layers[:, 2, place].mean(dtype=float))
        assert by_layer["focus_lift"]["mean"] == pytest.approx(10 * layers[:, 1, place].mean(dtype=float))
        assert by_layer["mass"]["mean"] == pytest.approx([0.1, 0.2, 0.1][place])
        assert values["mass_of_total"][str(layer)] == pytest.approx([0.25, 0.5, 0.25][place])
    for name, place in (("mass", 0), ("focus_score", 1), ("kl", 2), ("js", 3)):
        np.testing.assert_allclose(values["heads"][name]["mean"], heads[:, place].mean(0, dtype=float))
        assert values["heads"][name]["n"] == [[40, 40]] * 3
    np.testing.assert_allclose(values["heads"]["focus_lift"]["mean"], 10 * heads[:, 1].mean(0, dtype=float))


def test_lift_is_averaged_over_samples_each_by_its_own_chance():
    profile = Profile([0])
    for i, chance in enumerate((0.1, 0.4, np.nan, 0.0)):
        profile.add(f"s{i}", np.array([[0.5], [0.2], [np.nan], [np.nan]]), np.full((4, 1, 2), 0.2), chance)
    values = profile.summary(samples(4))["per_layer"]
    assert values["by_layer"]["focus_lift"]["0"]["mean"] == pytest.approx((2 + 0.5) / 2)
    assert values["by_layer"]["focus_lift"]["0"]["n"] == 2
    assert values["heads"]["focus_lift"]["n"] == [[2, 2]]
    assert values["by_layer"]["kl"]["0"] == {"mean": None, "ci": None, "n": 0, "reason": "no value"}


def test_a_head_of_a_single_sample_is_that_sample():
    profile, _, heads = filled([0.2, 0.3, 0.5], n=1)
    values = profile.summary(samples(1))["per_layer"]["heads"]
    np.testing.assert_allclose(values["kl"]["mean"], heads[0, 2])
    assert values["kl"]["n"] == [[1, 1]] * 3


def test_undefined_heads_are_counted_and_null():
    profile = Profile([0])
    heads = np.full((4, 1, 2), 0.3)
    heads[1, 0, 1] = np.nan
    for i in range(3):
        profile.add(f"s{i}", np.full((4, 1), 0.3), heads, 0.1)
    values = profile.summary(samples(3))["per_layer"]["heads"]["focus_score"]
    assert values == {"mean": [[pytest.approx(0.3), None]], "n": [[3, 0]]}


def test_a_leading_layer_is_said_to_exceed_only_what_its_paired_interval_excludes():
    values = filled([0.2, 0.2, 0.5])[0].summary(samples(40))["per_layer"]
    assert values["order"]["focus_lift"][0] == 11
    assert values["leads"]["focus_lift"] == {"layer": 11, "above": [3, 7], "level": pytest.approx(1 - 0.05 / 3)}
    assert values["leads"]["mass"]["above"] == []  # differences without any spread have no interval
    assert "layer 11 has the highest focus lift" in values["finding"]
    assert "more than every other layer" in values["finding"]
    close = filled([0.2, 0.5, 0.5], noise=0.3)[0].summary(samples(40))["per_layer"]
    assert len(close["leads"]["focus_lift"]["above"]) == 1
    assert "established over 1 of the 2 others (3)" in close["finding"]
    alike = filled([0.3, 0.3, 0.3], noise=0.3, seed=1)[0].summary(samples(40))["per_layer"]
    assert alike["leads"]["focus_lift"]["above"] == []
    assert "not established over any other layer" in alike["finding"]


def test_undefined_samples_are_no_clusters_of_a_claim():
    # Five differences of mean 1 and a t of 2.5: below Student's 2.78 of 4 degrees, above the 2.06 of 24.
    values = np.stack([[0.0, 0.5, 1.0, 1.5, 2.0], np.zeros(5)], axis=1)
    values[:, 0] += (values[:, 0] - 1) * (np.sqrt(5) / 2.5 / values[:, 0].std(ddof=1) - 1)
    assert Profile([0, 1]).lead(values, np.arange(5))["above"] == []
    more = np.concatenate([values, np.full((20, 2), np.nan)])
    assert Profile([0, 1]).lead(more, np.arange(25)) == Profile([0, 1]).lead(values, np.arange(5))
    # Of the same 5 pictures, each asked five times, there are no more clusters either.
    assert Profile([0, 1]).lead(np.tile(values, (5, 1)), np.tile(np.arange(5), 5))["above"] == []
    assert Profile([0, 1]).lead(np.tile(values, (5, 1)), np.arange(25))["above"] == [1]


def test_the_sentence_by_hand():
    estimates = {
        "focus_lift": {"7": {"mean": 1.504, "ci": [1.25, 1.75], "n": 1200}},
        "mass": {"3": {"mean": 0.1254, "ci": None, "n": 40}},
    }
    leads = {"focus_lift": {"layer": 7, "above": [3]}, "mass": {"layer": 3, "above": []}}
    assert finding([3, 7], estimates, leads, {"3": 0.4, "7": 0.6}) == (
        "Of 2 layers: layer 7 has the highest focus lift (1.50× [1.25, 1.75], n = 1,200), more than every other layer; "
        "layer 3 has the most text–image mass (12.5 % of its attention, 40.0 % of all layers', n = 40), not "
        "established over any other layer."
    )
    alone = {"focus_lift": None, "mass": {"layer": 3, "above": []}}
    assert finding([3], estimates, alone, {"3": None}) == (
        "Of 1 layers: focus lift is undefined (no answered sample has boxes); layer 3 has the most text–image mass "
        "(12.5 % of its attention, n = 40)."
    )


def test_of_equal_layers_a_leader_is_claimed_in_one_run_of_twenty_at_most():
    rng, claims = np.random.default_rng(0), 0
    for _ in range(60):
        claims += bool(Profile(LAYERS).lead(rng.normal(size=(60, 3)), np.arange(60))["above"])
    assert claims <= 7  # 3 are expected at 5 %; more than 7 have a probability of 1 %


def test_without_boxes_the_sentence_says_so_and_without_samples_there_is_none():
    values = filled([np.nan] * 3)[0].summary(samples(40))["per_layer"]
    assert values["leads"]["focus_lift"] is None
    assert "focus lift is undefined (no answered sample has boxes)" in values["finding"]
    assert Profile(LAYERS).summary(samples(0)) == {}


def test_empty_answers_are_the_reason_where_no_layer_has_any_mass():
    values = finding(LAYERS, {}, {"focus_lift": None, "mass": None}, {})
    assert values.count("is undefined (no answer with a word in it)") == 2


def test_the_share_of_the_total_is_pooled_over_samples():
    profile = Profile([0, 1])
    for i, mass in enumerate(([0.001, 0.003], [0.5, 0.1])):  # the first sample hardly looks at its picture
        profile.add(f"s{i}", np.array([mass] * 4), np.full((4, 2, 1), 0.1), 0.1)
    values = profile.summary(samples(2))["per_layer"]
    assert values["mass_of_total"]["0"] == pytest.approx(0.501 / 0.604)
    assert values["order"]["mass"] == [0, 1]
