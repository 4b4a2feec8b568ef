"""From answers to a finished benchmark: rows with both verdicts, maps and their metrics, accuracies, comparisons.

OUT/bench.json  summary.json  comparisons.csv  disagreements.csv  tables.md  [images/]
OUT/MODEL/run.json  samples.parquet  summary.json  [maps.safetensors]  parts/
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.answers import AnswerStore
from benchmarks.comparison import paired_comparison, per_cluster_all
from benchmarks.plugin import DEFAULT_TOKENS
from benchmarks.suites.tasks import Suite
from perception_gap.data.scenes import CHANCE
from perception_gap.measure.of_sample import normalised, region_of
from perception_gap.metrics.columns import columns, of_map
from perception_gap.metrics.means import focus_by_verdict, mean_of, spread
from perception_gap.runs.schema.tables import bench_samples
from perception_gap.stats.proportions import proportion_ci
from perception_gap.storage import checksums
from perception_gap.storage.files import ArrayFile, write_frame, write_json, write_text
from perception_gap.storage.spreadsheet import csv_text

if TYPE_CHECKING:
    from benchmarks.harness import Record

SEED = 0  # of the arrangements that p-values count
COSTS = {"image_tokens": "n_image_tokens", "answer_tokens": "n_tokens", "seconds": "seconds"}


@dataclass(frozen=True)
class ModelResult:
    """One model's rows (samples.parquet) and summary; `name` as on the command line."""

    name: str
    samples: pd.DataFrame
    summary: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """A finished benchmark. comparisons: a `paired_comparison` of every model with the baseline."""

    out: Path
    models: list[ModelResult]
    baseline: str
    comparisons: pd.DataFrame
    disagreements: pd.DataFrame

    @property
    def n_failed(self) -> int:
        return sum(int((m.samples["status"] != "ok").sum()) for m in self.models)

    @property
    def n_valid(self) -> int:
        return sum(int((m.samples["status"] == "ok").sum()) for m in self.models)


def finish_model(
    name: str,
    folder: Path,
    store: AnswerStore,
    suites: Sequence[Suite],
    records_of: Mapping[str, list[Record]],
    info: dict[str, Any],
) -> ModelResult:
    """Score every answer with both scorers, write rows and maps, the summary last."""
    tables, summaries = [], {}
    gaze = bool(info["asked"]["gaze"])
    maps = ArrayFile(folder / "maps.safetensors") if gaze else None
    for suite in suites:
        records = records_of[suite.name]
        rows = [_row(suite, record, store) for record in records]
        _unique_ids(rows)
        # A failed row goes to lmms-eval as an empty answer, so that its own figures keep the denominator too.
        scored = suite.verdicts([row["answer"] or "" for row in rows])
        scores = suite.scores([values for values, _ in scored])
        for row, record, score, (_, error) in zip(rows, records, scores, scored, strict=True):
            _judge(row, record, score, error)
        if maps is not None:
            _read_maps(rows, store, maps)
        table = pd.DataFrame(rows)
        tables.append(table)
        metrics = suite.aggregate([values for values, _ in scored if values is not None])
        limit = info["max_new_tokens"] or suite.task.config.generation_kwargs.get("max_new_tokens", DEFAULT_TOKENS)
        summaries[suite.name] = summarise(suite, table, metrics, limit, gaze)
    samples = pd.concat(tables, ignore_index=True).drop(columns=["key"])
    files = {"samples.parquet": write_frame(folder / "samples.parquet", samples, bench_samples())}
    if maps is not None:
        files["maps.safetensors"] = maps.close()
    counts = {"n_samples": len(samples), "n_failed": int((samples["status"] != "ok").sum())}
    summary = {"model": name} | counts | {"costs": costs(samples), "tasks": summaries}
    if gaze:
        summary["gaze"] = of_maps(samples)
    write_json(folder / "summary.json", summary | {"files": files})
    return ModelResult(name, samples, summary)


