"""A finished run directory, read-only.

    run.json  summary.json  samples.parquet  words.parquet  maps.safetensors  hidden.safetensors  parts/

JSON files have their checksum in them, summary.json those of the tables (`checksums`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perception_gap.errors import DamagedError
from perception_gap.geometry import TokenGeometry
from perception_gap.runs.paths import follows_teacher, own_data_root
from perception_gap.runs.rows import geometry_of
from perception_gap.runs.schema import analysis, tables
from perception_gap.runs.schema.versions import RUN
from perception_gap.storage import intact


class Run:
    """A finished run directory, read-only. `Run.open` checks that it is whole and of this schema.

    named: folders that the user named, below which paths in the run are followed (see `runs.paths`).
    """

    def __init__(self, path: Path, info: dict[str, Any], summary: dict[str, Any]) -> None:
        self.path, self.info, self.summary = path, info, summary
        self.named: tuple[Path, ...] = ()
        sums = summary["files"]
        self.samples = intact.read_table(path / "samples.parquet")
        self.words = intact.read_table(path / "words.parquet")
        if "sample_id" not in self.samples:
            raise intact.damaged(path / "samples.parquet", "column sample_id is missing, expected text")
        self._by_id = self.samples.set_index("sample_id", drop=False)
        self._maps = intact.Arrays(path / "maps.safetensors", sums["maps.safetensors"])
        hidden = path / "hidden.safetensors"
        self._hidden = intact.Arrays(hidden, sums["hidden.safetensors"]) if hidden.exists() else None
        cut = path / "knockout.parquet"
        self.knockout = intact.read_table(cut) if info["settings"].get("knockout") else None

    @classmethod
    def open(cls, path: str | Path, named: Sequence[Path] = ()) -> Run:
        """DamagedError when the folder is no run, unfinished or damaged, or was written by another schema version."""
        folder = Path(path)
        if not (folder / "run.json").exists():
            raise DamagedError(
                f"{folder}: no run directory (run.json is missing); give the --out folder of `gapcheck analyze`"
            )
        info = run_info(folder)
        needed = ["summary.json", "samples.parquet", "words.parquet", "maps.safetensors"]
        needed += ["knockout.parquet"] * bool(info["settings"].get("knockout"))
        if missing := [name for name in needed if not (folder / name).exists()]:
            raise DamagedError(
                f"{folder}: unfinished run ({missing[0]} is missing); the same analyze command finishes it"
            )
        summary = intact.read_json(folder / "summary.json")
        intact.require(summary, analysis.summary(), folder / "summary.json")
        run = cls(folder, info, summary)
        run.named = tuple(named)
        intact.columns(run.samples, tables.samples(), folder / "samples.parquet")
        intact.columns(run.words, tables.words(), folder / "words.parquet")
        intact.unique(run.samples, ["sample_id"], folder / "samples.parquet")
        if run.knockout is not None:
            intact.columns(run.knockout, tables.KNOCKOUT, folder / "knockout.parquet")
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
        sinks = self.map(sample_id, "sinks")
        return None if sinks is None else sinks.astype(bool)

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
        """The teacher's run; None if it has none, DamagedError if it is not where it was, or not followed."""
        return teacher_of(self.path, self.info, self.named)


def run_info(folder: Path) -> dict[str, Any]:
    """run.json of an analysis, finished or not. DamagedError where it is damaged or of another schema."""
    info = intact.read_json(folder / "run.json")
    RUN.require_version(folder, info)
    intact.require(info, analysis.RunInfo, folder / "run.json")
    return info


def teacher_of(folder: Path, info: Mapping[str, Any], named: Sequence[Path] = ()) -> Run | None:
    """The run of the teacher that `info`, the run.json in `folder`, names; as `Run.teacher`."""
    teacher = info.get("teacher")
    if teacher is None:
        return None
    where = Path(os.path.realpath(folder / teacher["path"]))
    if not follows_teacher(folder, info, named):
        raise DamagedError(
            f"{folder}: the run of its teacher {teacher['name']} is said to be {where}, outside of this run, which was "
            "not made here; give that folder as a RUN too if you mean it"
        )
    if not (where / "run.json").exists():
        raise DamagedError(
            f"{folder}: the run of its teacher {teacher['name']} is not in {where}, where it was; move it back there, "
            "or this run along with it, or analyze again with --teacher"
        )
    return Run.open(where, (*named, folder))
