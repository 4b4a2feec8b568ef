"""Where a task's table comes from: the hub, this machine's caches, or a folder."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features, Image
from huggingface_hub import HfApi, constants, errors

from perception_gap.errors import UsageError, one_line

# Files that are not named after their split; on the hub a README says so.
_FILES = {
    ("Lin-Chen/MMStar", "val"): ["mmstar.parquet"],
    ("DreamMr/HR-Bench", "hrbench_4k"): ["hr_bench_4k.parquet"],
    ("DreamMr/HR-Bench", "hrbench_8k"): ["hr_bench_8k.parquet"],
}
# Keywords of lmms-eval's definitions that `datasets` refuses: a login that public data do not need, and V*'s category,
# which no Parquet file takes (`open_docs` filters by it).
_REFUSED = ("token", "category")
# Answers that lmms-eval's copy of MMVP corrects (its issue 1018), by the CSV's Index.
MMVP_CORRECTED = {99: "(b)", 100: "(a)", 279: "(b)", 280: "(a)"}
_PROBE_SECONDS = 10
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.parquet$")


def table_of(task: str, config: dict[str, Any], data_root: Path | None) -> Dataset:
    """The split that a task's definition names. UsageError with the command that fetches it when it is not there."""
    return _from_hub(task, config) if data_root is None else _from_folder(task, config, data_root)


def split_of(config: dict[str, Any]) -> str:
    """The split that lmms-eval evaluates."""
    return config.get("test_split") or config.get("validation_split") or "test"


def fetch(config: dict[str, Any], folder: str | Path) -> str:
    """The command that downloads a task's data into a folder."""
    return f"hf download {config['dataset_path']} --repo-type dataset --local-dir {folder}"


