"""What a report is made of: directories that analyze, bench, ablate and train wrote, opened by what lies in them.

    analyze   run.json  samples.parquet  tokens.parquet  maps.safetensors  summary.json     -> Run
    bench     bench.json  summary.json  comparisons.csv  MODEL/{run.json,samples.parquet,..} -> BenchRun
    ablate    results.csv  comparisons.csv  PRESET-sSEED/train                               -> Matrix
    train     train.json  log.jsonl  model/                                                  -> Training

A directory that is still growing is `Unfinished`; one of another schema, or of nothing known, is a UsageError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from perception_gap.errors import UsageError
from perception_gap.store import KEYS, SCHEMA_VERSION, Run, stored

BENCH_SCHEMA = 1
RESULTS = ("preset", "seed", "rows", "task", "metric", "value", "low", "high", "n")


@dataclass(frozen=True)
class BenchModel:
    """One model of a benchmark; `samples`: a row a question, with both verdicts, and focus and entropy after --gaze."""

    name: str
    folder: Path
    info: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def label(self) -> str:
        """As `labels`."""
        return short_name(self.name, self.info["asked"]["latents"])

    @cached_property
    def samples(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "samples.parquet")


@dataclass(frozen=True)
class BenchRun:
    """A benchmark of one or several models; `missing`: those that it names and that are not summarised yet."""

    path: Path
    info: Mapping[str, Any]
    models: tuple[BenchModel, ...]
    comparisons: pd.DataFrame
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """One training: its settings (train.json), a row a step (log.jsonl), whether its model is there."""

    path: Path
    info: Mapping[str, Any]
    log: pd.DataFrame
    finished: bool

    @property
    def label(self) -> str:
        return f"{self.info['preset']}, seed {self.info['settings']['seed']}"


@dataclass(frozen=True)
class Matrix:
    """An ablation matrix: tidy `results` (columns RESULTS; fractions, nats), paired `comparisons`, possibly empty."""

    path: Path
    results: pd.DataFrame
    comparisons: pd.DataFrame

    def trainings(self) -> list[Training]:
        """Those that lie in the matrix, by name; none where only its CSV files were kept."""
        return [_training(made.parent) for made in sorted(self.path.glob("*-s*/train/train.json"))]


@dataclass(frozen=True)
class Unfinished:
    """An analysis that has not come to its end: `stored` of `total` samples are there. `command` goes on with it."""

    path: Path
    info: Mapping[str, Any]
    stored: int
    total: int

    @property
    def words(self) -> str:
        return (
            f"{self.path}: unfinished, {self.stored:,} of {self.total:,} samples are stored; "
            f"`{self.info.get('command') or 'the same analyze command'}` goes on with it"
        )


Source = Run | BenchRun | Matrix | Training | Unfinished


def open_source(path: str | Path) -> Source:
    """What the folder holds. UsageError, in one line, for none of it, for a damaged one and for another schema."""
    folder = Path(path)
    for name, opened in _KINDS.items():
        if (folder / name).is_file():
            return opened(folder)
    reason = "does not exist" if not folder.exists() else f"holds none of {', '.join(_KINDS)}"
    raise UsageError(f"{folder}: {reason}; give the --out folder of gapcheck analyze, bench, ablate or train")


def open_sources(paths: Sequence[str | Path]) -> list[Source]:
    """Each folder once, in the order given; two spellings of one folder are one."""
    first: dict[Path, str | Path] = {}
    for path in paths:
        first.setdefault(Path(path).resolve(), path)
    return [open_source(path) for path in first.values()]


def _run(folder: Path) -> Run | Unfinished:
    info = _json(folder / "run.json")
    if "asked" in info:
        raise UsageError(f"{folder}: one model of a benchmark; give the folder above it, which holds bench.json")
    if (folder / "summary.json").exists() or info.get("schema_version") != SCHEMA_VERSION:
        return Run.open(folder)
    keys = folder / "parts" / KEYS
    done = stored(folder / "parts") if keys.exists() else {}
    here = sum(key in done for key in json.loads(keys.read_text())) if done else 0
    return Unfinished(folder, info, here, info["data"]["n"])


def _bench(folder: Path) -> BenchRun:
    info = _json(folder / "bench.json")
    if info.get("schema_version") != BENCH_SCHEMA:
        raise UsageError(
            f"{folder}: written in bench schema {info.get('schema_version')}, this gapcheck reads {BENCH_SCHEMA}; "
            "run `gapcheck bench` again"
        )
    models, missing = [], []
    for name, below in info["models"].items():
        made = folder / below
        if not all((made / file).exists() for file in ("run.json", "summary.json", "samples.parquet")):
            missing.append(name)
            continue
        models.append(BenchModel(name, made, _json(made / "run.json"), _json(made / "summary.json")))
    return BenchRun(folder, info, tuple(models), _csv(folder / "comparisons.csv"), tuple(missing))


def _matrix(folder: Path) -> Matrix:
    results = _csv(folder / "results.csv")
    if missing := [name for name in RESULTS if name not in results]:
        raise UsageError(
            f"{folder / 'results.csv'}: column {missing[0]} is missing; expected the CSV of gapcheck ablate"
        )
    return Matrix(folder, results, _csv(folder / "comparisons.csv"))


def _training(folder: Path) -> Training:
    info = _json(folder / "train.json")
    log = folder / "log.jsonl"
    try:
        steps = pd.read_json(log, lines=True) if log.exists() and log.stat().st_size else pd.DataFrame()
    except ValueError:
        raise UsageError(f"{log}: damaged log (a line is no JSON); train again with --fresh") from None
    return Training(folder, info, steps, (folder / "model").is_dir())


def labels(runs: Sequence[Run]) -> list[str]:
    """What figures and tables call the runs' models: short, each once.

    `Qwen2.5-VL-3B-Instruct` of a hub id, `lavit` of runs/lavit/model; how latent tokens were treated, where that is not
    the usual, and the run's own folder behind names that would stand twice.
    """
    names = [short_name(run.info["model"]["name"], run.info["settings"].get("latents", "force")) for run in runs]
    return [
        f"{name} ({run.path.name})" if names.count(name) > 1 else name for name, run in zip(names, runs, strict=True)
    ]


def short_name(model: str, latents: str = "force") -> str:
    """`tiny:lavit (latents mask)`: the last part of a hub id or folder that says something, and its latents."""
    parts = [part for part in Path(model).parts if part not in ("model", "/", ".")]
    return (parts[-1] if parts else model) + ("" if latents == "force" else f" (latents {latents})")


_KINDS: dict[str, Callable[[Path], Source]] = {
    "bench.json": _bench,
    "results.csv": _matrix,
    "train.json": _training,
    "run.json": _run,
}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: damaged (not valid JSON); the command that made it, with --fresh, rewrites it")
    return found


def _csv(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        if path.read_text(errors="replace").strip() == "":
            return pd.DataFrame()
        raise UsageError(f"{path}: damaged (not a CSV); the command that made it rewrites it") from None
