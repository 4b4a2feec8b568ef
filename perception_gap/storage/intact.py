"""Files that others may have damaged: read, or said in one line that names the file, what is wrong and the remedy.

A JSON file is held against a `Document` (pydantic), a table against a pyarrow schema, whose NaN is null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError
from safetensors import SafetensorError, safe_open

from perception_gap.errors import DamagedError, one_line
from perception_gap.storage import checksums

CHANGED = "its checksum differs: something changed it after it was written"
REMEDY = "the command that made it writes it anew, with --fresh if need be"
FILES = "files.json"  # checksums of a folder's tables, where no summary.json has them
WHOLE = 2**26  # bytes; what is larger is checked array by array, as each is read
LARGEST = 1e300  # beyond it nothing that was measured lies, and arithmetic overflows
_EXPECTED = {  # pydantic's name of an error → what was expected
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
}


def damaged(path: Path, what: str, remedy: str = REMEDY) -> DamagedError:
    """The error to raise: `PATH: damaged (WHAT); REMEDY`."""
    return DamagedError(f"{path}: damaged ({what}); {remedy}")


def undefined(_: str) -> None:
    """NaN and Infinity of a JSON, which has neither: null."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. DamagedError where it cannot be read or is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=undefined)
    except UnicodeDecodeError:
        raise damaged(path, "its text is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not valid JSON: {one_line(error, 80)}") from None
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise damaged(path, "not valid JSON of keys and values")
    return content


def read_table(path: Path) -> pd.DataFrame:
    """A parquet file. DamagedError where it cannot be read."""
    try:
        return pd.read_parquet(path)
    # pyarrow's own errors are among the first two; pandas' notes in the file's metadata may be damaged in any way.
    except (ValueError, OSError, LookupError, TypeError) as error:
        raise damaged(path, f"not a whole parquet file: {one_line(error, 80)}") from None


def same(folder: Path, files: Mapping[str, str]) -> None:
    """DamagedError that names the first file of the folder with another checksum than in `files` (by name)."""
    for name, checksum in files.items():
        try:
            now = checksums.of_file(folder / name)
        except OSError as error:
            raise damaged(folder / name, f"cannot be read: {error.strerror}") from None
        if now != checksum:
            raise damaged(folder / name, CHANGED)


class Arrays:
    """A safetensors file of `write_arrays` or an `ArrayFile`, read array by array, each held against its checksum.

    facts: its metadata. checksum: what `ArrayFile.close` returned. DamagedError where the file is not whole, and for an
    array that is not as it was written; a file of up to WHOLE bytes is read at once.
    """

    def __init__(self, path: Path, checksum: str | None = None) -> None:
        self.path = path
        try:
            self._file = safe_open(path, framework="numpy")
            self.facts: dict[str, str] = self._file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise damaged(path, f"not a whole safetensors file: {one_line(error, 80)}") from None
        names = sorted(self._file.keys())
        sums = self.facts.get("arrays", "").split()
        if self.facts.get("names") != checksums.of_names(names) or len(sums) != len(names):
            raise damaged(path, CHANGED)
        self._sums = dict(zip(names, sums, strict=True))
        if checksum is not None and checksums.of_metadata(self.facts) != checksum:
            raise damaged(path, CHANGED)
        if path.stat().st_size <= WHOLE:
            self.require_intact()

    def require_intact(self) -> None:
        """DamagedError unless all arrays are as they were written."""
        for name in self._sums:
            self[name]

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def keys(self) -> list[str]:
        return list(self._sums)

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            array: np.ndarray = self._file.get_tensor(name)
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise damaged(self.path, f"{name} cannot be read: {one_line(error, 80)}") from None
        if checksums.of_array(name, array) != self._sums[name]:
            raise damaged(self.path, f"{name}: {CHANGED}")
        return array

    def map(self, name: str) -> np.ndarray | None:
        """An array of maps: finite and at least 0, or NaN in a whole row, which is undefined; None if absent."""
        if name not in self:
            return None
        array = self[name]
        defined = (np.isfinite(array) & (array >= 0)).all(-1)
        if not np.all(defined | np.isnan(array).all(-1)):
            raise damaged(self.path, f"{name} is no map: it has values below 0 or infinite ones")
        return array