def _from_hub(task: str, config: dict[str, Any]) -> Dataset:
    """From the hub, or from this machine's caches when it cannot be had."""
    repo = config["dataset_path"]
    kwargs = {k: v for k, v in (config.get("dataset_kwargs") or {}).items() if k not in _REFUSED}
    refusal = _refusal(repo, constants.ENDPOINT)
    if refusal:  # what `hf download` left in the hub's cache; else what `datasets` has kept
        data = _find(task, config, _places(Path(constants.HF_HUB_CACHE), repo))
        if data is not None:
            return data
    try:
        with _offline() if refusal else nullcontext():
            return datasets.load_dataset(repo, name=config.get("dataset_name"), split=split_of(config), **kwargs)
    # Unreachable, private, gone, of another layout, cut off.
    except (OSError, ValueError, RuntimeError, errors.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(
            f"task {task}: {repo} does not come from the hub ({refusal or one_line(error)}): with a network "
            f"`{fetch(config, f'DATA/{repo}')}`, then --data-root DATA"
        ) from error


@cache
def _refusal(repo: str, endpoint: str) -> str | None:
    """Why the hub does not give this data set, None when it does.

    Asked once: `datasets` tries an unreachable hub for 23 s, for each of a suite's tasks anew.
    """
    try:
        HfApi(endpoint=endpoint).dataset_info(repo, timeout=_PROBE_SECONDS)
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:
        return one_line(error) or type(error).__name__
    return None


@contextmanager
def _offline() -> Iterator[None]:
    """While open, `datasets` looks into its cache alone, and does not tell the hub that it opens local files."""
    online, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = online


def _from_folder(task: str, config: dict[str, Any], root: Path) -> Dataset:
    if not root.is_dir():
        raise UsageError(f"--data-root {root}: is no folder; expected one folder a data set, such as {root}/MMVP")
    repo = config["dataset_path"]
    places = _places(root, repo)
    data = _find(task, config, places)
    if data is not None:
        return data
    there = next((folder for folder in places if folder.is_dir()), None)
    names = " or ".join(_patterns(config))
    what = f"{there} has no {names}" if there else f"neither {places[0]} nor {places[1]} is there"
    raise UsageError(f"task {task}: {what}: fetch it with `{fetch(config, root / repo)}`")


def _places(root: Path, repo: str) -> list[Path]:
    """Folders in which a data set may lie: by its names, or as in the hub's cache, the current revision first."""
    places: list[Path] = []
    for name in [repo, "MMVP/MMVP"] if repo.endswith("/MMVP") else [repo]:
        owner, _, short = name.rpartition("/")
        places += [root / name, root / short, root / f"{owner}--{short}"]
        cached = root / f"datasets--{owner}--{short}"
        if (cached / "refs" / "main").is_file():
            places.append(cached / "snapshots" / (cached / "refs" / "main").read_text().strip())
        places += sorted(cached.glob("snapshots/*"))
    return list(dict.fromkeys(places))


def _find(task: str, config: dict[str, Any], places: Sequence[Path]) -> Dataset | None:
    for folder in places:
        if (folder / "Questions.csv").is_file():
            return mmvp_csv(folder)
        for pattern in _patterns(config):
            files = sorted(folder.glob(pattern))
            if files:
                return _parquet(task, config, folder, files)
    return None


def _patterns(config: dict[str, Any]) -> list[str]:
    name, split = config.get("dataset_name"), split_of(config)
    if (config["dataset_path"], split) in _FILES:
        return _FILES[config["dataset_path"], split]
    if name:
        return [f"{name}/{split}-*.parquet", f"data/{name}/{split}-*.parquet", f"{name}/{split}.parquet"]
    return [f"data/{split}-*.parquet", f"{split}-*.parquet", f"data/{split}.parquet", f"{split}.parquet"]


def _parquet(task: str, config: dict[str, Any], folder: Path, files: Sequence[Path]) -> Dataset:
    again = f"fetch it again with `{fetch(config, folder)}`"
    counts = {int(shard[1]) if (shard := _SHARD.search(file.name)) else None for file in files}
    if counts != {None} and counts != {len(files)}:
        raise UsageError(f"task {task}: {files[0].parent} has {len(files)} of the files {_like(files[0])}; {again}")
    try:
        # `datasets` keeps a copy under the files' paths and times of change, which rsync -a and tar leave as they
        # were: the name brings in what no copying can set.
        stats = [(file.stat().st_size, file.stat().st_ctime_ns) for file in files]
        name = f"files-{hashlib.sha256(repr(stats).encode()).hexdigest()[:16]}"
        with _offline():
            return datasets.load_dataset("parquet", name=name, data_files=[str(f) for f in files], split="train")
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(
            f"task {task}: {files[0]} cannot be read ({one_line(error.__cause__ or error)}); {again}"
        ) from error


def _like(file: Path) -> str:
    return re.sub(r"-\d{5}-of-", "-*-of-", file.name)


def mmvp_csv(folder: Path) -> Dataset:
    """MMVP as its authors publish it: Questions.csv beside `MMVP Images/1.jpg`, `2.jpg`, ..

    Four answers are known to be wrong there; they are corrected as in lmms-eval's copy (MMVP_CORRECTED).
    """
    needed = ("Index", "Question", "Options", "Correct Answer")
    try:
        with (folder / "Questions.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{folder / 'Questions.csv'}: cannot be read as UTF-8 CSV ({one_line(error)})") from error
    if not rows or any(name not in rows[0] for name in needed):
        raise UsageError(f"{folder / 'Questions.csv'}: expected the columns {', '.join(needed)} and at least one row")
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in needed}
    try:
        columns["Index"] = [int(value) for value in columns["Index"]]
    except (TypeError, ValueError):
        raise UsageError(f"{folder / 'Questions.csv'}: Index must be whole numbers from 1") from None
    columns["Correct Answer"] = [
        MMVP_CORRECTED.get(index, answer)
        for index, answer in zip(columns["Index"], columns["Correct Answer"], strict=True)
    ]
    images = [str(folder / "MMVP Images" / f"{index}.jpg") for index in columns["Index"]]
    text = datasets.Value("string")
    kinds = {"image": Image(decode=False), "Index": datasets.Value("int64")} | dict.fromkeys(needed[1:], text)
    features = Features(kinds)
    return Dataset.from_dict({"image": [{"bytes": None, "path": path} for path in images]} | columns, features=features)