def costs(samples: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """{image_tokens, answer_tokens, seconds}: means of an answered question over all tasks, each {mean, ci, n}."""
    ok = samples[samples["status"] == "ok"]
    return {name: mean_of(ok, column) for name, column in COSTS.items()}


def of_maps(samples: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The measures of the maps over all tasks: a `spread` each; of the focus score also `focus_by_verdict`."""
    ok = samples[samples["status"] == "ok"]
    measured = {name: spread(ok, name) for name in columns("bench")}
    measured["focus_score"] |= focus_by_verdict(ok, SEED)
    return measured


def _row(suite: Suite, record: Record, store: AnswerStore) -> dict[str, Any]:
    question, boxes = record.question, record.question.boxes
    if record.key is not None and record.key not in store.rows:
        record.key, record.error = None, "its answer has vanished from the run; repeat the command"
    stored = store.rows.get(record.key or "", dict.fromkeys(store.parts.schema.names))
    return dict(stored) | {
        "key": record.key,
        "sample_id": question.id,
        "task": suite.name,
        "doc_id": record.index,
        "category": None if question.category is None else str(question.category),
        "pair": question.pair,
        # Questions about one picture are not independent; without a picture a row stands alone.
        "cluster": question.pair or record.image_hash[:16] or None,
        "image_hash": record.image_hash,
        "images": list(record.pictures),
        "question": question.text,
        "prompt": record.prompt,
        "references": list(question.references),
        "options": list(question.options),
        "boxes": [float(v) for box in boxes for v in box],
        "box_images": [0] * len(boxes),
        "status": "failed" if record.key is None else "ok",
        "error": record.error,
    }


def _unique_ids(rows: list[dict[str, Any]]) -> None:
    """Ids that a data set gives twice get the document's number behind them."""
    ids = pd.Series([row["sample_id"] for row in rows])
    for row, twice in zip(rows, ids.duplicated(keep=False), strict=True):
        if twice:
            row["sample_id"] = f"{row['sample_id']}#{row['doc_id']}"


def _judge(row: dict[str, Any], record: Record, score: float | None, error: str | None) -> None:
    """Both verdicts of a row. A failed row is wrong in both; what a scorer cannot say is None.

    correct: lmms-eval's, the one that published figures rest on; a score between 0 and 1 counts from 0.5.
    """
    ok = row["status"] == "ok"
    row["lmms_score"] = score if ok else None
    row["lmms_error"] = error if ok else None
    row["correct"] = (None if score is None else score >= 0.5) if ok else False
    row["strict_correct"] = record.question.strict(row["answer"]) if ok else False


def _read_maps(rows: list[dict[str, Any]], store: AnswerStore, maps: ArrayFile) -> None:
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        row |= dict.fromkeys(columns("bench"), math.nan)
        if row["key"] is not None:
            by_key.setdefault(row["key"], []).append(row)
    for stored, arrays in store.parts.read(list(by_key)):
        for row in by_key[stored["key"]]:
            row |= of_map("bench", arrays["own"], region_of(row))
            maps.add(f"{row['task']}/{row['sample_id']}/own", normalised(arrays["own"]))


def summarise(suite: Suite, table: pd.DataFrame, metrics: dict[str, Any], limit: int, gaze: bool) -> dict[str, Any]:
    """One task of one model; every estimate {mean, ci, n}, fractions 0–1, undefined null.

    metrics: lmms-eval's own figures. limit: the most tokens an answer could have.
    """
    ok = table[table["status"] == "ok"]
    clusters = table["cluster"].to_numpy()

    def share(column: str) -> dict[str, Any]:
        return proportion_ci(table[column].to_numpy(), clusters).as_dict()

    defined = table["correct"].notna() & table["strict_correct"].notna()
    summary: dict[str, Any] = {
        "n": len(table),
        "data_hash": _data_hash(table),
        "n_failed": len(table) - len(ok),
        "n_unscored": int(ok["correct"].isna().sum()),
        "n_empty": int((ok["answer"].str.strip() == "").sum()),
        "n_cut": int((ok["n_tokens"].astype(float) >= limit).sum()),
        "accuracy": share("correct"),
        "strict_accuracy": share("strict_correct"),
        "n_disagree": int((table["correct"] != table["strict_correct"])[defined].sum()),
        "chance": _chance(suite, table),
        "lmms_eval": metrics,
    } | costs(table)
    if table["pair"].notna().any():
        pairs = per_cluster_all(table["correct"].to_numpy(), table["pair"].to_numpy(), size=2)
        summary["pair_accuracy"] = proportion_ci(pairs.to_numpy()).as_dict()
    if gaze:
        summary["gaze"] = {name: spread(ok, name) for name in columns("bench")}
    return summary


def _data_hash(table: pd.DataFrame) -> str:
    """sha256 over ids, pictures, prompts and right answers, in order."""
    columns = ["sample_id", "image_hash", "prompt", "references"]
    return hashlib.sha256(table[columns].to_json(orient="values").encode()).hexdigest()


def _chance(suite: Suite, table: pd.DataFrame) -> float | None:
    """What blind guessing over the options scores; None for a task with a free answer."""
    if suite.name.startswith("scenes_"):
        return CHANCE[suite.name.removeprefix("scenes_")]
    counts = table["options"].str.len()
    return float((1 / counts).mean()) if len(counts) and (counts > 1).all() else None


def finish(out: Path, done: Sequence[ModelResult], baseline: str) -> Bench:
    """What only all models together say: comparisons with the baseline, and where the two scorers disagree."""
    frame = pd.concat([m.samples.assign(model=m.name) for m in done], ignore_index=True)
    # A baseline that did not load leaves nothing to compare with.
    others = [m.name for m in done if m.name != baseline] if baseline in [m.name for m in done] else []
    compared = [paired_comparison(frame, baseline, name).assign(model=name) for name in others]
    comparisons = pd.concat(compared, ignore_index=True) if compared else pd.DataFrame()
    defined = frame["correct"].notna() & frame["strict_correct"].notna()
    columns = ["model", "task", "sample_id", "references", "answer", "correct", "strict_correct"]
    disagreements = frame.loc[defined & (frame["correct"] != frame["strict_correct"]), columns]
    compared_csv = csv_text(comparisons)
    write_text(out / "comparisons.csv", compared_csv)
    write_text(out / "disagreements.csv", csv_text(disagreements))
    summary = {
        "baseline": baseline,
        "models": {m.name: m.summary for m in done},
        "comparisons": [_plain(row) for row in comparisons.to_dict("records")],
    }
    write_json(
        out / "summary.json", summary | {"files": {"comparisons.csv": checksums.of_bytes(compared_csv.encode())}}
    )
    return Bench(out, list(done), baseline, comparisons, disagreements)


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """For JSON: numpy's numbers as Python's, NaN as null."""
    plain = {str(k): v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in plain.items()}
