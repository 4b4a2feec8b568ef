"""Benchmark folders and ablation matrices without a model: invented verdicts, the real summaries and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import results
from perception_gap.metrics.columns import columns
from perception_gap.runs.schema.tables import bench_samples
from perception_gap.runs.schema.versions import BENCH
from perception_gap.storage.files import write_frame, write_json
from reports.sources import BenchRun, Matrix, open_source

Verdicts = Mapping[str, Mapping[str, Sequence[bool | None]]]  # model -> task -> verdict of each question


def rows(task: str, verdicts: Sequence[bool | None], failed: Sequence[int] = (), gaze: bool = False) -> pd.DataFrame:
    """Questions whose pictures differ by task and place; with `gaze`, entropies 1, 2, .. and as many regions."""
    n = len(verdicts)
    paired = task in ("mmvp", "scenes_pairs")
    frame = pd.DataFrame({
        "sample_id": [f"{task}-{i}" for i in range(n)], "task": task, "pair": [f"p{i // 2}" for i in range(n)],
        "cluster": [f"{task}-{i // 2 if paired else i}" for i in range(n)],
        "image_hash": [f"{task}{i}" for i in range(n)], "images": [[]] * n, "heights": [[]] * n, "widths": [[]] * n,
        "grid_rows": 8, "grid_cols": 8, "token_boxes": [[]] * n, "token_images": [[]] * n,
        "question": "?", "boxes": [[]] * n, "box_images": [[]] * n, "prompt": "?",
        "references": [["A"]] * n, "options": [["A", "B"]] * n, "answer": "A",
        "status": ["failed" if i in failed else "ok" for i in range(n)],
        "error": ["out of memory" if i in failed else None for i in range(n)],
        "correct": list(verdicts), "strict_correct": list(verdicts), "lmms_error": None, "lmms_score": None,
        "doc_id": range(n), "category": None, "n_prompt_tokens": 9, "text_image_mass": 0.5,
        "n_image_tokens": 64, "n_tokens": 2, "seconds": 0.5,
    })  # fmt: skip
    if not paired:
        frame["pair"] = None
    if gaze:
        for name in columns("bench"):
            frame[name] = np.arange(1, n + 1, dtype=float)
            frame.loc[list(failed), name] = np.nan
    return frame


def write_bench(
    out: Path, models: Verdicts, baseline: str | None = None, *, gaze: bool = False, latents: Mapping[str, str] = {},
    failed: Mapping[str, Sequence[int]] = {}, missing: Sequence[str] = (), schema: int = BENCH.version,
) -> BenchRun:  # fmt: skip
    """As `gapcheck bench` leaves it. latents, failed (of every task): by model; `missing`: named and not finished."""
    out.mkdir(parents=True)
    done = []
    folders = {name: name.replace("/", "-").replace(":", "-") for name in (*models, *missing)}
    for name, tasks in models.items():
        lost = failed.get(name, ())
        tables = {task: rows(task, verdicts, lost, gaze) for task, verdicts in tasks.items()}
        summaries = {
            task: results.summarise(SimpleNamespace(name=task), table, {}, 2, gaze)  # type: ignore[arg-type]
            for task, table in tables.items()
        }
        samples = pd.concat(tables.values(), ignore_index=True)
        folder = out / folders[name]
        folder.mkdir()
        files = {"samples.parquet": write_frame(folder / "samples.parquet", samples, bench_samples())}
        summary: dict[str, Any] = {"model": name, "n_samples": len(samples), "tasks": summaries, "files": files}
        summary["costs"] = results.costs(samples)
        summary |= {"gaze": results.of_maps(samples)} if gaze else {}
        asked = {"latents": latents.get(name, "force"), "gaze": gaze}
        write_json(folder / "run.json", {"schema_version": schema, "model": {"name": name}, "asked": asked})
        write_json(folder / "summary.json", summary)
        done.append(results.ModelResult(name, samples, summary))
    results.finish(out, done, baseline or next(iter(models)))
    asked_of = {task: len(verdicts) for tasks in models.values() for task, verdicts in tasks.items()}
    about = {"schema_version": schema, "models": folders, "tasks": asked_of, "versions": {}}
    write_json(out / "bench.json", about)
    source = open_source(out)
    assert isinstance(source, BenchRun)
    return source


TRAINED = {"student": {"name": "tiny:student"}, "traces": {"n": 9, "teacher": {"name": "tiny:teacher"}}}
RESULTS = ("preset", "seed", "rows", "task", "metric", "value", "low", "high", "n")
COMPARED = ("preset", "against", "rows", "task", "metric", "mean", "low", "high", "n", "of_each_seed")


def write_matrix(
    out: Path, results_: Sequence[tuple], compared: Sequence[tuple] = (), trained: Mapping[str, tuple[int, int]] = {}
) -> Matrix:
    """results_: lines of RESULTS; compared: of COMPARED; trained: preset -> (latent tokens, steps), in train.json."""
    out.mkdir(parents=True)
    pd.DataFrame(results_, columns=list(RESULTS)).to_csv(out / "results.csv", index=False)
    pd.DataFrame(compared, columns=list(COMPARED)).to_csv(out / "comparisons.csv", index=False)
    for preset, (latents, steps) in trained.items():
        settings = {"n_latents": latents, "steps": steps, "seed": 0}
        folder = out / f"{preset}-s0" / "train"
        folder.mkdir(parents=True)
        write_json(folder / "train.json", TRAINED | {"preset": preset, "settings": settings})
    source = open_source(out)
    assert isinstance(source, Matrix)
    return source
