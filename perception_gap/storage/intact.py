"""Files that others may have damaged: read, or said in one line that names the file, what is wrong and the remedy.

A shape says what has to be there. A type is a value of it: `float` any finite number, `int` a whole one, `list` any
list; `(X, None)` is X or null; `[X, Y]` a list of two; a mapping has these keys, "*" for every key that there is; a "?"
behind a key says that it may be missing. Columns of a table have shapes of values, and NaN is their null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from perception_gap.errors import UsageError, one_line
from perception_gap.storage import checksums

CHANGED = "its checksum differs: something changed it after it was written"
REMEDY = "the command that made it writes it anew, with --fresh if need be"
FILES = "files.json"  # checksums of a folder's tables, where no summary.json has them
WHOLE = 2**26  # bytes; what is larger is checked array by array, as each is read
LARGEST = 1e300  # beyond it nothing that was measured lies, and arithmetic overflows
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", Mapping: "keys"}


def damaged(path: Path, what: str, remedy: str = REMEDY) -> UsageError:
    """The error to raise: `PATH: damaged (WHAT); REMEDY`."""
    return UsageError(f"{path}: damaged ({what}); {remedy}")


def undefined(_: str) -> None:
    """NaN and Infinity of a JSON, which has neither: null."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. UsageError where it cannot be read or is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=undefined)
    except UnicodeDecodeError:
        raise damaged(path, "its text is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not valid JSON: {one_line(error, 80)}") from None
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}") from None
    if not isinstance(found, dict):
        raise damaged(path, "not valid JSON of keys and values")
    return found


def read_table(path: Path) -> pd.DataFrame:
    """A parquet file. UsageError where it cannot be read."""
    try:
        return pd.read_parquet(path)
    # pyarrow's own errors are among the first two; pandas' notes in the file's metadata may be damaged in any way.
    except (ValueError, OSError, LookupError, TypeError) as error:
        raise damaged(path, f"not a whole parquet file: {one_line(error, 80)}") from None


def same(folder: Path, files: Mapping[str, str]) -> None:
    """UsageError that names the first file of the folder with another checksum than in `files` (by name)."""
    for name, checksum in files.items():
        try:
            now = checksums.of_file(folder / name)
        except OSError as error:
            raise damaged(folder / name, f"cannot be read: {error.strerror}") from None
        if now != checksum:
            raise damaged(folder / name, CHANGED)


class Arrays:
    """A safetensors file of `write_arrays` or an `ArrayFile`, read array by array, each held against its checksum.

    facts: its metadata. checksum: what `ArrayFile.close` returned. UsageError where the file is not whole, and for an
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
            self.check()

    def check(self) -> None:
        """UsageError unless all arrays are as they were written."""
        for name in self._sums:
            self[name]

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def keys(self) -> list[str]:
        return list(self._sums)

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            array = self._file.get_tensor(name)
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


def require(found: Mapping[str, Any], shape: Mapping[str, Any], path: Path, at: str = "") -> None:
    """UsageError that names the dotted key where `found`, the object in `path` or below `at` in it, has another shape.

    What the shape does not name may be there as well. An object with a checksum is held against it.
    """
    for name, wanted in shape.items():
        key = name.removesuffix("?")
        if name == "*":
            for each in found:
                _value(found[each], wanted, path, f"{at}{each}")
        elif key in found:
            _value(found[key], wanted, path, f"{at}{key}")
        elif key == name:
            raise damaged(path, f"{at}{key} is missing, expected {_said(wanted)}")
    if not at and checksums.FIELD in found and not checksums.intact(found):
        raise damaged(path, CHANGED)


def _value(value: Any, wanted: Any, path: Path, at: str) -> None:
    inner = wanted[0] if isinstance(wanted, tuple) else wanted
    if isinstance(inner, Mapping) and isinstance(value, dict):
        require(value, inner, path, f"{at}.")
    elif not fits(value, wanted):
        raise damaged(path, f"{at} is {_short(value)}, expected {_said(wanted)}")


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value has the shape; a mapping is only ever null here, as `require` looks into it."""
    if isinstance(wanted, tuple):
        return value is None or (isinstance(value, float) and value != value) or fits(value, wanted[0])
    if isinstance(wanted, list):
        return isinstance(value, list) and len(value) == len(wanted) and all(map(fits, value, wanted))
    if wanted in (int, float):
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        return number and bool(-LARGEST < value < LARGEST) and (wanted is float or value == int(value))
    if wanted is bool:
        return isinstance(value, bool | np.bool_) or (fits(value, float) and value in (0, 1))
    if isinstance(wanted, Mapping):
        return False
    return isinstance(value, list | np.ndarray if wanted is list else wanted)


def columns(
    frame: pd.DataFrame, shape: Mapping[str, Any], path: Path, *,
    line: str = "row", first: int = 1, remedy: str = REMEDY,
) -> None:  # fmt: skip
    """UsageError that names the column, and the first row whose value is of another shape.

    line, first: what a row is called in the file, and the number of its first one.
    """
    for name, wanted in shape.items():
        key = name.removesuffix("?")
        if key not in frame:
            if key == name:
                raise damaged(path, f"column {key} is missing, expected {_said(wanted)}", remedy)
            continue
        values = frame[key]
        if _sound(values, wanted):
            continue
        for i, value in enumerate(values.tolist()):
            if not fits(value, wanted):
                raise damaged(
                    path, f"column {key}, {line} {i + first}: {_short(value)}, expected {_said(wanted)}", remedy
                )  # fmt: skip


def _sound(values: pd.Series, wanted: Any) -> bool:
    """Whether the column's type says already that every value fits; a large run has a million of them."""
    inner = wanted[0] if isinstance(wanted, tuple) else wanted
    if isinstance(values.dtype, pd.StringDtype):
        return inner is str and (isinstance(wanted, tuple) or not values.isna().any())
    if inner is not float or values.dtype.kind not in "iuf":
        return False
    known = values.dropna() if isinstance(wanted, tuple) else values
    return bool((known.abs() < LARGEST).all())


def unique(frame: pd.DataFrame, names: list[str], path: Path) -> None:
    """UsageError that names the first row whose values of these columns stood before."""
    twice = frame.duplicated(names)
    if twice.any():
        row = frame[twice].iloc[0]
        raise damaged(path, f"two rows of {', '.join(f'{name} {_short(row[name])}' for name in names)}")


def known_schema(path: Path, version: Any, known: int, what: str, again: str) -> None:
    """UsageError where the folder was written in another schema of `what`; `again` is the command that writes it."""
    if version == known and isinstance(version, int) and not isinstance(version, bool):
        return
    newer = isinstance(version, int) and version > known
    remedy = "that is a newer one: upgrade this gapcheck" if newer else f"run `{again}` again"
    raise UsageError(f"{path}: written in {what} schema {_short(version)}, this gapcheck reads {known}; {remedy}")


def _said(wanted: Any) -> str:
    if isinstance(wanted, tuple):
        return f"{_said(wanted[0])} or null"
    if isinstance(wanted, list):
        return f"[{', '.join(map(_said, wanted))}]"
    return "keys and values" if isinstance(wanted, Mapping) else _WORDS[wanted]


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "null"
    if isinstance(value, dict | list | np.ndarray):  # whose own words may be endless
        return f"{'keys and values' if isinstance(value, dict) else 'a list'} of length {len(value)}"
    return one_line(repr(value), 40)
