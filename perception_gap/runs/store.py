"""The run directory: atomic parts while it grows, merged files when it is whole.

    run.json  summary.json  samples.parquet  tokens.parquet  maps.safetensors  hidden.safetensors  parts/

A part is one batch: `parts/NAME.parquet` (rows) and `parts/NAME.safetensors` (arrays), each written aside and renamed,
the arrays last, with the checksums of both, so a part counts only when both are whole and as they were written. Rows
are found again by `key`, a hash of everything that decides them; a changed setting, model or image has another key and
never meets an old row. JSON files have their checksum in them, summary.json those of the tables (`checksums`).
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perception_gap.storage import checksums
from perception_gap.storage import intact
from perception_gap.runs import shapes
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.storage.files import check_declared, write_arrays, write_json, write_table
from perception_gap.storage.folders import claim
from perception_gap.geometry import TokenGeometry
from perception_gap.runs.paths import follows_teacher, own_data_root

SCHEMA_VERSION = 3
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


def open_part(path: Path) -> tuple[pa.Table, intact.Arrays]:
    """(rows, arrays, named "KEY/kind") of the part whose rows are in `path`. UsageError unless they are as written."""
    arrays = intact.Arrays(path.with_suffix(".safetensors"))
    content = path.read_bytes()
    if checksums.of_bytes(content) != arrays.facts.get("rows"):
        raise intact.damaged(path, intact.CHANGED)
    return pq.read_table(io.BytesIO(content)), arrays


def stored(parts: Path) -> tuple[dict[str, str], list[str]]:
    """(key of every row that lies whole in this folder of parts → name of its part, names of the damaged parts)."""
    found: dict[str, str] = {}
    damaged: list[str] = []
    for path in sorted(parts.glob("*.parquet")):
        if not path.with_suffix(".safetensors").exists():
            continue  # a kill came between the two
        try:
            rows, arrays = open_part(path)
            arrays.check()
        except (UsageError, OSError):
            damaged.append(path.stem)
            continue
        found |= dict.fromkeys(rows.column("key").to_pylist(), path.stem)
    return found, damaged


# What a run may hold before its run.json is written.
_OURS = ("parts", "data", "teacher")
_PART = re.compile(r"[0-9a-f]{32}(-\d+)?")  # the name of a part, where no second half says that it is one


def claim_run(folder: Path, made: str = "run.json") -> None:
    """Creates the folder of a run. UsageError where it cannot be written, or holds what is no run's."""
    claim(folder, made, lambda name: name in _OURS or name.endswith(".tmp"))


class Parts:
    """The growing half of a run directory; `schema` is that of its rows, `made` the file that says whose it is."""

    def __init__(
        self, folder: Path, *, fresh: bool = False, schema: pa.Schema = ROW_SCHEMA, made: str = "run.json"
    ) -> None:
        self.folder, self.schema = folder / "parts", schema
        self._known: dict[str, str] | None = None
        self._damaged: list[str] = []
        claim_run(folder, made)
        try:
            if fresh:
                self._forget()
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in [*folder.glob("*.tmp"), *self.folder.glob("*.tmp")]:
                if not _alive(leftover.suffixes[-2:-1]):
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"--out {folder}: cannot be written ({error.strerror}); choose a folder that you may write to"
            ) from None

    def _forget(self) -> None:
        """Removes all parts, and no file that is none."""
        files = [path for kind in ("parquet", "safetensors") for path in self.folder.glob(f"*.{kind}")]
        halves = Counter(path.stem for path in files)
        for path in files:
            if halves[path.stem] == 2 or _PART.fullmatch(path.stem):
                path.unlink()
        (self.folder / KEYS).unlink(missing_ok=True)

    def done(self) -> dict[str, str]:
        """key of every stored row → name of its part; a part with a missing or damaged half does not count.

        Read from disk once; what this object writes is added.
        """
        if self._known is None:
            self._known, self._damaged = stored(self.folder)
        return self._known

    def mend(self) -> str | None:
        """Removes the damaged parts, whose samples are then measured again; a line that says so, None without any."""
        self.done()
        for name in self._damaged:
            for kind in ("parquet", "safetensors"):
                (self.folder / f"{name}.{kind}").unlink(missing_ok=True)
        found, self._damaged = len(self._damaged), []
        if not found:
            return None
        return (
            f"{self.folder}: {found} part{'s are' if found > 1 else ' is'} damaged (checksum), or of an older "
            "gapcheck: their samples are measured again"
        )

    def write(self, rows: list[dict], arrays: dict[str, np.ndarray], name: str | None = None) -> None:
        """One batch; arrays are named "KEY/kind" after the row that they belong to, the part after the first row."""
        name = name or rows[0]["key"]
        check_declared(rows, self.schema.names)
        table = pa.Table.from_pylist([{k: row.get(k) for k in self.schema.names} for row in rows], schema=self.schema)
        checksum = write_table(self.folder / f"{name}.parquet", table)
        write_arrays(self.folder / f"{name}.safetensors", arrays, {"rows": checksum})
        kept = {key: part for key, part in self.done().items() if part != name}
        self._known = kept | {row["key"]: name for row in rows}

    def list_keys(self, keys: Sequence[str]) -> None:
        """Writes which rows the run will have, in their order (`stored_keys` reads that)."""
        write_json(self.folder / KEYS, {"keys": list(keys)})

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
                table, file = open_part(self.folder / f"{loaded}.parquet")
                rows = {row["key"]: row for row in table.to_pylist()}
                arrays = {}
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    owner, kind = name.rsplit("/", 1)
                    if kinds is None or kind in kinds:
                        arrays.setdefault(owner, {})[kind] = file[name]
            yield rows[key], arrays.get(key, {})


