"""Documents of a task: from the hub, from a folder, or drawn; pictures stay encoded until one is asked for."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features, Image, List

from perception_gap.datasets import decode_image, open_image
from perception_gap.errors import GapcheckError, UsageError

# Files that are not named after their split; on the hub a README says so.
_FILES = {
    ("Lin-Chen/MMStar", "val"): ["mmstar.parquet"],
    ("DreamMr/HR-Bench", "hrbench_4k"): ["hr_bench_4k.parquet"],
    ("DreamMr/HR-Bench", "hrbench_8k"): ["hr_bench_8k.parquet"],
}
# Keywords of lmms-eval's definitions that `datasets` refuses: a login that public data do not need, and V*'s category,
# which no Parquet file takes (`split_of` filters by it).
_REFUSED = ("token", "category")
# Answers that lmms-eval's copy of MMVP corrects (its issue 1018), by the CSV's Index.
MMVP_CORRECTED = {99: "(b)", 100: "(a)", 279: "(b)", 280: "(a)"}


class Docs:
    """A task's documents with strictly decoded pictures; `table` has the same rows with the pictures encoded.

    A document whose picture is missing, truncated or no image raises GapcheckError when it is asked for.
    """

    def __init__(self, table: Dataset) -> None:
        self.table = table
        self._pictures = [name for name, kind in table.features.items() if _holds_pictures(kind)]
        self._last: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index not in self._last:
            if len(self._last) >= 64:  # a batch is asked for twice: for its prompts and by the model
                self._last.clear()
            self._last[index] = self._decoded(index)
        return self._last[index]

    def _decoded(self, index: int) -> dict[str, Any]:
        doc = dict(self.table[index])
        for name in self._pictures:
            value = doc[name]
            doc[name] = [_picture(v, f"{name} {i}") for i, v in enumerate(value)] if isinstance(value, list) else (
                None if value is None else _picture(value, name)
            )  # fmt: skip
        if self._pictures and all(doc[name] is None or doc[name] == [] for name in self._pictures):
            raise GapcheckError(f"{', '.join(self._pictures)}: null; the row has no picture")
        return doc


def _picture(value: Any, name: str) -> Any:
    if value is None:
        raise GapcheckError(f"{name}: null; the row lacks a picture")
    if value.get("bytes") is not None:
        return decode_image(value["bytes"], name)
    return open_image(Path(value["path"]))


def _holds_pictures(kind: Any) -> bool:
    return isinstance(kind, Image) or (isinstance(kind, List) and isinstance(kind.feature, Image))


def open_docs(task: str, config: dict[str, Any], data_root: Path | None) -> Docs:
    """The documents that a task's definition names, from `data_root` or the hub.

    UsageError with the command that fetches them when they are not there.
    """
    table = _from_folder(task, config, data_root) if data_root else _from_hub(task, config)
    category = (config.get("dataset_kwargs") or {}).get("category")
    if category is not None:
        rows = [i for i, value in enumerate(table["category"]) if value == category]
        table = table.select(rows)
    table = undecoded(table)
    if config.get("process_docs"):
        table = undecoded(config["process_docs"](table))
    if not len(table):
        raise UsageError(f"task {task}: its data have no rows; expected at least one")
    return Docs(table)


def undecoded(table: Dataset) -> Dataset:
    """The same table, pictures as {"bytes", "path"}."""
    for name, kind in table.features.items():
        if isinstance(kind, Image):
            table = table.cast_column(name, Image(decode=False))
        elif _holds_pictures(kind):
            table = table.cast_column(name, List(Image(decode=False)))
    return table


def split_of(config: dict[str, Any]) -> str:
    """The split that lmms-eval evaluates."""
    return config.get("test_split") or config.get("validation_split") or "test"


def _from_hub(task: str, config: dict[str, Any]) -> Dataset:
    from huggingface_hub.errors import HfHubHTTPError

    kwargs = {k: v for k, v in (config.get("dataset_kwargs") or {}).items() if k not in _REFUSED}
    try:
        return datasets.load_dataset(
            config["dataset_path"], name=config.get("dataset_name"), split=split_of(config), **kwargs
        )
    except (OSError, ValueError, HfHubHTTPError, RuntimeError) as error:  # unreachable, private, gone, other layout
        folder = f"DATA/{config['dataset_path']}"
        raise UsageError(
            f"task {task}: {config['dataset_path']} does not come from the hub ({_one_line(error)}): with a network "
            f"`{fetch(config, folder)}`, then --data-root DATA"
        ) from error


def fetch(config: dict[str, Any], folder: str | Path) -> str:
    """The command that downloads a task's data into a folder."""
    return f"hf download {config['dataset_path']} --repo-type dataset --local-dir {folder}"


def _from_folder(task: str, config: dict[str, Any], root: Path) -> Dataset:
    if not root.is_dir():
        raise UsageError(f"--data-root {root}: is no folder; expected one folder a data set, such as {root}/MMVP")
    repo, name, split = config["dataset_path"], config.get("dataset_name"), split_of(config)
    owner, _, short = repo.rpartition("/")
    snapshots = sorted(root.glob(f"datasets--{owner}--{short}/snapshots/*"))
    folders = [root / repo, root / short, root / f"{owner}--{short}", *snapshots]
    if short == "MMVP":
        folders += [root / "MMVP" / "MMVP"]
    names = _FILES.get((repo, split)) or _patterns(name, split)
    for folder in folders:
        if (folder / "Questions.csv").is_file():
            return mmvp_csv(folder)
        for pattern in names:
            files = sorted(folder.glob(pattern))
            if files:
                return _parquet(task, files)
    there = next((folder for folder in folders if folder.is_dir()), None)
    what = f"{there} has no {' or '.join(names)}" if there else f"neither {folders[0]} nor {folders[1]} is there"
    raise UsageError(f"task {task}: {what}: fetch it with `{fetch(config, root / repo)}`")


def _patterns(name: str | None, split: str) -> list[str]:
    if name:
        return [f"{name}/{split}-*.parquet", f"data/{name}/{split}-*.parquet", f"{name}/{split}.parquet"]
    return [f"data/{split}-*.parquet", f"{split}-*.parquet", f"data/{split}.parquet", f"{split}.parquet"]


def _parquet(task: str, files: Sequence[Path]) -> Dataset:
    try:
        return datasets.load_dataset("parquet", data_files=[str(f) for f in files], split="train")
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetGenerationError) as error:
        reason = _one_line(error.__cause__ or error)
        raise UsageError(f"task {task}: {files[0]} cannot be read ({reason}); fetch it again") from error


def mmvp_csv(folder: Path) -> Dataset:
    """MMVP as its authors publish it: Questions.csv beside `MMVP Images/1.jpg`, `2.jpg`, ..

    Four answers are known to be wrong there; they are corrected as in lmms-eval's copy (MMVP_CORRECTED).
    """
    needed = ("Index", "Question", "Options", "Correct Answer")
    with (folder / "Questions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or any(name not in rows[0] for name in needed):
        raise UsageError(f"{folder / 'Questions.csv'}: expected the columns {', '.join(needed)} and at least one row")
    columns: dict[str, list] = {name: [row[name] for row in rows] for name in needed}
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
