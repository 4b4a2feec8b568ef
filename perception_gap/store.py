"""The run directory: atomic parts while it grows, merged files when it is whole.

    run.json  summary.json  samples.parquet  tokens.parquet  maps.safetensors  hidden.safetensors  parts/

A part is one batch: `parts/NAME.safetensors` (arrays) and `parts/NAME.parquet` (rows), each written aside and renamed,
the rows last, so a part counts only when both are whole. Rows are found again by `key`, a hash of everything that
decides them; a changed setting, model or image has another key and never meets an old row.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from perception_gap import intact, shapes
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.files import check_declared, write_arrays, write_table
from perception_gap.folders import claim
from perception_gap.geometry import TokenGeometry

SCHEMA_VERSION = 2
KEYS = "keys.json"  # in parts/: the keys of the rows that the run will have, in their order

_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_NUMBERS, _INTEGERS = pa.list_(pa.float64()), pa.list_(pa.int64())
ROW_SCHEMA = pa.schema({
    "key": _TEXT, "sample_id": _TEXT, "task": _TEXT, "pair": _TEXT, "cluster": _TEXT, "images": _TEXTS,
    "image_hash": _TEXT,
    "heights": _INTEGERS, "widths": _INTEGERS, "question": _TEXT, "reference": _TEXT, "options": _TEXTS,
    "boxes": _NUMBERS, "box_images": _INTEGERS, "status": _TEXT, "error": _TEXT, "answer": _TEXT,
    "correct": pa.bool_(), "shared_text": _TEXT, "n_image_tokens": pa.int64(), "grid_rows": pa.int64(),
    "grid_cols": pa.int64(), "token_boxes": _NUMBERS, "token_images": _INTEGERS, "own_words": _TEXTS,
    "own_categories": _TEXTS, "shared_words": _TEXTS, "shared_categories": _TEXTS, "text_image_mass": pa.float64(),
    "seconds": pa.float64(), "knockout_answers": _TEXTS,
})  # fmt: skip


def _alive(suffix: list[str]) -> bool:
    """Whether the process that writes NAME.PID.tmp still runs."""
    try:
        os.kill(int(suffix[0].removeprefix(".")), 0)
    except (IndexError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def stored(parts: Path) -> dict[str, str]:
    """key of every row that lies whole in this folder of parts → name of its part."""
    found: dict[str, str] = {}
    for path in sorted(parts.glob("*.parquet")):
        if not path.with_suffix(".safetensors").exists():
            continue
        try:
            keys = pq.read_table(path).column("key").to_pylist()
            with safe_open(path.with_suffix(".safetensors"), framework="numpy"):
                pass  # opening checks that the file is as long as its header says
        except (pa.ArrowInvalid, KeyError, OSError, SafetensorError):
            continue
        found |= dict.fromkeys(keys, path.stem)
    return found


# What a run may hold before its run.json is written.
_OURS = ("parts", "data", "teacher")


class Parts:
    """The growing half of a run directory; `schema` is that of its rows, `made` the file that says whose it is."""

    def __init__(
        self, folder: Path, *, fresh: bool = False, schema: pa.Schema = ROW_SCHEMA, made: str = "run.json"
    ) -> None:
        self.folder, self.schema = folder / "parts", schema
        claim(folder, made, lambda name: name in _OURS or name.endswith(".tmp"))
        try:
            if fresh and self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in [*folder.glob("*.tmp"), *self.folder.glob("*.tmp")]:
                if not _alive(leftover.suffixes[-2:-1]):
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"--out {folder}: cannot be written ({error.strerror}); choose a folder that you may write to"
            ) from None

    def done(self) -> dict[str, str]:
        """key of every stored row → name of its part; a part with a missing or broken half does not count."""
        return stored(self.folder)

    def write(self, rows: list[dict], arrays: dict[str, np.ndarray], name: str | None = None) -> None:
        """One batch; arrays are named "KEY/kind" after the row that they belong to, the part after the first row."""
        name = name or rows[0]["key"]
        check_declared(rows, self.schema.names)
        write_arrays(self.folder / f"{name}.safetensors", arrays)
        table = pa.Table.from_pylist(rows, schema=self.schema)
        write_table(self.folder / f"{name}.parquet", table)

    def read(self, keys: list[str], kinds: Container[str] | None = None) -> Iterator[tuple[dict, dict]]:
        """(row, arrays by kind) of the stored keys, in the order asked for; one part in memory at a time.

        kinds: the arrays wanted, all by default.
        """
        where = self.done()
        loaded: str | None = None
        rows: dict[str, dict] = {}
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for key in keys:
            if key not in where:
                raise GapcheckError(f"{self.folder}: rows of this run have vanished; repeat the command")
            if where[key] != loaded:
                loaded = where[key]
                rows = {r["key"]: r for r in pq.read_table(self.folder / f"{loaded}.parquet").to_pylist()}
                arrays = {}
                with safe_open(self.folder / f"{loaded}.safetensors", framework="numpy") as file:
                    for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                        owner, kind = name.rsplit("/", 1)
                        if kinds is None or kind in kinds:
                            arrays.setdefault(owner, {})[kind] = file.get_tensor(name)
            yield rows[key], arrays.get(key, {})


class Run:
    """A finished run directory, read-only. `Run.open` checks that it is whole and of this schema."""

    def __init__(self, path: Path, info: dict, summary: dict) -> None:
        self.path, self.info, self.summary = path, info, summary
        self.samples = intact.read_table(path / "samples.parquet")
        self.tokens = intact.read_table(path / "tokens.parquet")
        intact.columns(self.samples, {"sample_id": str}, path / "samples.parquet")
        self._by_id = self.samples.set_index("sample_id", drop=False)
        self._maps = intact.open_arrays(path / "maps.safetensors")
        self._map_names = set(self._maps.keys())
        hidden = path / "hidden.safetensors"
        self._hidden = intact.open_arrays(hidden) if hidden.exists() else None
        self._hidden_names = set(self._hidden.keys()) if self._hidden else set()
        cut = path / "knockout.parquet"
        self.knockout = intact.read_table(cut) if info["settings"].get("knockout") else None

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """UsageError when the folder is no run, unfinished or damaged, or was written by another schema version."""
        folder = Path(path)
        if not (folder / "run.json").exists():
            raise UsageError(
                f"{folder}: no run directory (run.json is missing); give the --out folder of `gapcheck analyze`"
            )
        info = run_info(folder)
        needed = ["summary.json", "samples.parquet", "tokens.parquet", "maps.safetensors"]
        needed += ["knockout.parquet"] * bool(info["settings"].get("knockout"))
        if missing := [name for name in needed if not (folder / name).exists()]:
            raise UsageError(
                f"{folder}: unfinished run ({missing[0]} is missing); the same analyze command finishes it"
            )
        summary = intact.read_json(folder / "summary.json")
        intact.require(summary, shapes.SUMMARY, folder / "summary.json")
        run = cls(folder, info, summary)
        intact.columns(run.samples, shapes.SAMPLES, folder / "samples.parquet")
        intact.columns(run.tokens, shapes.TOKENS, folder / "tokens.parquet")
        intact.unique(run.samples, ["sample_id"], folder / "samples.parquet")
        if run.knockout is not None:
            intact.columns(run.knockout, shapes.KNOCKOUT, folder / "knockout.parquet")
            intact.unique(run.knockout, ["sample_id", "rows", "tokens"], folder / "knockout.parquet")
        return run

    def row(self, sample_id: str) -> pd.Series:
        row = self._by_id.loc[sample_id]
        assert isinstance(row, pd.Series)  # ids are unique
        return row

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._by_id.index

    def map(self, sample_id: str, kind: str = "own") -> np.ndarray | None:
        """float32 [N] (`own`, `shared`) or [W, N] (`own_words`, `shared_words`), rows summing to 1; None if absent."""
        name = f"{sample_id}/{kind}"
        return self._maps.get_tensor(name) if name in self._map_names else None

    def sinks(self, sample_id: str) -> np.ndarray | None:
        """bool [N]: which image tokens are attention sinks (see `sinks`); None where undefined or not measured."""
        found = self.map(sample_id, "sinks")
        return None if found is None else found.astype(bool)

    def hidden(self, sample_id: str) -> np.ndarray | None:
        """float16 [W, D]: last hidden states of the words of the shared text (else the own one); None if absent."""
        name = f"{sample_id}/hidden"
        return self._hidden.get_tensor(name) if self._hidden and name in self._hidden_names else None

    def geometry(self, sample_id: str) -> TokenGeometry:
        return geometry_of(self.row(sample_id))

    def image_paths(self, sample_id: str) -> list[Path]:
        """Paths of the sample's images; stored relative to the run folder where they lie in or beside it."""
        return [self.path / p for p in self.row(sample_id)["images"]]

    def teacher(self) -> Run | None:
        """The run of this run's teacher; None if it has none, UsageError if it is not where it was."""
        return teacher_of(self.path, self.info)


