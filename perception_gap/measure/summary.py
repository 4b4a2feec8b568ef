"""From parts to a finished run: metrics per sample and per word, merged files, and the summary with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perception_gap import metrics
from perception_gap.data.scenes import CHANCE
from perception_gap.errors import UsageError
from perception_gap.knockout.table import Table
from perception_gap.measure import per_layer
from perception_gap.measure.layer_profile import Profile
from perception_gap.measure.measures import (
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
from perception_gap.measure.teacher import OF_SAMPLES, Comparison
from perception_gap.metrics.means import against_floor, mean_of, verdicts
from perception_gap.runs.parts import Parts, stored_keys
from perception_gap.runs.rows import geometry_of
from perception_gap.runs.run import Run, run_info, teacher_of
from perception_gap.runs.schema import ROW_SCHEMA
from perception_gap.stats.decides import decides
from perception_gap.stats.proportions import proportion_ci
from perception_gap.stats.statistics import auroc_ci, difference_ci, spread_ci
from perception_gap.storage.files import ArrayFile, frame_of, write_json, write_table

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
    raster: tuple[int, int] | None,
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
    frame = frame_of(samples, [*columns, *SAMPLE_METRICS, *LATENT_METRICS])
    words = frame_of(tokens, TOKEN_COLUMNS)
    (out / "summary.json").unlink(missing_ok=True)  # back last, when everything it speaks of is in place
    files = {
        "samples.parquet": write_table(out / "samples.parquet", frame),
        "tokens.parquet": write_table(out / "tokens.parquet", words),
        "maps.safetensors": maps.close(),
        "hidden.safetensors": hidden.close(),
    }
    knocked, more_files = cuts.finish(out, frame, seed)
    info = info | {"raster": comparison.name_of_frame if comparison and comparison.rows else None}
    write_json(out / "run.json", info)
    summary = summarise(frame, words, info, seed) | profile.summary(frame) | knocked
    write_json(out / "summary.json", summary | {"files": files | more_files})
    return Run.open(out)


def so_far(folder: Path, work: Path, named: Sequence[Path] = ()) -> Run:
    """The run of the samples that an unfinished analysis in `folder` has stored, as `finish` would make it of these.

    Merged files go into `work`, a folder for the time being; `folder` stays as it is, for the analysis to go on. Maps
    are compared on the default raster. UsageError when nothing is stored, when run.json is damaged and when the
    teacher's run is not where it was.
    """
    info = run_info(folder)
    keys = stored_keys(folder)
    if not keys:
        raise UsageError(f"{folder}: no sample is stored yet; let the analysis go on")
    teacher = teacher_of(folder, info, named)
    work.mkdir(parents=True, exist_ok=True)
    run_so_far = finish(work, keys, Parts(folder), info, teacher, seed=info["settings"]["seed"], raster=None)
    run_so_far.path, run_so_far.named = folder, tuple(named)  # images and teacher are found from there
    return run_so_far


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
    """summary.json: every metric {mean, ci, n}; 95 % intervals of `perception_gap.stats.statistics`, by image or pair.

    A share of answers is one of all samples, failed ones too; what is measured of maps is of the valid ones.
    """
    valid = samples[samples["status"] == "ok"]
    correct = verdicts(samples)
    chances = chance_by_task(samples, drawn=info["data"]["spec"].split(":")[0] == "scenes")
    by_task = {
        task: proportion_ci(correct[group.index], group["cluster"]).as_dict() | {"chance": chances[str(task)]}
        for task, group in samples.groupby("task")
    }
    words = tokens[tokens["text"] == "shared"].merge(samples[["sample_id", "cluster"]], on="sample_id", how="left")

    def by_category(metric: str, floor: str) -> dict:
        means = {"all": mean_of(words, metric)}
        for category in CATEGORIES:
            of_category = words[words["category"] == category]
            means[category] = mean_of(of_category, metric)
            means[f"{category}_floor"] = mean_of(of_category, floor)
        return means | {"floor": mean_of(words, floor)}

    def of_samples(metric: str, floor: str) -> dict:
        return {
            "sample": mean_of(valid, metric),
            "sample_floor": mean_of(valid, floor),
            "against_floor": against_floor(valid, metric, floor, seed),
        }

    latent = {name: mean_of(valid, name) for name in LATENT_METRICS}
    sinks = {name: mean_of(valid, name) for name in ("n_sinks", "sink_share")} | {
        "without": {name: mean_of(valid, f"{name}_without_sinks") for name in (*OF_MAPS, *OF_SAMPLES)}
    }
    optional = (("latent", latent, "latent_entropy"), ("sinks", sinks, "n_sinks"))
    return {
        "model": info["model"]["name"],
        "teacher": info["teacher"]["name"] if info["teacher"] else None,
        "n_samples": len(samples),
        "n_failed": int((samples["status"] != "ok").sum()),
        "accuracy": proportion_ci(correct, samples["cluster"]).as_dict(),
        "accuracy_by_task": by_task,
        "focus_score": mean_of(valid, "focus_score") | focus_and_truth(valid, chances, seed),
        "pointing_game": mean_of(valid, "pointing_game"),
        "text_image_mass": mean_of(valid, "text_image_mass"),
        "entropy": spread(valid, "entropy") | {"relative": mean_of(valid, "relative_entropy")},
        "salient_regions": spread(valid, "salient_regions") | {"fraction": mean_of(valid, "salient_fraction")},
        "kl": by_category("kl", "kl_floor")
        | of_samples("kl", "kl_floor")
        | {"decides": decides(valid, "kl", chances, seed)},
        "js": by_category("js", "js_floor") | of_samples("js", "js_floor"),
        "top_k_overlap": by_category("top_k_overlap", "top_k_floor") | of_samples("top_k_overlap", "top_k_floor"),
        "cosine_distance": by_category("cosine_distance", "cosine_floor"),
        "cc": by_category("cc", "cc_floor") | of_samples("cc", "cc_floor"),
        "similarity": by_category("similarity", "similarity_floor") | of_samples("similarity", "similarity_floor"),
        "emd": of_samples("emd", "emd_floor"),
    } | {name: estimates for name, estimates, known in optional if valid[known].notna().any()}


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
    told = spread_ci(rows[column], rows["cluster"])
    by_task = {
        str(task): {"mean": mean_of(group, column)}
        | {name: estimate.as_dict() for name, estimate in spread_ci(group[column], group["cluster"]).items()}
        for task, group in rows.groupby("task")
    }
    flat = {name: told[name].as_dict()["mean"] for name in ("std", "cv")}
    return mean_of(rows, column) | flat | {"by_task": by_task}


def focus_and_truth(valid: pd.DataFrame, chances: dict[str, float | None], seed: int) -> dict:
    """Does focus tell right from wrong?

    Means of both and their `raw_difference`, all tasks mixed; `difference` and `auroc` within task; `decides`: task by
    task, and over those that can tell.
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
        "decides": decides(valid, "focus_score", chances, seed),
        "chance": mean_of(valid, "focus_chance"),
        "lift": mean_of(valid, "focus_lift"),
    }
