"""summary.json: every measure with its interval, accuracy by task, and whether focus goes with being right."""

from __future__ import annotations

from typing import Any

import pandas as pd

from perception_gap.data.scenes import CHANCE
from perception_gap.metrics.columns import LAST_LATENT, LATENT, WITHOUT_SINKS, columns, measures
from perception_gap.metrics.means import against_floor, mean_of, verdicts
from perception_gap.metrics.measure import CATEGORIES, Measure
from perception_gap.stats.decides import decides
from perception_gap.stats.proportions import proportion_ci
from perception_gap.stats.statistics import auroc_ci, difference_ci, spread_ci


def summarise(samples: pd.DataFrame, words: pd.DataFrame, info: dict[str, Any], seed: int) -> dict[str, Any]:
    """summary.json: every metric {mean, ci, n}; 95 % intervals of `perception_gap.stats.statistics`, by image or pair.

    samples, words: samples.parquet, words.parquet. A share of answers is one of all samples, failed ones too; what is
    measured of maps is of the valid ones.
    """
    valid = samples[samples["status"] == "ok"]
    correct = verdicts(samples)
    chances = chance_by_task(samples, drawn=info["data"]["spec"].split(":")[0] == "scenes")
    by_task = {
        task: proportion_ci(correct[group.index], group["cluster"]).as_dict() | {"chance": chances[str(task)]}
        for task, group in samples.groupby("task")
    }
    shared = words[words["text"] == "shared"].merge(samples[["sample_id", "cluster"]], on="sample_id", how="left")
    estimates = of_measures(valid, shared, seed)
    estimates["focus_score"] |= focus_and_truth(valid, chances, seed)
    estimates["kl"] |= {"decides": decides(valid, "kl", chances, seed)}
    return {
        "model": info["model"]["name"],
        "teacher": info["teacher"]["name"] if info["teacher"] else None,
        "n_samples": len(samples),
        "n_failed": int((samples["status"] != "ok").sum()),
        "accuracy": proportion_ci(correct, samples["cluster"]).as_dict(),
        "accuracy_by_task": by_task,
    } | estimates


def of_measures(valid: pd.DataFrame, words: pd.DataFrame, seed: int) -> dict[str, Any]:
    """The estimate of every measure, each in its place, of the valid samples and the words of the shared text.

    `latent` and `sinks` are there for models that have latent tokens, and sinks that are defined.
    """
    estimates: dict[str, Any] = {}
    of_words_alone = [m for m in measures("word", Measure) if m.floor and "sample" not in m.scopes]
    for measure in (*measures("sample", Measure), *of_words_alone):
        *above, name = measure.place.split(".")
        place = estimates
        for part in above:
            place = place.setdefault(part, {})
        place[name] = place.get(name, {}) | of_measure(measure, valid, words, seed)
    estimates["sinks"]["without"] = {
        measure.name: mean_of(valid, f"{measure.name}{WITHOUT_SINKS}") for measure in measures("without sinks", Measure)
    }
    estimates["latent"] = {
        f"{rows}{name}": mean_of(valid, f"{rows}{name}") for rows in (LATENT, LAST_LATENT) for name in columns("latent")
    }
    for block, known in (("sinks", "n_sinks"), ("latent", f"{LATENT}entropy")):
        if valid[known].isna().all():
            del estimates[block]
    return estimates


def of_measure(measure: Measure, valid: pd.DataFrame, words: pd.DataFrame, seed: int) -> dict[str, Any]:
    """{mean, ci, n} of one measure, of some with its spread; beside a floor by word category and of whole samples."""
    if not measure.floor:
        return spread(valid, measure.name) if measure.spread else mean_of(valid, measure.name)
    estimates: dict[str, Any] = {}
    if "word" in measure.scopes:
        estimates |= by_category(words, measure.name, measure.floor)
    if "sample" in measure.scopes:
        estimates |= {
            "sample": mean_of(valid, measure.name),
            "sample_floor": mean_of(valid, measure.floor),
            "against_floor": against_floor(valid, measure.name, measure.floor, seed),
        }
    return estimates


def by_category(words: pd.DataFrame, column: str, floor: str) -> dict[str, Any]:
    """Mean of all words and of each of CATEGORIES, each with its floor."""
    means = {"all": mean_of(words, column), "floor": mean_of(words, floor)}
    for category in CATEGORIES:
        of_category = words[words["category"] == category]
        means |= {category: mean_of(of_category, column), f"{category}_floor": mean_of(of_category, floor)}
    return means


def chance_by_task(samples: pd.DataFrame, drawn: bool) -> dict[str, float | None]:
    """task → accuracy of guessing: of drawn scenes the generator's, else 1 / options; None for a free answer."""
    chances: dict[str, float | None] = {}
    for task, group in samples.groupby("task"):
        counts = group["options"].map(len)
        of_options = float((1 / counts).mean()) if (counts > 1).all() else None
        chances[str(task)] = CHANCE.get(str(task)) if drawn else of_options
    return chances


def spread(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """{mean, ci, n} of one value a sample, with its std (ddof 0) and cv as table 2 of the paper has them.

    by_task: task → {mean, std, cv, min, max}, each {mean, ci, n}.
    """
    estimates = spread_ci(rows[column], rows["cluster"])
    by_task = {
        str(task): {"mean": mean_of(group, column)}
        | {name: estimate.as_dict() for name, estimate in spread_ci(group[column], group["cluster"]).items()}
        for task, group in rows.groupby("task")
    }
    flat = {name: estimates[name].as_dict()["mean"] for name in ("std", "cv")}
    return mean_of(rows, column) | flat | {"by_task": by_task}


def focus_and_truth(valid: pd.DataFrame, chances: dict[str, float | None], seed: int) -> dict[str, Any]:
    """Does focus tell right from wrong?

    `focus_by_verdict`, and `decides`: task by task, and over those that can tell.
    """
    return focus_by_verdict(valid, seed) | {"decides": decides(valid, "focus_score", chances, seed)}


def focus_by_verdict(valid: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Focus of right and of wrong answers, over all tasks, each {mean, ci, n}.

    `correct_mean`, `incorrect_mean` and their `raw_difference`, all tasks mixed; `difference` and `auroc` within task.
    """
    known = valid[valid["focus_score"].notna() & valid["correct"].notna()]
    focus, right = known["focus_score"].to_numpy(float), known["correct"].to_numpy(bool)
    clusters, tasks = known["cluster"].to_numpy(), known["task"].to_numpy()
    return {
        "correct_mean": mean_of(known[right], "focus_score"),
        "incorrect_mean": mean_of(known[~right], "focus_score"),
        "raw_difference": difference_ci(focus, right, clusters, seed=seed).as_dict(),
        "difference": difference_ci(focus, right, clusters, strata=tasks, seed=seed).as_dict(),
        "auroc": auroc_ci(focus, right, clusters, strata=tasks, seed=seed).as_dict(),
    }