def run_info(folder: Path) -> dict[str, Any]:
    """run.json of an analysis, finished or not. UsageError where it is damaged or of another schema."""
    info = intact.read_json(folder / "run.json")
    intact.known_schema(folder, info.get("schema_version"), SCHEMA_VERSION, "run", "gapcheck analyze")
    intact.require(info, shapes.RUN, folder / "run.json")
    return info


def teacher_of(folder: Path, info: Mapping[str, Any]) -> Run | None:
    """The run of the teacher that `info`, the run.json in `folder`, names; as `Run.teacher`."""
    teacher = info.get("teacher")
    if teacher is None:
        return None
    where = (folder / teacher["path"]).resolve()
    if not (where / "run.json").exists():
        raise UsageError(
            f"{folder}: the run of its teacher {teacher['name']} is not in {where}, where it was; move it back there, "
            "or this run along with it, or analyze again with --teacher"
        )
    return Run.open(where)


def stored_keys(folder: Path) -> list[str]:
    """Keys of the rows that the analysis in `folder` has stored, in the order of its samples.

    Without a whole keys.json (an older run has none) these are all rows in the parts; of several rows of one sample
    that of the latest part.
    """
    parts = folder / "parts"
    done = stored(parts)
    try:
        keys = json.loads((parts / KEYS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        keys = None
    if isinstance(keys, list):
        return [key for key in keys if isinstance(key, str) and key in done]
    latest: dict[str, str] = {}
    files = [parts / f"{name}.parquet" for name in set(done.values())]
    for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        if {"key", "sample_id"} <= set(pq.read_schema(path).names):
            rows = pq.read_table(path, columns=["key", "sample_id"]).to_pylist()
            latest |= {row["sample_id"]: row["key"] for row in rows if done.get(row["key"]) == path.stem}
    return list(latest.values())


def answered(row: Mapping | pd.Series, question: str, image_hash: str, options: Sequence[str]) -> bool:
    """Whether a run's row is a valid one of this very question: the same words, pictures and options."""
    same = row["question"] == question and row["image_hash"] == image_hash and list(row["options"]) == list(options)
    return bool(same and row["status"] == "ok")


def geometry_of(row: dict | pd.Series) -> TokenGeometry:
    """The TokenGeometry that a row describes: a whole-image grid by its shape, anything else by its rectangles."""
    if row["grid_rows"] is not None and not pd.isna(row["grid_rows"]):
        return TokenGeometry.grid(int(row["grid_rows"]), int(row["grid_cols"]))
    return TokenGeometry(np.asarray(list(row["token_boxes"])).reshape(-1, 4), np.asarray(list(row["token_images"])))


def geometry_fields(geometry: TokenGeometry) -> dict:
    """The row's fields that `geometry_of` reads."""
    if geometry.grid_shape:
        rows, cols = geometry.grid_shape
        return {"grid_rows": rows, "grid_cols": cols, "token_boxes": [], "token_images": []}
    boxes, images = geometry.boxes.ravel().tolist(), geometry.image.tolist()
    return {"grid_rows": None, "grid_cols": None, "token_boxes": boxes, "token_images": images}