class Run:
    """A finished run directory, read-only. `Run.open` checks that it is whole and of this schema.

    named: folders that the user named, below which paths in the run are followed (see `run_paths`).
    """

    def __init__(self, path: Path, info: dict, summary: dict) -> None:
        self.path, self.info, self.summary = path, info, summary
        self.named: tuple[Path, ...] = ()
        sums = summary["files"]
        self.samples = intact.read_table(path / "samples.parquet")
        self.tokens = intact.read_table(path / "tokens.parquet")
        intact.columns(self.samples, {"sample_id": str}, path / "samples.parquet")
        self._by_id = self.samples.set_index("sample_id", drop=False)
        self._maps = intact.Arrays(path / "maps.safetensors", sums["maps.safetensors"])
        hidden = path / "hidden.safetensors"
        self._hidden = intact.Arrays(hidden, sums["hidden.safetensors"]) if hidden.exists() else None
        cut = path / "knockout.parquet"
        self.knockout = intact.read_table(cut) if info["settings"].get("knockout") else None

    @classmethod
    def open(cls, path: str | Path, named: Sequence[Path] = ()) -> Run:
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
        run.named = tuple(named)
        intact.columns(run.samples, shapes.SAMPLES, folder / "samples.parquet")
        intact.columns(run.tokens, shapes.TOKENS, folder / "tokens.parquet")
        intact.unique(run.samples, ["sample_id"], folder / "samples.parquet")
        if run.knockout is not None:
            intact.columns(run.knockout, shapes.KNOCKOUT, folder / "knockout.parquet")
            intact.unique(run.knockout, ["sample_id", "rows", "tokens"], folder / "knockout.parquet")
        intact.same(
            folder, {name: checksum for name, checksum in summary["files"].items() if name.endswith(".parquet")}
        )
        return run

    def row(self, sample_id: str) -> pd.Series:
        row = self._by_id.loc[sample_id]
        assert isinstance(row, pd.Series)  # ids are unique
        return row

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._by_id.index

    def map(self, sample_id: str, kind: str = "own") -> np.ndarray | None:
        """float32 [N] (`own`, `shared`) or [W, N] (`own_words`, `shared_words`), rows summing to 1; None if absent."""
        return self._maps.map(f"{sample_id}/{kind}")

    def sinks(self, sample_id: str) -> np.ndarray | None:
        """bool [N]: which image tokens are attention sinks (see `sinks`); None where undefined or not measured."""
        found = self.map(sample_id, "sinks")
        return None if found is None else found.astype(bool)

    def hidden(self, sample_id: str) -> np.ndarray | None:
        """float16 [W, D]: last hidden states of the words of the shared text (else the own one); None if absent."""
        name = f"{sample_id}/hidden"
        return self._hidden[name] if self._hidden and name in self._hidden else None

    def geometry(self, sample_id: str) -> TokenGeometry:
        return geometry_of(self.row(sample_id))

    def image_paths(self, sample_id: str) -> list[Path]:
        """Paths of the sample's images; stored relative to the run folder where they lie in or beside it."""
        return [self.path / p for p in self.row(sample_id)["images"]]

    def picture_folders(self) -> list[Path]:
        """Below which the pictures of its samples may be read."""
        return [self.path, *self.named, *own_data_root(self.path, self.info)]

    def teacher(self) -> Run | None:
        """The run of this run's teacher; None if it has none, UsageError if it is not where it was, or not followed."""
        return teacher_of(self.path, self.info, self.named)


def run_info(folder: Path) -> dict[str, Any]:
    """run.json of an analysis, finished or not. UsageError where it is damaged or of another schema."""
    info = intact.read_json(folder / "run.json")
    intact.known_schema(folder, info.get("schema_version"), SCHEMA_VERSION, "run", "gapcheck analyze")
    intact.require(info, shapes.RUN, folder / "run.json")
    return info


def teacher_of(folder: Path, info: Mapping[str, Any], named: Sequence[Path] = ()) -> Run | None:
    """The run of the teacher that `info`, the run.json in `folder`, names; as `Run.teacher`."""
    teacher = info.get("teacher")
    if teacher is None:
        return None
    where = Path(os.path.realpath(folder / teacher["path"]))
    if not follows_teacher(folder, info, named):
        raise UsageError(
            f"{folder}: the run of its teacher {teacher['name']} is said to be {where}, outside of this run, which was "
            "not made here; give that folder as a RUN too if you mean it"
        )
    if not (where / "run.json").exists():
        raise UsageError(
            f"{folder}: the run of its teacher {teacher['name']} is not in {where}, where it was; move it back there, "
            "or this run along with it, or analyze again with --teacher"
        )
    return Run.open(where, (*named, folder))


def read_keys(parts: Path) -> list[str]:
    """The keys that `list_keys` wrote. UsageError where there are none, or damaged ones."""
    found = intact.read_json(parts / KEYS)
    intact.require(found, {"keys": list, checksums.FIELD: str}, parts / KEYS)
    return found["keys"]


def stored_keys(folder: Path) -> list[str]:
    """Keys of the rows that the analysis in `folder` has stored, in the order of its samples.

    Without a whole keys.json (an older run has none) these are all rows in the parts; of several rows of one sample
    that of the latest part.
    """
    parts = folder / "parts"
    done, _ = stored(parts)
    try:
        return [key for key in read_keys(parts) if key in done]
    except UsageError:
        pass
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
