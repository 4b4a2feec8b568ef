import math

import numpy as np
import pytest
from hypothesis import settings
from scipy.stats import binom, binomtest, norm
from statsmodels.stats.proportion import proportions_ztest

from benchmarks.power import detectable, detectable_against, power, worth

EXACT = 1e-12  # sums of at most a few thousand float64 numbers
properties = settings(max_examples=60, deadline=None)


def test_power_by_hand():
    # Six questions, all discordant: only 6 : 0 rejects (2/64 <= 0.05; 5 : 1 has 14/64).
    assert power(6, 0.0, 1.0) == pytest.approx(2 / 64, abs=EXACT)
    assert power(6, 0.5, 1.0) == pytest.approx(0.75**6 + 0.25**6, abs=EXACT)
    assert power(5, 1.0, 1.0) == 0.0
    assert power(6, 1.0, 1.0) == 1.0


@pytest.mark.parametrize(("n", "difference", "discordance"), [(8, 0.2, 0.5), (23, 0.0, 0.4), (40, -0.15, 0.3)])
def test_power_equals_the_sum_over_all_tables(n, difference, discordance):
    gain, loss = (discordance + difference) / 2, (discordance - difference) / 2
    total = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            if gained + lost and binomtest(gained, gained + lost).pvalue <= 0.05:
                ways = math.comb(n, gained) * math.comb(n - gained, lost)
                total += ways * gain**gained * loss**lost * (1 - discordance) ** (n - gained - lost)
    assert power(n, difference, discordance) == pytest.approx(total, abs=1e-10)


def test_power_is_even_in_the_difference_grows_with_it_and_with_n_and_keeps_its_level():
    assert power(150, 0.05, 0.25) == pytest.approx(power(150, -0.05, 0.25), abs=EXACT)
    values = [power(150, d, 0.3) for d in np.linspace(0, 0.3, 13)]
    assert (np.diff(values) > -EXACT).all()
    assert power(300, 0.05, 0.25) > power(150, 0.05, 0.25) > 0.05 > power(150, 0, 0.25) > 0.02


@pytest.mark.parametrize(("n", "difference"), [(150, 0.05), (124, 0.05), (150, None)])
def test_power_and_the_detectable_difference_agree_with_simulated_comparisons(n, difference):
    difference = detectable(n, 0.25) if difference is None else difference
    rng, found = np.random.default_rng(11), []
    shares = [(0.25 + difference) / 2, (0.25 - difference) / 2, 0.75]
    p_of = {}
    for gained, lost, _ in rng.multinomial(n, shares, size=20_000).tolist():
        if (gained, lost) not in p_of:
            p_of[gained, lost] = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        found.append(p_of[gained, lost] <= 0.05)
    # 20,000 trials spread by at most 0.0035: three of those.
    assert np.mean(found) == pytest.approx(power(n, difference, 0.25), abs=0.011)


@pytest.mark.parametrize("n", [115, 124, 150, 1500])
@pytest.mark.parametrize("discordance", [0.2, 0.3])
def test_the_detectable_difference_has_just_the_power(n, discordance):
    smallest = detectable(n, discordance)
    # The root is found to 2e-12, and power rises by at most 50 per unit here.
    assert power(n, smallest, discordance) == pytest.approx(0.8, abs=1e-9)
    assert power(n, smallest - 0.001, discordance) < 0.8
    # Connor's (1987) normal approximation, without continuity: below the exact one by up to a tenth or so.
    z = norm.isf([0.025, 0.2])
    near = smallest
    for _ in range(50):
        near = (z[0] * math.sqrt(discordance) + z[1] * math.sqrt(discordance - near**2)) / math.sqrt(n)
    assert 0.85 * smallest < near < smallest


def test_what_cannot_be_found_is_undefined():
    # 20 questions at 10 %: two discordant ones on average, six are needed.
    assert math.isnan(detectable(20, 0.1))
    assert math.isnan(detectable(150, 0.0))
    assert math.isnan(detectable(0, 0.3))
    assert math.isnan(detectable(150, math.nan))
    assert math.isnan(power(150, 0.05, math.nan))


def test_impossible_differences_and_levels_are_refused():
    with pytest.raises(ValueError, match=r"difference 0.3 at discordance 0.2: expected \|difference\| <= discordance"):
        power(100, 0.3, 0.2)
    with pytest.raises(ValueError, match=r"power 0.04 at alpha 0.05: expected 0 < alpha < power < 1"):
        detectable(100, 0.2, power=0.04)
    with pytest.raises(ValueError, match=r"n -1, alpha 0.05: expected a number of questions"):
        power(-1, 0.1, 0.2)
    with pytest.raises(ValueError, match=r"accuracy 50 on 100 questions: expected a fraction"):
        detectable_against(100, 50)


def test_the_difference_from_a_published_figure_by_hand():
    # Six of six against 3 of 6 has z = 3 / √(12 · ¾ · ¼) = 2 and rejects, 4 of 6 has 1.55: P(Bin(6, ours) <= 3) = 0.8.
    ours = 1 - detectable_against(6, 1.0)
    assert sum(math.comb(6, k) * ours**k * (1 - ours) ** (6 - k) for k in range(4)) == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize("published", [0.5, 0.8, 0.95])
def test_the_difference_from_a_published_figure_has_its_power_over_all_pairs_of_counts(published):
    n, exact = 25, 0.0
    ours = published - detectable_against(n, published)
    for mine in range(n + 1):
        for theirs in range(n + 1):
            if 0 < mine + theirs < 2 * n and proportions_ztest([mine, theirs], [n, n])[1] < 0.05:
                exact += binom.pmf(mine, n, ours) * binom.pmf(theirs, n, published)
    assert exact == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize("published", [0.5, 0.6, 0.8])
def test_the_difference_from_a_published_figure_agrees_with_the_normal_formula(published):
    ours = published - detectable_against(1500, published)
    middle, spread = (published + ours) / 2, published * (1 - published) + ours * (1 - ours)
    reach = norm.isf(0.025) * math.sqrt(2 * middle * (1 - middle)) + norm.isf(0.2) * math.sqrt(spread)
    # Counts of 1,500 questions are nearly normal.
    assert published - ours == pytest.approx(reach / math.sqrt(1500), rel=0.02)


def test_the_difference_from_a_published_figure_mirrors_and_shrinks_with_n():
    assert detectable_against(150, 0.3) == pytest.approx(detectable_against(150, 0.7), abs=1e-9)
    assert detectable_against(600, 0.6) == pytest.approx(detectable_against(150, 0.6) / 2, rel=0.03)
    # Unpaired, answers in common do not help.
    assert detectable_against(150, 0.6) > detectable(150, 0.3)
    assert math.isnan(detectable_against(2, 0.5))
    assert math.isnan(detectable_against(0, 0.5))
    assert math.isnan(detectable_against(150, math.nan))


def test_the_sentence_says_the_numbers():
    assert worth(150, 5, discordance=0.25) == (
        "with 150 questions, 5 points are 7.5 questions; at a discordance of 25 % the exact McNemar test finds such a "
        "difference with a power of 18 %; with 80 %, the smallest found is 11.8 points"
    )
    assert worth(20, 2.5, discordance=0.1).endswith("with 80 %, none is found")
