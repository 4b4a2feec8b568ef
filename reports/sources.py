"""What a report is made of: directories that analyze, compare, bench, ablate and train wrote, opened by what is there.

    analyze   run.json  samples.parquet  words.parquet  maps.safetensors  summary.json     -> Run
    compare   compare.json  summary.json  pairs.parquet  words.parquet  MODEL/ (as analyze)    -> CompareRun
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
import pyarrow as pa

from perception_gap.errors import DamagedError, UsageError, one_line
from perception_gap.runs.parts import stored_keys
from perception_gap.runs.paths import is_below
from perception_gap.runs.run import Run, run_info
from perception_gap.runs.schema import bench, tables, training
from perception_gap.runs.schema.versions import BENCH, RUN
from perception_gap.storage import intact
from perception_gap.storage.redaction import public_text
from perception_gap.storage.spreadsheet import unescaped
from reports.compared import CompareRun, open_comparison
from reports.names import labels as labels
from reports.names import short_name

RESULTS = tuple(tables.RESULTS.names)
ANEW = "the command that made it writes it anew"
AGAIN = "train again with --fresh"


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
        """DamagedError where the file is damaged, lacks a column or has a question twice."""
        path = self.folder / "samples.parquet"
        samples = intact.read_table(path)
        intact.columns(samples, tables.bench_samples(), path)
        intact.unique(samples, ["task", "sample_id"], path)
        return samples


@dataclass(frozen=True)
class BenchRun:
    """A benchmark of one or several models; `missing`: those that it names and that are not summarised yet."""

    path: Path
    info: Mapping[str, Any]
    models: tuple[BenchModel, ...]
    comparisons: pd.DataFrame
    missing: tuple[str, ...]
    named: tuple[Path, ...] = ()  # folders that the user named


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
        return [_training(path.parent, ()) for path in sorted(self.path.glob("*-s*/train/train.json"))]


@dataclass(frozen=True)
class Unfinished:
    """An analysis that has not come to its end: `stored` of `total` samples are there. `command` goes on with it.

    asking: what is said instead of the samples: of the teacher's pass, which comes first, while that is all that there
    is, or of the models that a comparison still lacks.
    """

    path: Path
    info: Mapping[str, Any]
    stored: int
    total: int
    asking: str = ""

    @property
    def words(self) -> str:
        there = self.asking or f"{self.stored:,} of {self.total:,} samples are stored"
        command = public_text(self.info.get("command") or "the same command")
        return f"{self.path}: unfinished, {there}; `{command}` goes on with it"


Source = Run | CompareRun | BenchRun | Matrix | Training | Unfinished


def open_source(path: str | Path, named: Sequence[Path] = ()) -> Source:
    """What the folder holds. UsageError, in one line, for none of it, for a damaged one and for another schema.

    named: folders that the user named; paths in what is opened are followed below them (see `runs.paths`).
    """
    folder = Path(path)
    for name, opened in _KINDS.items():
        if (folder / name).is_file():
            return opened(folder, named)
    if (folder / "parts").is_dir() and (folder / "teacher").is_dir():
        return _before_the_student(folder, named)
    reason = "does not exist" if not folder.exists() else f"holds none of {', '.join(_KINDS)}"
    raise UsageError(f"{folder}: {reason}; give the --out folder of gapcheck analyze, compare, bench, ablate or train")


def open_sources(paths: Sequence[str | Path], image_roots: Sequence[Path] = ()) -> list[Source]:
    """Each folder once, in the order given; two spellings of one folder are one.

    All of them, and image_roots, are what the user named: see `open_source`.
    """
    first: dict[Path, str | Path] = {}
    for path in paths:
        first.setdefault(Path(path).resolve(), path)
    named = [*map(Path, first.values()), *image_roots]
    return [open_source(path, named) for path in first.values()]


def with_members(sources: Sequence[Source]) -> list[Source]:
    """The sources, each comparison followed by the runs of its members; a run that is there already stands once."""
    given = [source for source in sources if not isinstance(source, CompareRun)]
    there = {source.path.resolve() for source in given}
    every: list[Source] = []
    for source in sources:
        every.append(source)
        for run in source.members.values() if isinstance(source, CompareRun) else ():
            if run.path.resolve() not in there:
                there.add(run.path.resolve())
                every.append(run)
    return every


def _run(folder: Path, named: Sequence[Path]) -> Run | Unfinished:
    info = intact.read_json(folder / "run.json")
    if "asked" in info:
        raise UsageError(f"{folder}: one model of a benchmark; give the folder above it, which holds bench.json")
    if (folder / "summary.json").exists() or info.get("schema_version") != RUN.version:
        return Run.open(folder, named)
    info = run_info(folder)
    return Unfinished(folder, info, len(stored_keys(folder)), info["data"]["n"])


def _before_the_student(folder: Path, named: Sequence[Path]) -> Unfinished:
    """An analysis that is still at its teacher, whose pass has a run.json of its own as soon as the model is loaded."""
    teacher = folder / "teacher"
    if not (teacher / "run.json").is_file():
        return Unfinished(folder, {}, 0, 0, f"the teacher's pass comes first and has stored nothing yet in {teacher}")
    teacher_run = _run(teacher, named)
    stored = teacher_run.stored if isinstance(teacher_run, Unfinished) else len(teacher_run.samples)
    total = teacher_run.info["data"]["n"]
    asking = f"the teacher's pass comes first, {stored:,} of its {total:,} samples are stored in {teacher}"
    return Unfinished(folder, teacher_run.info, 0, total, asking)


def _compare(folder: Path, named: Sequence[Path]) -> CompareRun | Unfinished:
    opened = open_comparison(folder, named)
    return (
        opened
        if isinstance(opened, CompareRun)
        else Unfinished(folder, opened.info, 0, opened.info["data"]["n"], opened.words)
    )


def _bench(folder: Path, named: Sequence[Path]) -> BenchRun:
    info = intact.read_json(folder / "bench.json")
    BENCH.require_version(folder, info)
    intact.require(info, bench.BenchInfo, folder / "bench.json")
    models, missing = [], []
    for name, below in info["models"].items():
        place = folder / below
        if not is_below(place, [folder]):
            raise intact.damaged(folder / "bench.json", f"models.{name} is a folder outside of this one")
        if not all((place / file).exists() for file in ("run.json", "summary.json", "samples.parquet")):
            missing.append(name)
            continue
        about, summary = intact.read_json(place / "run.json"), intact.read_json(place / "summary.json")
        intact.require(about, bench.BenchModelInfo, place / "run.json")
        intact.require(summary, bench.BenchSummary, place / "summary.json")
        models.append(BenchModel(name, place, about, summary))
        _ = models[-1].samples  # read now, so that nothing behind this meets a damaged file
        intact.same(place, {"samples.parquet": summary["files"]["samples.parquet"]})
    comparisons = _csv(folder / "comparisons.csv", tables.BENCH_COMPARISONS)
    if (folder / "summary.json").exists():  # it comes when all models are there
        total = intact.read_json(folder / "summary.json")
        intact.require(total, bench.BenchTotal, folder / "summary.json")
        intact.same(folder, {name: checksum for name, checksum in total["files"].items() if (folder / name).exists()})
    return BenchRun(folder, info, tuple(models), comparisons, tuple(missing), tuple(named))


def _matrix(folder: Path, named: Sequence[Path]) -> Matrix:
    results = _csv(folder / "results.csv", tables.RESULTS)
    if results.empty:
        raise UsageError(f"{folder / 'results.csv'}: no result in it; the same ablate command writes it anew")
    comparisons = _csv(folder / "comparisons.csv", tables.COMPARISONS)
    if (folder / intact.FILES).exists():  # not in a matrix that is growing, nor where only its tables were kept
        listed = intact.read_json(folder / intact.FILES)
        intact.require(listed, training.FileList, folder / intact.FILES)
        intact.same(folder, {name: checksum for name, checksum in listed["files"].items() if (folder / name).exists()})
    return Matrix(folder, results, comparisons)


def _training(folder: Path, named: Sequence[Path]) -> Training:
    info = intact.read_json(folder / "train.json")
    intact.require(info, training.TrainingInfo, folder / "train.json")
    return Training(folder, info, _log(folder / "log.jsonl"), (folder / "model").is_dir())


def _log(path: Path) -> pd.DataFrame:
    """A row a step; without the last line where that is half a one, as a kill or a full disk leaves it."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    steps: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            step = json.loads(line, parse_constant=intact.undefined)
        except (ValueError, RecursionError):
            step = None
        if isinstance(step, dict):
            steps.append(step)
        elif number < len(lines):
            raise intact.damaged(path, f"line {number} is no JSON of keys and values", AGAIN)
    log = pd.DataFrame(steps)
    intact.columns(log, tables.LOG if steps else pa.schema([]), path, line="line", remedy=AGAIN)
    return log


