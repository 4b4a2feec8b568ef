"""How often claims are false, and intervals cover, simulated: `python -m scripts.calibration`.

False claims: nothing has any effect, and a claim is what `perception_gap.stats.estimates.side` establishes, as every
sentence does. Verdicts depend on nothing but, within a cluster, on each other; values likewise. Coverage: of the true
value by the 95 % interval where it is defined. Clusters hold two rows each that share half of their variance. Prints
Markdown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import click
import numpy as np
import pandas as pd
from scipy.stats import norm

from perception_gap.compare.summary import agreement
from perception_gap.grid import grid
from perception_gap.measure.layer_profile import Profile
from perception_gap.stats.decides import decides
from perception_gap.stats.estimates import Estimate, side
from perception_gap.stats.permutation import holm
from perception_gap.stats.proportions import paired_ci, proportion_ci
from perception_gap.stats.statistics import auroc_ci, difference_ci, mean_ci, spread_ci

SIZES = (5, 10, 20, 50, 240)
ACCURACIES = (0.5, 0.8, 0.9, 0.97)
ARRANGEMENTS = 399  # (b + 1) / 400 holds the level 5 % exactly too
TASKS, PAIRS, LAYERS, SAME = 3, 3, 6, math.sqrt(0.5)
Rng = np.random.Generator


def clusters_of(n: int, clustered: bool) -> np.ndarray:
    return np.arange(n) // 2 if clustered else np.arange(n)


def gauss(rng: Rng, clusters: np.ndarray) -> np.ndarray:
    """Standard normal; rows of one cluster share half of their variance."""
    return SAME * rng.normal(size=clusters.max() + 1)[clusters] + SAME * rng.normal(size=len(clusters))


def right(rng: Rng, clusters: np.ndarray, accuracy: float) -> np.ndarray:
    return gauss(rng, clusters) < norm.ppf(accuracy)


def skewed(rng: Rng, clusters: np.ndarray) -> np.ndarray:
    """Lognormal, as divergences are: mean √e, skewness 6."""
    return np.exp(gauss(rng, clusters))


# --- false claims: whether anything is claimed


def claims_difference(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    values, verdicts = skewed(rng, clusters), right(rng, clusters, accuracy)
    return _claimed(difference_ci(values, verdicts, clusters, resamples=ARRANGEMENTS, seed=_seed(rng)))


def claims_auroc(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    values, verdicts = skewed(rng, clusters), right(rng, clusters, accuracy)
    return _claimed(auroc_ci(values, verdicts, clusters, resamples=ARRANGEMENTS, seed=_seed(rng)), 0.5)


def claims_decides(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    """The sentence "looking decides", over three tasks of which any may be named, or all together."""
    tasks = np.char.add("task ", (clusters % TASKS).astype(str))
    frame = pd.DataFrame(
        {"focus": skewed(rng, clusters), "correct": right(rng, clusters, accuracy), "task": tasks, "cluster": clusters}
    )
    answers = decides(frame, "focus", dict.fromkeys(np.unique(tasks), 0.25), _seed(rng), ARRANGEMENTS)
    every = [answers["by_task"][task] for task in answers["overall"]["tasks"]] + [answers["overall"]]
    return any(side(part["auroc"] | {"p_holm": part["p_holm"]}, 0.5) for part in every)


def claims_floor(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    """floor − sample where the student's map has nothing to do with the picture: both are of one kind."""
    return _claimed(mean_ci(skewed(rng, clusters) - skewed(rng, clusters), clusters, seed=_seed(rng), null=0))


