"""What a difference in accuracy is worth on so many questions: power of McNemar's exact test, smallest effects."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

from perception_gap.grid import grid

POWER, ALPHA = 0.8, 0.05


def power(n: int, difference: float, discordance: float, alpha: float = ALPHA) -> float:
    """Chance that McNemar's exact test rejects at alpha, 0..1, summed exactly over the number of discordant answers.

    n independent questions; each is discordant with the given probability, and difference = P(only second right) −
    P(only first right), so |difference| <= discordance. Either sign of rejection counts, so at 0 it is the test's
    size. NaN for an undefined discordance.
    """
    if math.isnan(discordance):
        return math.nan
    if not 0 <= abs(difference) <= discordance <= 1:
        raise ValueError(
            f"difference {difference} at discordance {discordance}: expected |difference| <= discordance <= 1, "
            "as only discordant answers make a difference; raise the discordance"
        )
    return _rejection(n, discordance, alpha)(difference)


def _rejection(n: int, discordance: float, alpha: float) -> Callable[[float], float]:
    """`power` as a function of the difference."""
    if n < 0 or not 0 < alpha < 1:
        raise ValueError(f"n {n}, alpha {alpha}: expected a number of questions, 0 or more, and 0 < alpha < 1")
    discordant = np.arange(n + 1)
    weight = binom.pmf(discordant, n, discordance)
    # The test rejects at k or fewer against d − k: the largest k with twice its tail within alpha, −1 if none.
    k = binom.ppf(alpha / 2, discordant, 0.5)
    k -= 2 * binom.cdf(k, discordant, 0.5) > alpha

    def chance(difference: float) -> float:
        p = (1 + difference / discordance) / 2 if discordance else 0.5
        tails = binom.cdf(k, discordant, p) + binom.sf(discordant - k - 1, discordant, p)
        return float(weight @ tails)

    return chance


def detectable(n: int, discordance: float, power: float = POWER, alpha: float = ALPHA) -> float:
    """Smallest difference in accuracy (fraction) of two models on n questions with this `power` to be found.

    `power()` solved for the difference, 0..discordance; NaN where even difference = discordance (one model never
    right alone) has less power, and for an undefined discordance. Clusters are not considered: where several
    questions share an image it is more.
    """
    _check(power, alpha)
    if not n or math.isnan(discordance):
        return math.nan
    chance = _rejection(n, discordance, alpha)
    if chance(discordance) < power:
        return math.nan
    return float(brentq(lambda difference: chance(difference) - power, 0, discordance))


def detectable_against(n: int, accuracy: float, power: float = POWER, alpha: float = ALPHA) -> float:
    """Smallest difference (fraction) from a published accuracy on n questions, whose answers are unknown.

    Two independent proportions of n each, the pooled two-sided z test, its power summed exactly over both counts; in
    the direction towards 1/2, the harder one. Answers to the same questions correlate, so it errs on the large side.
    NaN for n = 0, for an undefined accuracy, and where no difference has the power.
    """
    _check(power, alpha)
    if not n or math.isnan(accuracy):
        return math.nan
    if n < 0 or not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy {accuracy} on {n} questions: expected a fraction 0..1, and n of 0 or more")
    far = max(accuracy, 1 - accuracy)  # the test is symmetric: from the upper half down
    mine = np.arange(n + 1)
    theirs = mine[binom.pmf(mine, n, far) > 1e-15]  # the others weigh nothing, and are most of a large n
    middle = (mine[:, None] + theirs) / (2 * n)
    rejects = np.abs(mine[:, None] - theirs) > norm.isf(alpha / 2) * np.sqrt(2 * n * middle * (1 - middle))
    rejected = rejects @ binom.pmf(theirs, n, far)

    def chance(difference: float) -> float:
        return float(binom.pmf(mine, n, far - difference) @ rejected)

    if chance(far) < power:
        return math.nan
    return float(brentq(lambda difference: chance(difference) - power, 0, far))


def _check(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise ValueError(f"power {power} at alpha {alpha}: expected 0 < alpha < power < 1")


def worth(n: int, points: float = 5, *, discordance: float) -> str:
    """What a difference of so many points is worth on n questions, in one sentence; 5 % level, 80 % power."""
    chance, smallest = power(n, points / 100, discordance), detectable(n, discordance)
    least = "none is found" if math.isnan(smallest) else f"the smallest found is {100 * smallest:.1f} points"
    return (
        f"with {n} questions, {points:g} points are {n * points / 100:g} questions; at a discordance of "
        f"{100 * discordance:g} % the exact McNemar test finds such a difference with a power of {100 * chance:.0f} %; "
        f"with {100 * POWER:.0f} %, {least}"
    )


def main() -> None:
    """What a 5-point difference is worth on the suites of the paper, as a Markdown table."""
    from benchmarks.published import for_task
    from benchmarks.suites.catalog import PAPER

    rows = []
    for task in PAPER:
        figures = [figure for figure in for_task(task) if figure.n]
        n, baseline = figures[0].n, next(f.value for f in figures if (f.model, f.params) == ("Qwen2.5-VL", "3B"))
        assert n is not None  # chosen for it
        chances = [f"{100 * power(n, 0.05, share):.0f} %" for share in (0.2, 0.3)]
        smallest = [f"{100 * detectable(n, share):.1f}" for share in (0.2, 0.3)]
        alone = f"{100 * detectable_against(n, baseline / 100):.1f}"
        rows.append([task, n, f"{5 * n / 100:g}", chances[0], smallest[0], chances[1], smallest[1], alone])
    head = ["task", "questions", "5 points are", "power at 20 % discordant", "80 % power from"]
    head += ["at 30 %", "80 % from", "from a published figure"]
    print(grid(head, rows, "markdown"))


if __name__ == "__main__":
    main()
