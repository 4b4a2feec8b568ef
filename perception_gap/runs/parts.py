"""The growing half of a run directory: atomic parts, each one batch, found again by the keys of their rows.

A part is `parts/NAME.parquet` (rows) and `parts/NAME.safetensors` (arrays), each written aside and renamed, the arrays
last, with the checksums of both, so a part counts only when both are whole and as they were written. Rows are found
again by `key`, a hash of everything that decides them; a changed setting, model or image has another key and never
meets an old row.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perception_gap.errors import DamagedError, GapcheckError, UsageError
from perception_gap.runs.schema import tables
from perception_gap.storage import checksums, intact
from perception_gap.storage.files import write_arrays, write_json, write_rows
from perception_gap.storage.folders import claim

KEYS = "keys.json"  # in parts/: the keys of the rows that the run will have, in their order


def _alive(suffix: list[str]) -> bool:
    """Whether the process that writes NAME.PID.tmp still runs."""
    try:
        os.kill(int(suffix[0].removeprefix(".")), 0)
    except (IndexError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


class Keys(intact.Sealed):
    """keys.json."""

    keys: intact.Sequence


def open_part(path: Path) -> tuple[pa.Table, intact.Arrays]:
    """(rows, arrays, named "KEY/kind") of the part in `path`. DamagedError unless they are as they were written."""
    arrays = intact.Arrays(path.with_suffix(".safetensors"))
    content = path.read_bytes()
    if checksums.of_bytes(content) != arrays.facts.get("rows"):
        raise intact.damaged(path, intact.CHANGED)
    return pq.read_table(io.BytesIO(content)), arrays


def stored(parts: Path) -> tuple[dict[str, str], list[str]]:
    """(key of every row that lies whole in this folder of parts → name of its part, names of the damaged parts)."""
    part_of: dict[str, str] = {}
    damaged: list[str] = []
    for path in sorted(parts.glob("*.parquet")):
        if not path.with_suffix(".safetensors").exists():
            continue  # a kill came between the two
        try:
            rows, arrays = open_part(path)
            arrays.require_intact()
        except (DamagedError, OSError):
            damaged.append(path.stem)
            continue
        part_of |= dict.fromkeys(rows.column("key").to_pylist(), path.stem)
    return part_of, damaged


# What a run may hold before its run.json is written.
_OURS = ("parts", "data", "teacher")
_PART = re.compile(r"[0-9a-f]{32}(-\d+)?")  # the name of a part, where no second half says that it is one


def claim_run(folder: Path, described_in: str = "run.json") -> None:
    """Creates the folder of a run. UsageError where it cannot be written, or holds what is no run's."""
    claim(folder, described_in, lambda name: name in _OURS or name.endswith(".tmp"))


class Parts:
    """The growing half of a run directory; `schema` is that of its rows, `described_in` says whose it is."""

    def __init__(
        self, folder: Path, *, fresh: bool = False, schema: pa.Schema = tables.ROW, described_in: str = "run.json"
    ) -> None:
        self.folder, self.schema = folder / "parts", schema
        self._known: dict[str, str] | None = None
        self._damaged: list[str] = []
        claim_run(folder, described_in)
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
        n_damaged, self._damaged = len(self._damaged), []
        if not n_damaged:
            return None
        return (
            f"{self.folder}: {n_damaged} part{'s are' if n_damaged > 1 else ' is'} damaged (checksum), or of an older "
            "gapcheck: their samples are measured again"
        )

    def write(self, rows: list[dict[str, Any]], arrays: dict[str, np.ndarray], name: str | None = None) -> None:
        """One batch; arrays are named "KEY/kind" after the row that they belong to, the part after the first row."""
        name = name or rows[0]["key"]
        checksum = write_rows(self.folder / f"{name}.parquet", rows, self.schema)
        write_arrays(self.folder / f"{name}.safetensors", arrays, {"rows": checksum})
        kept = {key: part for key, part in self.done().items() if part != name}
        self._known = kept | {row["key"]: name for row in rows}

    def list_keys(self, keys: Sequence[str]) -> None:
        """Writes which rows the run will have, in their order (`stored_keys` reads that)."""
        write_json(self.folder / KEYS, {"keys": list(keys)})

    def read(
        self, keys: list[str], kinds: Container[str] | None = None
    ) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """(row, arrays by kind) of the stored keys, in the order asked for; one part in memory at a time.

        kinds: the arrays wanted, all by default.
        """
        where = self.done()
        loaded: str | None = None
        rows: dict[str, dict[str, Any]] = {}
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


def read_keys(parts: Path) -> list[str]:
    """The keys that `list_keys` wrote. DamagedError where there are none, or damaged ones."""
    listed = intact.read_json(parts / KEYS)
    intact.require(listed, Keys, parts / KEYS)
    return list(listed["keys"])


def stored_keys(folder: Path) -> list[str]:
    """Keys of the rows that the analysis in `folder` has stored, in the order of its samples.

    Without a whole keys.json (an older run has none) these are all rows in the parts; of several rows of one sample
    that of the latest part.
    """
    parts = folder / "parts"
    done, _ = stored(parts)
    try:
        return [key for key in read_keys(parts) if key in done]
    except DamagedError:
        pass
    latest: dict[str, str] = {}
    files = [parts / f"{name}.parquet" for name in set(done.values())]
    for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        if {"key", "sample_id"} <= set(pq.read_schema(path).names):
            rows = pq.read_table(path, columns=["key", "sample_id"]).to_pylist()
            latest |= {row["sample_id"]: row["key"] for row in rows if done.get(row["key"]) == path.stem}
    return list(latest.values())
