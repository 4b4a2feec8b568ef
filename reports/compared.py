"""A comparison as a source of reports: the directory that `gapcheck compare` wrote, with the runs of its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from perception_gap.errors import DamagedError
from perception_gap.runs.paths import follows_teacher, is_below
from perception_gap.runs.run import Run, run_info
from perception_gap.runs.schema import comparison, tables
from perception_gap.runs.schema.versions import COMPARISON
from perception_gap.storage import intact
from reports.names import labels, short_name

ENDS = ("first", "second")  # the two models of a pair


@dataclass(frozen=True)
class CompareRun:
    """Models side by side on one text. `members`: name -> its run, in the order of compare.json, a teacher first.

    pairs: a row a pair of models and sample; words: a row a pair and word (`perception_gap.compare.pairs`).
    missing: models that were compared, and whose run is gone since.
    """

    path: Path
    info: Mapping[str, Any]
    summary: Mapping[str, Any]
    members: Mapping[str, Run]
    pairs: pd.DataFrame
    words: pd.DataFrame
    missing: tuple[str, ...]

    @property
    def failed(self) -> Mapping[str, str]:
        """Model -> the reason why it was not measured."""
        return self.summary["failed"]

    @property
    def teacher(self) -> Run | None:
        """Whose answers all were read on; None without one, and where its run is gone."""
        teacher = self.info["teacher"]
        return self.members.get(teacher["name"]) if teacher else None

    @property
    def students(self) -> list[Run]:
        """The members but for the teacher."""
        return [run for run in self.members.values() if run is not self.teacher]

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Every compared model -> what figures and tables call it, each once."""
        names = dict(zip(self.members, labels(list(self.members.values())), strict=True))
        return names | {name: short_name(name) for name in self.missing}

    def pair(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """What the two models of a row of summary["pairs"] are called."""
        return self.labels[row["first"]], self.labels[row["second"]]

    @property
    def absent(self) -> list[str]:
        """A line for every model that is not in the comparison, and for every one whose run cannot be shown."""
        return [f"{self.path}: {name} was not measured: {reason}" for name, reason in self.failed.items()] + [
            f"{self.path}: the run of {name} is gone; its samples cannot be shown" for name in self.missing
        ]


class Growing(NamedTuple):
    """A comparison that has not come to its end: compare.json, and what it lacks."""

    info: Mapping[str, Any]
    words: str


def open_comparison(folder: Path, named: Sequence[Path] = ()) -> CompareRun | Growing:
    """What the folder, which has a compare.json, holds. DamagedError for a damaged one and for another schema.

    named: folders that the user named, below which paths in it are followed (see `runs.paths`).
    """
    info = intact.read_json(folder / "compare.json")
    COMPARISON.require_version(folder, info)
    intact.require(info, comparison.ComparisonInfo, folder / "compare.json")
    places = {info["teacher"]["name"]: folder / info["teacher"]["path"]} if info["teacher"] else {}
    if info["teacher"] and not follows_teacher(folder, info, named):
        raise DamagedError(
            f"{folder}: its teacher's run is said to be {info['teacher']['path']}, outside of this comparison, which "
            "was not made here; give that folder as a RUN too if you mean it"
        )
    for name, below in info["models"].items():
        if not is_below(folder / below, [folder]):
            raise intact.damaged(folder / "compare.json", f"models.{name} is a folder outside of this one")
    places |= {name: folder / below for name, below in info["models"].items()}
    summary = _summary(folder, set(places))
    hashes = dict.fromkeys(info["models"], info["data"]["hash"])  # the teacher's run may hold more data
    lacking = [name for name, place in places.items() if _unmeasured(place, hashes.get(name), summary)]
    if summary is None or set(lacking) - set(summary["failed"]):
        return Growing(info, _words(list(places), lacking))
    measured = {name: place for name, place in places.items() if name not in summary["failed"]}
    gone = tuple(name for name, place in measured.items() if not (place / "run.json").is_file())
    members = {name: Run.open(place, (*named, folder)) for name, place in measured.items() if name not in gone}
    pairs = _table(folder / "pairs.parquet", tables.pairs())
    words = _table(folder / "words.parquet", tables.pair_words())
    intact.same(folder, summary["files"])
    return CompareRun(folder, info, summary, members, pairs, words, gone)


def _table(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Without columns where no two models have a sample in common."""
    table = intact.read_table(path)
    intact.columns(table, schema if len(table) else pa.schema([]), path)
    return table


def _summary(folder: Path, names: set[str]) -> Mapping[str, Any] | None:
    """summary.json; None where there is none yet, or only the one of before compare.json named these models."""
    path = folder / "summary.json"
    if not all((folder / file).exists() for file in ("summary.json", "pairs.parquet", "words.parquet")):
        return None
    summary = intact.read_json(path)
    intact.require(summary, comparison.ComparisonSummary, path)
    known = [row["name"] for row in summary["models"]]
    if summary["baseline"] not in known or any(pair[end] not in known for pair in summary["pairs"] for end in ENDS):
        raise intact.damaged(path, "a pair or the baseline names a model that is not among its models")
    return summary if {*known, *summary["failed"]} == names else None


def _unmeasured(place: Path, data_hash: str | None, summary: Mapping[str, Any] | None) -> bool:
    """Whether a model's own run is not whole, or (data_hash) one of other data, which the command has not got to yet.

    A run that is gone since it was compared is not: what was compared stands.
    """
    if not (place / "run.json").is_file():
        return summary is None
    if not (place / "summary.json").is_file():
        return True
    return data_hash not in (None, run_info(place)["data"]["hash"])


def _words(names: list[str], lacking: list[str]) -> str:
    measured = f"{len(names) - len(lacking)} of {len(names)} models are measured"
    return measured + (f", not yet {', '.join(lacking)}" if lacking else ", and not yet compared with each other")