def is_number(value: Any) -> bool:
    """Whether a value is a finite number of which arithmetic does not overflow."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and bool(-LARGEST < value < LARGEST)


def is_whole(value: Any) -> bool:
    return is_number(value) and bool(value == int(value))


def _expected(words: str, holds: Callable[[Any], bool]) -> PlainValidator:
    def validate(value: Any) -> Any:
        if not holds(value):
            raise PydanticCustomError("expected", words)
        return value

    return PlainValidator(validate)


# Values of JSON files: a finite number, a whole one, a text, any list, the two ends of an interval.
Number = Annotated[Any, _expected("a number", is_number)]
Whole = Annotated[Any, _expected("a whole number", is_whole)]
Text = Annotated[Any, _expected("text", lambda value: isinstance(value, str))]
Sequence = Annotated[Any, _expected("a list", lambda value: isinstance(value, list))]
Interval = Annotated[
    Any,
    _expected(
        "[a number, a number]",
        lambda value: isinstance(value, list) and len(value) == 2 and all(map(is_number, value)),
    ),
]


class Document(BaseModel):
    """An object in a JSON file; what it does not name may be there as well."""

    model_config = ConfigDict(extra="allow", strict=True)


class Sealed(Document):
    """A JSON file with its checksum in it (`files.write_json`)."""

    checksum: Text


def require(content: Mapping[str, Any], document: type[Document], path: Path) -> None:
    """DamagedError that names the dotted key where the object in `path` is no such document.

    An object with a checksum is held against it.
    """
    try:
        document.model_validate(content)
    except ValidationError as error:
        fault = min(error.errors(), key=lambda each: each["loc"] == (checksums.FIELD,))  # what else is wrong first
        at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])[1:]
        if fault["type"] == "missing":
            raise damaged(path, f"{at} is missing") from None
        expected = _EXPECTED.get(fault["type"], fault["msg"])
        raise damaged(path, f"{at} is {short(fault['input'])}, expected {expected}") from None
    if checksums.FIELD in content and not checksums.intact(content):
        raise damaged(path, CHANGED)


def columns(
    frame: pd.DataFrame,
    schema: pa.Schema,
    path: Path,
    *,
    line: str = "row",
    first: int = 1,
    remedy: str = REMEDY,
) -> None:
    """DamagedError that names the column, and the first row whose value is of another kind than the field's.

    line, first: what a row is called in the file, and the number of its first one.
    """
    for field in schema:
        expected, holds = _kind_of(field.type)
        expected += " or null" if field.nullable else ""
        if field.name not in frame:
            if not (field.metadata or {}).get(b"optional"):
                raise damaged(path, f"column {field.name} is missing, expected {expected}", remedy)
            continue
        values = frame[field.name]
        if _sound(values, field):
            continue
        for i, value in enumerate(values.tolist()):
            if not (field.nullable and is_null(value)) and not holds(value):
                reason = f"column {field.name}, {line} {i + first}: {short(value)}, expected {expected}"
                raise damaged(path, reason, remedy)


def is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _kind_of(kind: pa.DataType) -> tuple[str, Callable[[Any], bool]]:
    """(how messages call values of a type, whether a value is one)."""
    if pa.types.is_string(kind):
        return "text", lambda value: isinstance(value, str)
    if pa.types.is_boolean(kind):
        return (
            "true or false",
            lambda value: isinstance(value, bool | np.bool_) or (is_number(value) and value in (0, 1)),
        )
    if pa.types.is_list(kind):
        return "a list", lambda value: isinstance(value, list | np.ndarray)
    return ("a whole number", is_whole) if pa.types.is_integer(kind) else ("a number", is_number)


def _sound(values: pd.Series, field: pa.Field) -> bool:
    """Whether the column's type says already that every value fits; a large run has a million of them."""
    if isinstance(values.dtype, pd.StringDtype):
        return pa.types.is_string(field.type) and (field.nullable or not bool(values.isna().any()))
    if not pa.types.is_floating(field.type) or values.dtype.kind not in "iuf":
        return False
    known = values.dropna() if field.nullable else values
    return bool((known.abs() < LARGEST).all())


def unique(frame: pd.DataFrame, names: list[str], path: Path) -> None:
    """DamagedError that names the first row whose values of these columns stood before."""
    twice = frame.duplicated(names)
    if twice.any():
        row = frame[twice].iloc[0]
        raise damaged(path, f"two rows of {', '.join(f'{name} {short(row[name])}' for name in names)}")


def short(value: Any) -> str:
    """A value in a message: of a long one its beginning, of a list or object its length."""
    if is_null(value):
        return "null"
    if isinstance(value, dict | list | np.ndarray):  # whose own words may be endless
        return f"{'keys and values' if isinstance(value, dict) else 'a list'} of length {len(value)}"
    return one_line(repr(value), 40)
