"""A comparison in numbers: models side by side, pairs of gazes, and whether gazes agree where answers do.

Everything is {mean, ci, n}; intervals are 95 % bootstrap intervals clustered by image or pair, differences are paired
on the samples that both models have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perception_gap import statistics
from perception_gap.compare.pairs import Member
from perception_gap.proportions import paired_ci
from perception_gap.summary import CATEGORIES

# Of one map; what of them a run lacks (no teacher, an older measure) is left out.
OF_MODELS = (
    "focus_score", "focus_lift", "pointing_game", "relative_entropy", "text_image_mass", "sink_share",
    "focus_score_without_sinks", "kl", "kl_floor", "js",
)  # fmt: skip
# Verdicts of a pair of models on one sample: (first right, second right).
VERDICTS = {
    "both_right": (True, True), "both_wrong": (False, False),
    "only_first_right": (True, False), "only_second_right": (False, True),
}  # fmt: skip
_KEYS = ("first", "second", "sample_id", "task", "cluster", "first_correct", "second_correct")
AGREEMENT = ("js", "kl", "top_k_overlap", "emd", "cc", "similarity")


def verdicts(samples: pd.DataFrame) -> pd.Series:
    """1 right, 0 wrong or failed, NaN without a reference; by sample id."""
    known = samples["correct"].notna() | (samples["status"] != "ok")
    values = samples["correct"].eq(True).astype(float).where(known)
    return values.set_axis(pd.Index(samples["sample_id"]))


def of_models(members: Sequence[Member], facts: Mapping[str, Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """A row a model, the most accurate first; `*_difference` is the model minus the first member, paired by sample.

    facts: what else is known of each, by name (budget, folder, ..).
    """
    base = members[0].run.samples
    rows = []
    for member in members:
        samples = member.run.samples
        about, told = member.run.info["model"], member.run.summary
        row = {"name": member.name, **facts.get(member.name, {}), "revision": about["revision"],
               "family": about["family"], "parameters": about["parameters"],
               "image_tokens": _median(samples["n_image_tokens"]), "n_samples": told["n_samples"],
               "n_failed": told["n_failed"], "accuracy": told["accuracy"],
               "auroc": told["focus_score"]["auroc"], "focus_chance": told["focus_score"]["chance"]}  # fmt: skip
        for name in OF_MODELS:
            if name in samples and samples[name].notna().any():
                row[name] = _mean(samples[name], samples["cluster"], seed)
        if member is not members[0]:
            row["accuracy_difference"] = _paired_accuracy(base, samples, seed)
            for name in ("focus_score", "focus_lift", "relative_entropy", "text_image_mass"):
                row[f"{name}_difference"] = _paired(base, samples, name, seed)
        rows.append(row)
    return sorted(rows, key=lambda row: -(row["accuracy"]["mean"] if row["accuracy"]["mean"] is not None else -1.0))


def of_pairs(samples: pd.DataFrame, words: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """A row a pair of models: every measure with its interval, by word category, and by which of the two is right."""
    rows = []
    for (first, second), group in samples.groupby(["first", "second"], sort=False):
        measures = [name for name in group.columns if name not in _KEYS]
        row: dict[str, Any] = {"first": first, "second": second, "n_samples": len(group)}
        row |= {name: _mean(group[name], group["cluster"], seed) for name in measures}
        row["floor_minus_js"] = _mean(group["js_floor"] - group["js"], group["cluster"], seed)
        row["by_category"] = _by_category(words, str(first), str(second), seed)
        row["agreement"] = agreement(group, seed)
        rows.append(row)
    return rows


def agreement(group: pd.DataFrame, seed: int) -> dict[str, Any]:
    """How far apart the gazes of one pair are where both are right, both wrong, or one is; each a measure's estimate.

    `right_minus_wrong` is the mean where both are right minus that where both are wrong, within tasks, since both the
    tasks' difficulty and their gaze differ; `alike_minus_split` the mean where both verdicts are equal minus that where
    they differ.
    """
    known = group[group["first_correct"].notna() & group["second_correct"].notna()]
    first, second = known["first_correct"].to_numpy(bool), known["second_correct"].to_numpy(bool)
    found: dict[str, Any] = {}
    for name in [m for m in AGREEMENT if m in known]:
        values, clusters = known[name].to_numpy(float), known["cluster"].to_numpy()
        tasks = known["task"].to_numpy()
        alike = first == second
        found[name] = {
            verdict: _mean(known[name][(first == a) & (second == b)], clusters[(first == a) & (second == b)], seed)
            for verdict, (a, b) in VERDICTS.items()
        } | {
            "right_minus_wrong": statistics.difference_ci(
                values[alike], first[alike], clusters[alike], strata=tasks[alike], seed=seed
            ).as_dict(),
            "alike_minus_split": statistics.difference_ci(
                values, alike, clusters, strata=tasks, seed=seed
            ).as_dict(),
        }  # fmt: skip
    return found


def _by_category(words: pd.DataFrame, first: str, second: str, seed: int) -> dict[str, Any]:
    if words.empty:
        return {}
    mine = words[(words["first"] == first) & (words["second"] == second)]
    found = {}
    for category in CATEGORIES:
        some = mine[mine["category"] == category]
        found[category] = {name: _mean(some[name], some["cluster"], seed) for name in ("js", "js_floor")}
    return found


def _mean(values: Any, clusters: Any, seed: int) -> dict[str, Any]:
    return statistics.mean_ci(np.asarray(values, dtype=float), np.asarray(clusters), seed=seed).as_dict()


def _median(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None


def _joined(base: pd.DataFrame, other: pd.DataFrame, name: str) -> pd.DataFrame:
    """cluster, a, b: the values of both models on the samples that both have."""
    first = base.set_index("sample_id")[["cluster", name]].rename(columns={name: "a"})
    return first.join(other.set_index("sample_id")[name].rename("b"), how="inner")


def _paired(base: pd.DataFrame, other: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    both = _joined(base, other, name)
    return _mean(both["b"].astype(float) - both["a"].astype(float), both["cluster"], seed)


def _paired_accuracy(base: pd.DataFrame, other: pd.DataFrame, seed: int) -> dict[str, Any]:
    clusters = base.set_index("sample_id")["cluster"]
    both = pd.DataFrame({"cluster": clusters, "a": verdicts(base)}).join(verdicts(other).rename("b"), how="inner")
    return paired_ci(both["b"] - both["a"], both["cluster"], seed=seed).as_dict()