def claims_skewed(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    """A paired difference of mean 0 that is skewed itself: more than the test of flipped signs assumes."""
    return _claimed(mean_ci(skewed(rng, clusters) - math.exp(0.5), clusters, seed=_seed(rng), null=0))


def claims_accuracy(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    """Two models that are as often right, paired."""
    first, second = (right(rng, clusters, accuracy).astype(float) for _ in range(2))
    return _claimed(paired_ci(second - first, clusters))


def claims_agreement(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    """JS where both of two models are right and where both are wrong, of three pairs: any claim."""
    differences = []
    for _ in range(PAIRS):
        verdicts = {name: right(rng, clusters, accuracy) for name in ("first_correct", "second_correct")}
        frame = pd.DataFrame({"js": skewed(rng, clusters), "cluster": clusters, "task": "a"} | verdicts)
        differences.append(agreement(frame, _seed(rng), ARRANGEMENTS)["js"]["right_minus_wrong"])
    adjusted = holm([each.get("p", math.nan) for each in differences])
    return any(side(each | {"p_holm": float(p)}) for each, p in zip(differences, adjusted, strict=True))


def claims_layers(rng: Rng, clusters: np.ndarray, accuracy: float) -> bool:
    """The leading layer of six that are equal, told from any other."""
    values = gauss(rng, clusters)[:, None] + np.stack([skewed(rng, clusters) for _ in range(LAYERS)], axis=1)
    lead = Profile(range(LAYERS)).lead(values, clusters)
    return lead is not None and bool(lead["above"])


CLAIMS: dict[str, Callable[[Rng, np.ndarray, float], bool]] = {
    "right − wrong": claims_difference,
    "AUROC": claims_auroc,
    "looking decides (3 tasks)": claims_decides,
    "floor − sample": claims_floor,
    "skewed paired difference": claims_skewed,
    "accuracy difference": claims_accuracy,
    "agreement (3 pairs)": claims_agreement,
    "leading layer (of 6)": claims_layers,
}
# Claims that no verdict decides: one cell of four times the runs in place of one an accuracy.
WITHOUT_VERDICTS = ("floor − sample", "skewed paired difference", "leading layer (of 6)")


# --- coverage: (estimate, true value)


def covers_mean(rng: Rng, clusters: np.ndarray) -> tuple[Estimate, float]:
    return mean_ci(skewed(rng, clusters), clusters), math.exp(0.5)


def covers_normal(rng: Rng, clusters: np.ndarray) -> tuple[Estimate, float]:
    return mean_ci(gauss(rng, clusters), clusters), 0.0


def covers_share(rng: Rng, clusters: np.ndarray, accuracy: float = 0.8) -> tuple[Estimate, float]:
    return proportion_ci(right(rng, clusters, accuracy), clusters), accuracy


def covers_paired(rng: Rng, clusters: np.ndarray) -> tuple[Estimate, float]:
    first, second = (right(rng, clusters, accuracy).astype(float) for accuracy in (0.8, 0.9))
    return paired_ci(second - first, clusters), 0.1


def covers_difference(rng: Rng, clusters: np.ndarray) -> tuple[Estimate, float]:
    return difference_ci(skewed(rng, clusters), right(rng, clusters, 0.8), clusters, resamples=1), 0.0


def covers_auroc(rng: Rng, clusters: np.ndarray, area: float = 0.92) -> tuple[Estimate, float]:
    verdicts = right(rng, clusters, 0.8)
    values = gauss(rng, clusters) + math.sqrt(2) * norm.ppf(area) * verdicts
    return auroc_ci(values, verdicts, clusters, resamples=1), area


def covers_floor(rng: Rng, clusters: np.ndarray) -> tuple[Estimate, float]:
    values = skewed(rng, clusters) - 0.7 * skewed(rng, clusters)
    return mean_ci(values, clusters), 0.3 * math.exp(0.5)


def covers_std(rng: Rng, clusters: np.ndarray) -> tuple[Estimate, float]:
    """Of entropies, say: not far from normal."""
    return spread_ci(gauss(rng, clusters) + 10, clusters)["std"], 1.0


COVERAGES: dict[str, Callable[[Rng, np.ndarray], tuple[Estimate, float]]] = {
    "mean, lognormal": covers_mean,
    "mean, normal": covers_normal,
    "share, 0.8": covers_share,
    "share, 0.97": partial(covers_share, accuracy=0.97),
    "accuracy difference": covers_paired,
    "right − wrong": covers_difference,
    "AUROC 0.5": partial(covers_auroc, area=0.5),
    "AUROC 0.92": covers_auroc,
    "floor − sample": covers_floor,
    "standard deviation": covers_std,
}


def _claimed(estimate: Estimate, null: float = 0.0) -> bool:
    return side(estimate.as_dict(), null) != 0


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**31))


def false_rate(cell: tuple[str, int, float, bool], runs: int, seed: int) -> float:
    """Share of runs that claim something, 0..1."""
    name, n, accuracy, clustered = cell
    runs *= len(ACCURACIES) if name in WITHOUT_VERDICTS else 1
    rng = np.random.default_rng([seed, 0, list(CLAIMS).index(name), n, round(100 * accuracy), clustered])
    return sum(CLAIMS[name](rng, clusters_of(n, clustered), accuracy) for _ in range(runs)) / runs


def accuracies_of(name: str) -> tuple[float, ...]:
    return ACCURACIES[:1] if name in WITHOUT_VERDICTS else ACCURACIES


def coverage(cell: tuple[str, int, bool], runs: int, seed: int) -> tuple[float, float]:
    """(share of the defined intervals that hold the true value, share of runs that have one); n counts clusters."""
    name, n, clustered = cell
    rng = np.random.default_rng([seed, 1, list(COVERAGES).index(name), n, clustered])
    inside = defined = 0
    for _ in range(runs):
        estimate, truth = COVERAGES[name](rng, clusters_of(2 * n if clustered else n, clustered))
        if not math.isnan(estimate.low):
            defined += 1
            inside += estimate.low - 1e-12 <= truth <= estimate.high + 1e-12
    return (inside / defined if defined else math.nan), defined / runs


@click.command(help=__doc__)
@click.option("--runs", default=1000, show_default=True, type=click.IntRange(min=1), help="Of each cell.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1))
def main(runs: int, seed: int, workers: int) -> None:
    kinds = [(n, clustered) for n in SIZES for clustered in (False, True)]
    heads = [f"{n}{' (pairs)' * clustered}" for n, clustered in kinds]
    cells = [(name, n, accuracy, c) for name in CLAIMS for n, c in kinds for accuracy in accuracies_of(name)]
    covered = [(name, n, c) for name in COVERAGES for n, c in kinds]
    with ProcessPoolExecutor(workers) as pool:
        rates = dict(zip(cells, pool.map(partial(false_rate, runs=runs, seed=seed), cells), strict=True))
        shares = dict(zip(covered, pool.map(partial(coverage, runs=runs, seed=seed), covered), strict=True))
    click.echo(f"False claims, percent of {runs:,} runs without any effect: worst of accuracy {ACCURACIES}")
    click.echo(f"({', '.join(WITHOUT_VERDICTS)}: of {len(ACCURACIES) * runs:,} runs)\n")
    worst = {
        (name, k): max(rates[name, *k[:1], a, k[1]] for a in accuracies_of(name)) for name in CLAIMS for k in kinds
    }
    rows = [[name, *(f"{100 * worst[name, kind]:.1f}" for kind in kinds)] for name in CLAIMS]
    click.echo(grid(["claim, n samples", *heads], rows, "markdown"))
    click.echo(f"\nCoverage of 95 % intervals, percent of {runs:,} runs (share of them that have one), n clusters\n")
    rows = [[name, *(_cell(shares[name, *kind]) for kind in kinds)] for name in COVERAGES]
    click.echo(grid(["interval, n", *heads], rows, "markdown"))
    click.echo(f"\nLargest false-claim rate: {100 * max(rates.values()):.1f} %.")


def _cell(share: tuple[float, float]) -> str:
    covered, defined = share
    if math.isnan(covered):
        return "undefined"
    return f"{100 * covered:.1f}" + (f" ({100 * defined:.0f} %)" if defined < 0.995 else "")


if __name__ == "__main__":
    main()
