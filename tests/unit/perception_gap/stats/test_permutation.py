import itertools
import math

import numpy as np
import pytest
import scipy.stats

from perception_gap.stats import permutation
from perception_gap.stats.estimates import labelled
from perception_gap.stats.permutation import holm, label_test, sign_test

DRAWN = 0.03  # a share of 4,999 arrangements spreads by at most 0.007


def every_arrangement(scores, labels, clusters, strata):
    """p by listing: clusters of one shape exchange their labels, and rows of a cluster and stratum theirs."""
    shapes = {}
    for c in sorted(set(clusters)):
        rows = sorted((strata[i], i) for i in range(len(scores)) if clusters[i] == c)
        shapes.setdefault(tuple(s for s, _ in rows), []).append([i for _, i in rows])
    options = []
    for shape, members in shapes.items():
        within = []
        for order in itertools.permutations(range(len(members))):
            parts = []
            for to, of in enumerate(order):
                blocks = [[j for j, s in enumerate(shape) if s == stratum] for stratum in dict.fromkeys(shape)]
                for orders in itertools.product(*(itertools.permutations(b) for b in blocks)):
                    moved = [j for o in orders for j in o]
                    parts.append((to, of, moved))
            by_cluster = [[p for p in parts if p[0] == to] for to in range(len(members))]
            within += list(itertools.product(*by_cluster))
        options.append([[(members[to][j], members[of][k]) for to, of, moved in choice for j, k in enumerate(moved)]
                        for choice in within])  # fmt: skip
    centred = np.array(scores, float)
    for s in set(strata):
        here = np.array(strata) == s
        centred[here] -= centred[here].mean()
    totals = np.array(
        [
            sum(centred[to] * labels[of] for pairs in choice for to, of in pairs)
            for choice in itertools.product(*options)
        ]
    )
    seen = (centred * np.array(labels)).sum()
    return (np.abs(totals - totals.mean()) >= abs(seen - totals.mean()) - 1e-9).mean()


# --- signs


def test_signs_are_listed_where_there_are_few_and_agree_with_scipy_where_they_are_drawn():
    assert sign_test(np.array([1.0, 2.0, 3.0])).p == 2 / 8
    assert sign_test(np.array([1.0, 2.0, -3.0])).p == 1
    values = np.random.default_rng(0).normal(size=40) + 0.3
    assert sign_test(values).p == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=DRAWN)


def test_the_smallest_p_of_few_signs_says_that_there_are_too_few():
    five, six = sign_test(np.ones(5)), sign_test(np.ones(6))
    assert (five.p, five.least, five.reason) == (2 / 32, 2 / 32, "too few to say")
    assert (six.p, six.reason) == (2 / 64, "")
    assert sign_test(np.zeros(9)) == (1, 1)


def test_many_clusters_have_the_normal_law():
    values = np.random.default_rng(1).normal(size=3000) + 0.03
    z = values.sum() / math.sqrt((values**2).sum())
    assert sign_test(values).p == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), rel=1e-9)


# --- labels


def test_without_clusters_it_is_the_mann_whitney_test():
    rng = np.random.default_rng(0)
    labels, values = np.arange(14) < 8, rng.normal(size=14)
    values[labels] += 0.8
    ours = label_test(scipy.stats.rankdata(values), labelled(values, labels))
    exact = scipy.stats.mannwhitneyu(values[labels], values[~labels], method="exact").pvalue
    assert ours.p == pytest.approx(exact, abs=DRAWN)


@pytest.mark.parametrize(
    ("clusters", "strata"),
    [
        ([0, 0, 1, 1, 2, 2], [0] * 6),  # pairs
        ([0, 0, 1, 1, 2, 3], [0] * 6),  # of two sizes
        ([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]),  # a picture with a question of each task
        ([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1]),  # tasks
    ],
)
def test_labels_move_between_clusters_of_one_shape_and_within_them(clusters, strata):
    scores, labels = [3.0, 1.0, 2.5, 2.0, 0.5, 4.0], [1, 1, 1, 0, 0, 0]
    expected = every_arrangement(scores, labels, clusters, strata)
    ours = label_test(np.array(scores), labelled(scores, labels, clusters, strata))
    assert ours.p == pytest.approx(expected, abs=DRAWN)


def test_the_normal_law_beyond_the_limit_has_the_variance_of_all_arrangements(monkeypatch):
    rng = np.random.default_rng(2)
    n = 400
    clusters, strata = rng.integers(0, 150, n), rng.integers(0, 2, n)
    labels = rng.normal(size=150)[clusters] + rng.normal(size=n) > 0
    values = rng.normal(size=150)[clusters] + rng.normal(size=n) + 0.2 * labels
    rows = labelled(values, labels, clusters, strata)
    drawn = label_test(rows.values, rows)
    monkeypatch.setattr(permutation, "MOST_DRAWN", 10)
    assert label_test(rows.values, rows).p == pytest.approx(drawn.p, abs=DRAWN)


def test_four_comparable_samples_are_too_few_whatever_they_are():
    separated = label_test(np.array([1.0, 2, 3, 4]), labelled([1, 2, 3, 4], [False, False, True, True]))
    assert separated.p == pytest.approx(1 / 3, abs=DRAWN)
    assert separated.reason == "too few to say"
    constant = label_test(np.ones(50), labelled(np.ones(50), np.arange(50) % 2 == 0))
    assert constant == (1, 1)
    nothing = label_test(np.zeros(0), labelled([], []))
    assert nothing == (1, 1)


def test_the_seed_decides_and_the_order_of_rows_does_not_matter_much():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=30), rng.random(30) < 0.5
    rows, order = labelled(values, labels), rng.permutation(30)
    assert label_test(rows.values, rows, seed=4) == label_test(rows.values, rows, seed=4)
    assert label_test(rows.values, rows, seed=4) != label_test(rows.values, rows, seed=5)
    shuffled = labelled(values[order], labels[order])
    assert label_test(shuffled.values, shuffled).p == pytest.approx(label_test(rows.values, rows).p, abs=DRAWN)


def test_the_level_holds_with_one_wrong_answer_and_within_clusters():
    rng, claimed = np.random.default_rng(0), []
    clusters = np.arange(40) // 2
    for seed in range(300):
        latent = rng.normal(size=20)[clusters] + 0.5 * rng.normal(size=40)
        values = rng.normal(size=20)[clusters] + 0.5 * rng.normal(size=40)
        labels = latent > np.sort(latent)[seed % 4]  # 1 to 4 wrong
        rows = labelled(values, labels, clusters)
        claimed.append(label_test(rows.values, rows, 199, seed).p <= 0.05)
    assert np.mean(claimed) <= 0.09  # 300 trials at 0.05 spread by 0.0126


# --- Holm


def test_holm_by_hand_and_undefined_is_no_test():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, math.nan]), [0.03, 0.06, 0.06, math.nan])
    assert holm({"a": 0.02, "b": 0.6}) == {"a": 0.04, "b": 0.6}
    assert holm([]).shape == (0,)
    with pytest.raises(ValueError, match=r"p-values \[1.5\]: expected 0..1"):
        holm([1.5])


def test_holm_agrees_with_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).random(20) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)