def teacher_or_reason(run: Run) -> tuple[Run | None, str]:
    """(the teacher's run, ""), or (None, why it cannot be read); (None, "") for a run without one."""
    try:
        return run.teacher(), ""
    except DamagedError as error:
        return None, str(error)


_KINDS: dict[str, Callable[[Path, Sequence[Path]], Source]] = {
    "compare.json": _compare,
    "bench.json": _bench,
    "results.csv": _matrix,
    "train.json": _training,
    "run.json": _run,
}


def _csv(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Empty where there is no file or nothing in it. DamagedError where it is no CSV of this schema."""
    if not path.exists():
        return pd.DataFrame()
    texts = {field.name: str for field in schema if pa.types.is_string(field.type)}
    try:
        table = pd.read_csv(path, dtype=texts, encoding="utf-8").map(unescaped)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except ValueError as error:
        raise intact.damaged(path, f"not a CSV: {one_line(error, 80)}", ANEW) from None
    if not isinstance(table.index, pd.RangeIndex):
        raise intact.damaged(path, "not a CSV: lines are longer than its first one", ANEW)
    for name in table.columns.intersection(schema.names).difference(list(texts)):
        if table[name].dtype.kind not in "iuf":  # a text is among its numbers: which one?
            # As text: a whole number of more digits than a float has would not be inf, but overflow.
            numbers = pd.to_numeric(table[name].astype(str), errors="coerce").astype(object)
            table[name] = numbers.where(numbers.notna(), table[name])
    intact.columns(table, schema, path, line="line", first=2, remedy=ANEW)
    return table
