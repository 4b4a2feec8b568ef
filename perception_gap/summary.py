"""From parts to a finished run: metrics per sample and per word, merged files, and the summary with its intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perception_gap import metrics, per_layer, statistics
from perception_gap.datasets.scenes import CHANCE
from perception_gap.divergence import OF_SAMPLES, Comparison
from perception_gap.errors import UsageError
from perception_gap.files import ArrayFile, write_json, write_table
from perception_gap.knockout.table import Table
from perception_gap.layer_profile import Profile
from perception_gap.measures import (
    LATENT_METRICS,
    NO_MAPS,
    OF_MAPS,
    SAMPLE_METRICS,
    latent_rows,
    normalised,
    one_map,
    sink_metrics,
    unit_boxes,
)
from perception_gap.proportions import proportion_ci
from perception_gap.statistics import Estimate
from perception_gap.store import ROW_SCHEMA, Parts, Run, geometry_of, run_info, stored_keys, teacher_of

CATEGORIES = ("functional", "object", "attribute")
_KEPT_OUT = ("key", "own_words", "own_categories", "knockout_answers")


def finish(
    out: Path,
    keys: list[str],
    parts: Parts,
    info: dict,
    teacher: Run | None,
    *,
    seed: int,
    raster: tuple[int, int],
) -> Run:
    """Compute every metric from the stored maps, part by part; write the merged files, the summary last."""
    text = info["settings"]["text"]
    comparison, cosine = None, {}
    if teacher is not None:
        rows = [row for row, _ in parts.read(keys, kinds=())]
        comparison = Comparison(rows, teacher, "own" if text == "teacher" else "shared", seed, raster)
        cosine = comparison.cosine(aligned_states(comparison, parts, seed))
    samples, tokens, profile = [], [], Profile(info.get("layers", []))
    cuts = Table(info["settings"].get("knockout"))
    maps, hidden = ArrayFile(out / "maps.safetensors"), ArrayFile(out / "hidden.safetensors")
    for row, arrays in parts.read(keys):
        sample_id, measured = row["sample_id"], {name: row[name] for name in row if name not in _KEPT_OUT}
        if row["status"] == "ok":
            cuts.add(row, arrays)
            measured |= one_map(row, arrays["own"])
            against = comparison if comparison and sample_id in comparison.rows else None
            if against:
                measured |= against.sample(sample_id, arrays["shared"])
            measured |= sink_metrics(row, arrays, against)
            if "layers" in arrays:
                frame_is_native = against.native if against else None
                arrays |= {name: per_layer.on_frame(arrays[name], frame_is_native) for name in ("layers", "heads")}
                profile.add(sample_id, arrays["layers"], arrays["heads"], measured["focus_chance"])
            tokens += word_rows(row, arrays, against, cosine.get(sample_id))
            if "latents" in arrays:
                measured |= latent_rows(row, arrays["latents"], against)
            for kind in sorted(arrays.keys() - {"hidden"}):
                maps.add(f"{sample_id}/{kind}", arrays[kind] if kind in NO_MAPS else normalised(arrays[kind]))
            hidden.add(f"{sample_id}/hidden", arrays["hidden"])
        samples.append(measured)
    columns = [name for name in ROW_SCHEMA.names if name not in _KEPT_OUT]
    frame = pd.DataFrame(samples, columns=[*columns, *SAMPLE_METRICS, *LATENT_METRICS])
    words = pd.DataFrame(tokens, columns=TOKEN_COLUMNS)
    (out / "summary.json").unlink(missing_ok=True)  # back last, when everything it speaks of is in place
    files = {"samples.parquet": write_table(out / "samples.parquet", frame),
             "tokens.parquet": write_table(out / "tokens.parquet", words),
             "maps.safetensors": maps.close(), "hidden.safetensors": hidden.close()}  # fmt: skip
    knocked, more_files = cuts.finish(out, frame, seed)
    compared = comparison is not None and bool(comparison.rows)
    native = comparison is not None and comparison.native
    info = info | {"raster": ("native" if native else list(raster)) if compared else None}
    write_json(out / "run.json", info)
    summary = summarise(frame, words, info, seed) | profile.summary(frame, seed) | knocked
    write_json(out / "summary.json", summary | {"files": files | more_files})
    return Run.open(out)


def so_far(folder: Path, work: Path) -> Run:
    """The run of the samples that an unfinished analysis in `folder` has stored, as `finish` would make it of these.

    Merged files go into `work`, a folder for the time being; `folder` stays as it is, for the analysis to go on. Maps
    are compared on the default raster. UsageError when nothing is stored, when run.json is damaged and when the
    teacher's run is not where it was.
    """
    info = run_info(folder)
    keys = stored_keys(folder)
    if not keys:
        raise UsageError(f"{folder}: no sample is stored yet; let the analysis go on")
    teacher = teacher_of(folder, info)
    work.mkdir(parents=True, exist_ok=True)
    found = finish(work, keys, Parts(folder), info, teacher, seed=info["settings"]["seed"], raster=(16, 16))
    found.path = folder  # images and teacher are found from there
    return found


MOST_ALIGNED = 3000  # samples, which bounds the memory of the alignment


def aligned_states(comparison: Comparison, parts: Parts, seed: int) -> dict[str, np.ndarray]:
    """Hidden states by sample, of all compared samples or, in a larger run, of a seeded choice of MOST_ALIGNED."""
    chosen = set(comparison.rows)
    if len(chosen) > MOST_ALIGNED:
        chosen = set(np.random.default_rng(seed).choice(sorted(chosen), MOST_ALIGNED, replace=False).tolist())
    stored = parts.read([comparison.rows[i]["key"] for i in comparison.rows if i in chosen], kinds=("hidden",))
    return {row["sample_id"]: arrays["hidden"] for row, arrays in stored}


TOKEN_COLUMNS = [
    "sample_id", "text", "word_index", "word", "category", "focus_score", "entropy", "kl", "js", "top_k_overlap", "cc",
    "similarity", "kl_floor", "js_floor", "top_k_floor", "cc_floor", "similarity_floor", "cosine_distance",
    "cosine_floor",
]  # fmt: skip


def word_rows(row: dict, arrays: dict, comparison: Comparison | None, cosine: dict | None) -> list[dict]:
    """One dict a word of the own answer, and of the shared text where there is one."""
    geometry, boxes, images = geometry_of(row), unit_boxes(row), row["box_images"] or None
    found = []
    for text in ("own", "shared"):
        if f"{text}_words" not in arrays:
            continue
        maps = arrays[f"{text}_words"]
        against = comparison.words(row["sample_id"], maps) if comparison and text == "shared" else [{}] * len(maps)
        for w, (word, category) in enumerate(zip(row[f"{text}_words"], row[f"{text}_categories"], strict=True)):
            fields = {
                "sample_id": row["sample_id"], "text": text, "word_index": w, "word": word, "category": category,
                "focus_score": metrics.focus_score(maps[w], geometry, boxes, images),
                "entropy": metrics.entropy(maps[w]),
            }  # fmt: skip
            fields |= against[w]
            if text == "shared" and cosine:
                fields |= {name: float(values[w]) for name, values in cosine.items()}
            found.append(fields)
    return found


def summarise(samples: pd.DataFrame, tokens: pd.DataFrame, info: dict, seed: int) -> dict:
    """summary.json: every metric {mean, ci, n}; 95 % bootstrap intervals clustered by image or pair."""

    def estimate(values, clusters) -> dict:
        return statistics.mean_ci(np.asarray(values, dtype=float), np.asarray(clusters), seed=seed).as_dict()

    def proportion(verdicts: pd.Series, clusters: pd.Series) -> dict:
        # The bootstrap where no cluster repeats too, as in the summaries already written.
        return proportion_ci(verdicts, clusters, seed=seed, independent="bootstrap").as_dict()

    valid = samples[samples["status"] == "ok"]
    # A failed sample is no right answer, and stays in the denominator; one without a reference has no verdict.
    correct = samples["correct"].eq(True).astype(float).where(samples["correct"].notna() | (samples["status"] != "ok"))
    drawn = info["data"]["spec"].split(":")[0] == "scenes"  # a user's task may bear the same name
    by_task = {
        task: proportion(correct[group.index], group["cluster"]) | {"chance": CHANCE.get(str(task)) if drawn else None}
        for task, group in samples.groupby("task")
    }

    words = tokens[tokens["text"] == "shared"].merge(samples[["sample_id", "cluster"]], on="sample_id", how="left")

    def by_category(metric: str, floor: str) -> dict:
        found = {"all": estimate(words[metric], words["cluster"])}
        for category in CATEGORIES:
            some = words[words["category"] == category]
            found[category] = estimate(some[metric], some["cluster"])
            found[f"{category}_floor"] = estimate(some[floor], some["cluster"])
        return found | {"floor": estimate(words[floor], words["cluster"])}

    def of_samples(metric: str, floor: str) -> dict:
        return {
            "sample": estimate(valid[metric], valid["cluster"]),
            "sample_floor": estimate(valid[floor], valid["cluster"]),
            "floor_minus_sample": estimate(valid[floor] - valid[metric], valid["cluster"]),
        }

    latent = {name: estimate(valid[name], valid["cluster"]) for name in LATENT_METRICS}
    sinks = {name: estimate(valid[name], valid["cluster"]) for name in ("n_sinks", "sink_share")} | {
        "without": {
            name: estimate(valid[f"{name}_without_sinks"], valid["cluster"]) for name in (*OF_MAPS, *OF_SAMPLES)
        }
    }
    optional = (("latent", latent, "latent_entropy"), ("sinks", sinks, "n_sinks"))
    return {
        "model": info["model"]["name"],
        "teacher": info["teacher"]["name"] if info["teacher"] else None,
        "n_samples": len(samples),
        "n_failed": int((samples["status"] != "ok").sum()),
        "accuracy": proportion(correct, samples["cluster"]),
        "accuracy_by_task": by_task,
        "focus_score": estimate(valid["focus_score"], valid["cluster"]) | focus_and_truth(valid, seed),
        "pointing_game": estimate(valid["pointing_game"], valid["cluster"]),
        "text_image_mass": estimate(valid["text_image_mass"], valid["cluster"]),
        "entropy": spread(valid["entropy"], valid["cluster"], seed)
        | {"relative": estimate(valid["relative_entropy"], valid["cluster"])},
        "salient_regions": spread(valid["salient_regions"], valid["cluster"], seed)
        | {"fraction": estimate(valid["salient_fraction"], valid["cluster"])},
        "kl": by_category("kl", "kl_floor") | of_samples("kl", "kl_floor"),
        "js": by_category("js", "js_floor") | of_samples("js", "js_floor"),
        "top_k_overlap": by_category("top_k_overlap", "top_k_floor") | of_samples("top_k_overlap", "top_k_floor"),
        "cosine_distance": by_category("cosine_distance", "cosine_floor"),
        "cc": by_category("cc", "cc_floor") | of_samples("cc", "cc_floor"),
        "similarity": by_category("similarity", "similarity_floor") | of_samples("similarity", "similarity_floor"),
        "emd": of_samples("emd", "emd_floor"),
    } | {name: found for name, found, known in optional if valid[known].notna().any()}


def spread(values: pd.Series, clusters: pd.Series, seed: int) -> dict[str, Any]:
    """{mean, ci, n} of one value a sample, and its std (over the samples, ddof 0) and cv, as table 2 of the paper."""
    known = values.dropna()
    cv = metrics.coefficient_of_variation(known)
    found = statistics.mean_ci(values.to_numpy(float), clusters.to_numpy(), seed=seed).as_dict()
    return found | {
        "std": float(known.std(ddof=0)) if len(known) else None,
        "cv": None if np.isnan(cv) else cv,
    }


def focus_and_truth(valid: pd.DataFrame, seed: int) -> dict:
    """Does focus tell right from wrong? Means of both, their difference and the AUROC, both within task."""
    known = valid[valid["focus_score"].notna() & valid["correct"].notna()]
    focus = known["focus_score"].to_numpy(float)
    right = known["correct"].to_numpy(bool)
    clusters, tasks = known["cluster"].to_numpy(), known["task"].to_numpy()

    def mean(chosen: np.ndarray) -> Estimate:
        return statistics.mean_ci(focus[chosen], clusters[chosen], seed=seed)

    return {
        "correct_mean": mean(right).as_dict(),
        "incorrect_mean": mean(~right).as_dict(),
        "difference": statistics.difference_ci(focus, right, clusters, strata=tasks, seed=seed).as_dict(),
        "auroc": statistics.auroc_ci(focus, right, clusters, strata=tasks, seed=seed).as_dict(),
        "chance": statistics.mean_ci(
            valid["focus_chance"].to_numpy(float), valid["cluster"].to_numpy(), seed=seed
        ).as_dict(),
        "lift": statistics.mean_ci(
            valid["focus_lift"].to_numpy(float), valid["cluster"].to_numpy(), seed=seed
        ).as_dict(),
    }
