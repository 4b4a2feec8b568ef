"""A comparison in numbers: models side by side, pairs of gazes, and whether gazes agree where answers do.

Everything is {mean, ci, n}; intervals are 95 %, clustered by image or pair; differences are paired on the samples that
both models have, and have a p. Where one question is asked of several models or pairs, `p_holm` beside it is Holm's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from perception_gap.compare.pairs import SAMPLE_KEYS, Member
from perception_gap.metrics.columns import WITHOUT_SINKS, measures
from perception_gap.metrics.means import against_floor, mean_of
from perception_gap.metrics.measure import CATEGORIES, Measure, OfPair
from perception_gap.runs.rows import verdicts
from perception_gap.stats.paired import by_sample
from perception_gap.stats.permutation import ARRANGEMENTS, holm
from perception_gap.stats.statistics import difference_ci

# Beside the measures of models; what of all these a run lacks (no teacher, an older measure) is left out.
BESIDE = (f"focus_score{WITHOUT_SINKS}", "kl_floor")
# Verdicts of a pair of models on one sample: (first right, second right).
VERDICTS = {
    "both_right": (True, True),
    "both_wrong": (False, False),
    "only_first_right": (True, False),
    "only_second_right": (False, True),
}


def of_models(members: Sequence[Member], facts: Mapping[str, Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """A row a model, the most accurate first; `*_difference` is the model minus the first member, paired by sample.

    facts: what else is known of each, by name (budget, folder, ..).
    """
    base = _by_id(members[0].run.samples)
    rows = []
    for member in members:
        samples = member.run.samples
        about, summary = member.run.info["model"], member.run.summary
        row = {
            "name": member.name,
            **facts.get(member.name, {}),
            "revision": about["revision"],
            "family": about["family"],
            "parameters": about["parameters"],
            "image_tokens": _median(samples["n_image_tokens"]),
            "n_samples": summary["n_samples"],
            "n_failed": summary["n_failed"],
            "accuracy": summary["accuracy"],
            "auroc": summary["focus_score"]["auroc"],
            "focus_chance": summary["focus_score"]["chance"],
            "decides": dict(summary["focus_score"]["decides"]["overall"]),
        }
        if "knockout" in summary:
            row["rests"] = dict(summary["knockout"]["contrasts"]["text"]["inside_minus_outside_number"]["change"])
        for name in (*(measure.name for measure in measures("model", Measure)), *BESIDE):
            if name in samples and samples[name].notna().any():
                row[name] = mean_of(samples, name)
        if member is not members[0]:
            mine = _by_id(samples)
            row["accuracy_difference"] = by_sample(base, mine, "verdict", share=True).as_dict()
            for name in ("focus_score", "focus_lift", "relative_entropy", "text_image_mass"):
                row[f"{name}_difference"] = by_sample(base, mine, name, seed=seed).as_dict()
        rows.append(row)
    _adjust([row["decides"]["auroc"] for row in rows])
    _adjust([row["rests"] for row in rows if "rests" in row])
    return sorted(rows, key=lambda row: -(row["accuracy"]["mean"] if row["accuracy"]["mean"] is not None else -1.0))


def of_pairs(samples: pd.DataFrame, words: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """A row a pair of models: every measure with its interval, by word category, and by which of the two is right."""
    rows = []
    for (first, second), group in samples.groupby(["first", "second"], sort=False):
        measured = [name for name in group.columns if name not in SAMPLE_KEYS]
        row: dict[str, Any] = {"first": first, "second": second, "n_samples": len(group)}
        row |= {name: mean_of(group, name) for name in measured}
        row["against_floor"] = against_floor(group, "js", "js_floor", seed)
        row["by_category"] = _by_category(words, str(first), str(second))
        row["agreement"] = agreement(group, seed)
        rows.append(row)
    _adjust([row["against_floor"]["difference"] for row in rows])
    _adjust([row["agreement"]["js"]["right_minus_wrong"] for row in rows])
    return rows


def most_alike(pairs: Sequence[Mapping[str, Any]], samples: pd.DataFrame, seed: int) -> dict[str, Any] | None:
    """{first, second, others: [{first, second, farther}]}: the pair of the smallest mean JS, and the rest by their JS.

    farther: JS of the other pair minus that of this one, on the samples of both. That the pair is the most alike is
    established where every one of them is: a claim that needs all tests needs no correction. None without a JS.
    """
    ranked = sorted((row for row in pairs if row["js"]["mean"] is not None), key=lambda row: row["js"]["mean"])
    if not ranked:
        return None
    by_pair = {key: group.set_index("sample_id") for key, group in samples.groupby(["first", "second"], sort=False)}
    nearest, *others = ranked
    base = by_pair[nearest["first"], nearest["second"]]
    return {
        "first": nearest["first"],
        "second": nearest["second"],
        "others": [
            {
                "first": row["first"],
                "second": row["second"],
                "farther": by_sample(base, by_pair[row["first"], row["second"]], "js", seed=seed).as_dict(),
            }
            for row in others
        ],
    }


def _adjust(estimates: Sequence[dict[str, Any]]) -> None:
    """p_holm beside every p: the same question, asked of each."""
    adjusted = holm([estimate.get("p", math.nan) for estimate in estimates])
    for estimate, p in zip(estimates, adjusted, strict=True):
        estimate["p_holm"] = None if math.isnan(p) else float(p)


def agreement(group: pd.DataFrame, seed: int, resamples: int = ARRANGEMENTS) -> dict[str, Any]:
    """How far apart the gazes of one pair are where both are right, both wrong, or one is; each a measure's estimate.

    `raw_difference` is the mean where both are right minus that where both are wrong; `right_minus_wrong` the same
    within tasks, since both the tasks' difficulty and their gaze differ; `alike_minus_split`, within tasks, the
    mean where both verdicts are equal minus that where they differ.
    """
    known = group[group["first_correct"].notna() & group["second_correct"].notna()]
    first, second = known["first_correct"].to_numpy(bool), known["second_correct"].to_numpy(bool)
    by_measure: dict[str, Any] = {}
    for name in [measure.name for measure in measures("sample", OfPair) if measure.name in known]:
        values, clusters = known[name].to_numpy(float), known["cluster"].to_numpy()
        tasks = known["task"].to_numpy()
        alike = first == second
        by_measure[name] = {
            verdict: mean_of(known[(first == a) & (second == b)], name) for verdict, (a, b) in VERDICTS.items()
        } | {
            "raw_difference": difference_ci(values[alike], first[alike], clusters[alike], seed=seed).as_dict(),
            "right_minus_wrong": difference_ci(
                values[alike], first[alike], clusters[alike], strata=tasks[alike], resamples=resamples, seed=seed
            ).as_dict(),
            "alike_minus_split": difference_ci(
                values, alike, clusters, strata=tasks, resamples=resamples, seed=seed
            ).as_dict(),
        }
    return by_measure


def _by_category(words: pd.DataFrame, first: str, second: str) -> dict[str, Any]:
    if words.empty:
        return {}
    mine = words[(words["first"] == first) & (words["second"] == second)]
    means = {}
    for category in CATEGORIES:
        of_category = mine[mine["category"] == category]
        means[category] = {name: mean_of(of_category, name) for name in ("js", "js_floor")}
    return means


def _median(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None


def _by_id(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows by sample, with `verdict` as in `verdicts`."""
    return samples.set_index("sample_id").assign(verdict=verdicts(samples).to_numpy())
