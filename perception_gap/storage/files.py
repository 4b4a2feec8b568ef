"""Files that appear whole or not at all, and a file of arrays that never lie in memory together."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import save_file

from perception_gap.errors import GapcheckError, UsageError, one_line
from perception_gap.storage import checksums
from perception_gap.storage.folders import make_folder


@contextmanager
def aside(path: Path, *, follow: bool = False) -> Iterator[Path]:
    """A file beside `path` to write; takes its place when all is written, and goes when it is not.

    A reader sees the old file or the whole new one. A link is replaced: in a folder of results, which somebody else may
    have filled, it could point to any file. follow: of a path that the user typed, a link stays, and what it points to
    is replaced; a device or pipe is written itself.
    """
    path = Path(os.path.realpath(path)) if follow and path.is_symlink() else path
    if follow and path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    make_folder(path.parent)
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path}: is a folder; expected the name of a file")
    partial = new_beside(path)
    try:
        with named_in_errors(path):
            yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def new_beside(path: Path) -> Path:
    """An empty file NAME.RANDOM.PID.tmp that was not there: nobody can have laid a link where it stands."""
    partial = path.with_name(f"{path.name[:50]}.{secrets.token_hex(6)}.{os.getpid()}.tmp")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return partial


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """A full disk, which neither pyarrow nor a write says the file of, is a GapcheckError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        reason = one_line(error.strerror or str(error))
        raise GapcheckError(f"{path}: cannot be written ({reason}); make room and repeat the command") from None


def write_text(path: Path, text: str, *, follow: bool = False) -> None:
    """Write aside, flush to disk, rename; follow: as `aside`. A byte of a name that is no UTF-8 is written \\udcXX."""
    with aside(path, follow=follow) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        if partial.is_file():
            os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """An object is written with its checksum (`intact.require` holds it against that)."""
    value = checksums.sealed(value) if isinstance(value, dict) else value
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_table(path: Path, table: pa.Table) -> str:
    """Returns the checksum of the file."""
    with aside(path) as partial:
        pq.write_table(table, partial, compression="zstd")
        return checksums.of_file(partial)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
    """Rows as a table of exactly this schema; what a row lacks is null. Returns the checksum of the file.

    ValueError for a field without a column.
    """
    check_declared(rows, schema.names)
    return write_table(path, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def write_frame(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> str:
    """A table of the columns that the frame has, each as the schema declares it. Returns the checksum of the file.

    ValueError for a column that it does not declare.
    """
    _check_names(set(frame.columns), schema.names)
    fields = pa.schema([schema.field(name) for name in frame.columns])
    return write_table(path, pa.Table.from_pandas(frame, schema=fields, preserve_index=False))


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table of exactly these columns, in their order; what a row lacks is undefined.

    ValueError for a field without a column.
    """
    check_declared(rows, columns)
    return pd.DataFrame(rows, columns=list(columns))


def check_declared(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """ValueError for a field without a column, which pandas and pyarrow would drop in silence."""
    _check_names({name for row in rows for name in row}, columns)


def _check_names(names: set[str], columns: Sequence[str]) -> None:
    if undeclared := names - set(columns):
        raise ValueError(f"no column for {', '.join(sorted(undeclared))}: declare it beside {', '.join(columns)}")


def write_arrays(path: Path, arrays: dict[str, np.ndarray], facts: dict[str, str] | None = None) -> None:
    """A safetensors file with the checksum of every array, and `facts`, in its metadata."""
    sums = {name: checksums.of_array(name, array) for name, array in arrays.items()}
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        with aside(path) as partial:
            save_file(whole, partial, metadata=checksums.metadata(sums) | (facts or {}))
    except SafetensorError as error:  # the library's own name for a full disk
        raise GapcheckError(f"{path}: cannot be written ({error}); make room and repeat the command") from None


class ArrayFile:
    """A safetensors file written array by array, so that a run's maps never lie in memory together."""

    _FLOATS: ClassVar[dict[str, str]] = {"float64": "F64", "float32": "F32", "float16": "F16"}
    _DTYPES: ClassVar[dict[str, str]] = {**_FLOATS, "int64": "I64", "uint8": "U8"}

    def __init__(self, path: Path) -> None:
        self.path, self._body_path = path, new_beside(path)
        self._body = self._body_path.open("wb")
        self._header: dict[str, dict[str, Any]] = {}
        self._sums: dict[str, str] = {}

    def add(self, name: str, array: np.ndarray) -> None:
        start = self._body.tell()
        self._sums[name] = checksums.of_array(name, array)
        with named_in_errors(self.path):
            self._body.write(np.ascontiguousarray(array).tobytes())
        self._header[name] = {
            "dtype": self._DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, self._body.tell()],
        }

    def close(self) -> str:
        """Header, then the body behind it; the file appears whole under its name. Returns `checksums.of_metadata`."""
        with named_in_errors(self.path):
            self._body.close()
        facts = checksums.metadata(self._sums)
        header = json.dumps({"__metadata__": facts, **self._header}).encode()
        header += b" " * (-len(header) % 8)
        with aside(self.path) as partial, partial.open("wb") as file, self._body_path.open("rb") as body:
            file.write(struct.pack("<Q", len(header)) + header)
            shutil.copyfileobj(body, file)
        self._body_path.unlink()
        return checksums.of_metadata(facts)
