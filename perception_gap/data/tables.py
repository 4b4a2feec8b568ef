"""Samples from Parquet files and folders, saved `datasets` and data sets of the hub, streamed through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perception_gap.data.jsonl import parse_samples
from perception_gap.data.reading import Reader, Reading
from perception_gap.errors import UsageError, one_line
from perception_gap.sample import Sample

HUB = "hub:"
_HUB_SPEC = "hub:OWNER/NAME[/CONFIG][:SPLIT]"
_PROBE_SECONDS = 10


def is_table(spec: str) -> bool:
    """Whether `read_table` is for it: hub:NAME, FILE.parquet, or a folder, with or without a split."""
    return spec.startswith(HUB) or spec.endswith(".parquet") or _folder(spec)[0].is_dir()


def read_table(spec: str, *, limit: int | None = None, reading: Reading | None = None) -> list[Sample]:
    """The first `limit` samples of FILE.parquet, FOLDER[:SPLIT] or hub:OWNER/NAME[/CONFIG][:SPLIT].

    Columns are the fields of JSON Lines (see `read_jsonl`); an image may also be an Image feature ({"bytes", "path"})
    or encoded bytes, which are then written into the folder of `reading.pictures`; numbers count as their text. One
    batch of rows is in memory at a time. UsageError for what cannot be opened, a split that has to be chosen, and rows
    as in `read_jsonl`.
    """
    folder, _ = _folder(spec)
    if spec.endswith(".parquet") and not spec.startswith(HUB) and not folder.exists():
        raise UsageError(f"data {spec}: no such file; expected a Parquet file or a folder")
    root = Path() if spec.startswith(HUB) else folder if folder.is_dir() else folder.parent
    reader = Reader(spec, root, reading, typed=True)
    return list(parse_samples(enumerate(_rows(spec), start=1), reader, limit, entry="row"))


def _folder(spec: str) -> tuple[Path, str | None]:
    """The path and the split of FOLDER[:SPLIT]; a path that exists as it is written has no split."""
    path, colon, split = spec.rpartition(":")
    return (Path(path), split) if colon and not Path(spec).exists() else (Path(spec), None)


def _rows(spec: str) -> Iterator[dict[str, Any]]:
    with _in_one_line(spec):
        opened, split = _opened(spec)
        # Pictures stay as they are stored: a damaged one fails its row, not the data set.
        yield from _one_split(spec, opened, split).decode(False)


def _opened(spec: str) -> tuple[Any, str | None]:
    """The data set or its splits by name, and the split that is asked for."""
    import datasets

    if spec.startswith(HUB):
        name, _, split = spec.removeprefix(HUB).partition(":")
        parts = name.split("/")
        if len(parts) > 3 or not all(parts):
            raise UsageError(f"data {spec}: expected {_HUB_SPEC}")
        # Offline only what lies in the cache can be had, and that not as a stream.
        stream = not datasets.config.HF_HUB_OFFLINE
        revision = _revision("/".join(parts[:2])) if stream else None
        opened = datasets.load_dataset("/".join(parts[:2]), *parts[2:], streaming=stream, revision=revision)
        return opened, split or None
    path, chosen = _folder(spec)
    if path.is_file():
        return datasets.load_dataset("parquet", data_files=[str(path)], streaming=True), None
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():  # of save_to_disk
        return datasets.load_from_disk(str(path)), chosen
    return datasets.load_dataset(str(path), streaming=True), chosen


def _one_split(spec: str, opened: Any, split: str | None) -> Any:
    """The asked split as a stream, or the only one."""
    if not isinstance(opened, dict):
        if split:
            raise UsageError(f"data {spec}: has no splits; leave :{split} out")
        chosen = opened
    elif split in opened or (split is None and len(opened) == 1):
        chosen = opened[split or next(iter(opened))]
    else:
        base = spec.removesuffix(f":{split}")
        raise UsageError(f"data {spec}: expected {' or '.join(f'{base}:{name}' for name in opened)}")
    return chosen.to_iterable_dataset() if hasattr(chosen, "to_iterable_dataset") else chosen


def _revision(name: str) -> str | None:
    """The commit of a data set on the hub, asked once: `datasets` would retry an unreachable hub for half a minute."""
    from huggingface_hub import HfApi, errors

    try:
        return HfApi().dataset_info(name, timeout=_PROBE_SECONDS).sha
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UsageError(
            f"data set {name!r} is not on the hub (or private: set HF_TOKEN): expected {_HUB_SPEC}"
        ) from None
    except (errors.HTTPError, OSError) as error:
        raise UsageError(
            f"data set {name!r}: the hub cannot be reached ({one_line(error, 100)}); download it and give the folder, "
            "or set HF_HUB_OFFLINE=1 if it is in the cache"
        ) from None


@contextmanager
def _in_one_line(spec: str) -> Iterator[None]:
    """What `datasets` and the libraries below it raise, as a UsageError."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ValueError, TypeError, DatasetsError, HTTPError, ArrowException) as error:
        reason = one_line(error, 200) or type(error).__name__
        raise UsageError(f"data {spec}: cannot be read through datasets ({reason})") from None
