"""The authors' own traces, LaViT-15k or what their extractor writes, as a trace directory of ours.

    data/metadata/lavit_15k_for_training.json   data/images/   data/features/vtop/   data/features/trajectories/

A signal whose file is not there is missing, and a note in the row's `error` says so; a file that is there but cannot
be read fails its row. The release has no boxes and no teacher's answer: the reference stands for it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lavit.traces.keys import PACKAGES
from lavit.traces.merge import merge
from lavit.traces.released_files import Tree, read_features
from lavit.traces.released_rows import Conversion, sample_of, trace_row
from lavit.traces.settings import TraceSettings
from lavit.traces.target import TOP_K
from perception_gap.data.images import Contents
from perception_gap.data.stream import Entry, stream_entries
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.runs.engine import Arrays, Engine, open_parts, writing
from perception_gap.runs.key import key_of, provenance
from perception_gap.runs.parts import Parts
from perception_gap.runs.schema import tables
from perception_gap.runs.schema.versions import TRACE
from perception_gap.sample import Sample
from perception_gap.storage.files import write_json

TEACHER = "Qwen/Qwen2.5-VL-32B-Instruct (released LaViT-15k)"
WIDTH = 5120  # that teacher's; used where no file says it
BATCH = 64


def convert(
    source: Path,
    out: Path,
    *,
    image_root: Path | None = None,
    teacher: str = TEACHER,
    pooling: str = "mean",
    top_k: int = TOP_K,
    limit: int | None = None,
    fresh: bool = False,
    progress: bool = True,
    command: str = "",
) -> dict[str, Any]:
    """Writes OUT as `gapcheck trace` would and returns trace.json, whose `notes` count what the signals lack.

    source: the training JSON, the metadata JSON, or the extractor's trajectories.json or .jsonl. teacher: a label.
    Kept is what has an answer and a readable picture and was not found wrong by the release's own validation. The
    same call finishes what a killed one left.

    UsageError for a source that is malformed or empty, and if no kept sample has any signal.
    """
    if not source.is_file():
        raise UsageError(f"{source}: {'a folder' if source.is_dir() else 'no such file'}; expected the release's JSON")
    tree, settings = Tree(source, image_root), TraceSettings(filters=(), v_sem=pooling, top_k=top_k)
    width = _width(tree, limit)
    with writing(out, "trace.json"):
        return _convert(Conversion(tree, out, settings, width, limit), teacher, fresh, progress, command)


def _convert(job: Conversion, teacher: str, fresh: bool, progress: bool, command: str) -> dict[str, Any]:
    out, source = job.out, job.tree.source
    parts = open_parts(out, fresh=fresh, schema=tables.TRACE_PART, described_in="trace.json")
    (out / "traces.parquet").unlink(missing_ok=True)  # an unfinished conversion must not show older traces
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    info = provenance(TRACE.version, command, *PACKAGES) | {
        "teacher": {"name": teacher, "revision": None, "width": job.width, "v_sem": "taken before the final norm"},
        "settings": asdict(job.settings),
        "data": {"spec": f"lavit15k:{source}", "hash": digest},
    }
    write_json(out / "trace.json", info)
    keys = _store(job, parts, progress)
    if not keys:
        raise UsageError(f"{source}: holds no samples: expected at least one")
    info["data"]["n"] = len(keys)
    return _finish(job.tree, out, keys, parts, info)


def _finish(tree: Tree, out: Path, keys: list[str], parts: Parts, info: dict[str, Any]) -> dict[str, Any]:
    notes: Counter[str] = Counter()
    usable = taught = 0
    for row, arrays in parts.read(keys):
        if row["correct"] is not None:  # the file has verdicts: then they count
            info["settings"]["filters"] = ["correctness"]
        if row["status"] == "ok" and row["correct"] is not False:
            usable += 1
            taught += bool(arrays) or row["gaze_index"] is not None
            notes.update(row["error"].split("; ") if row["error"] else [])
    if usable and not taught:
        record = next(_entries(tree, 1)).value
        raise UsageError(
            f"{tree.source}: none of its samples has a V_top or trajectory file; the first would be "
            f"{tree.v_top(record)}; keep metadata/, features/ and images/ of the release in one folder"
        )
    info["notes"] = dict(notes)
    return merge(out, keys, parts, info, {})


def _entries(tree: Tree, limit: int | None) -> Iterator[Entry]:
    """The samples in the order of the file; the extractor's JSON Lines open with an entry about themselves."""
    field = None if tree.source.suffix == ".jsonl" else "results"
    samples = (entry for entry in stream_entries(tree.source, field) if entry.value.get("type") != "metadata")
    return islice(samples, limit)


def _width(tree: Tree, limit: int | None) -> int:
    """That of the first V_top that can be read."""
    for entry in _entries(tree, limit):
        path = tree.v_top(entry.value)
        if os.path.isfile(path):
            try:
                return read_features(path).shape[1]
            except GapcheckError:
                continue  # its row will say so
    return WIDTH


@dataclass(frozen=True)
class Record:
    """One entry of the file. again: whether an entry before it has the same id."""

    entry: Entry
    sample: Sample
    images: str
    key: str
    again: bool


def _records(job: Conversion) -> Iterator[Record]:
    ids: set[str] = set()
    for entry in _entries(job.tree, job.limit):
        sample = sample_of(job.tree, entry)
        images = Contents.of(sample.images).hash
        yield Record(entry, sample, images, _key(job, entry, images), sample.id in ids)
        ids.add(sample.id)


def _store(job: Conversion, parts: Parts, progress: bool) -> list[str]:
    """Every row that is not stored yet, batch by batch; the keys of all, in order."""

    def process(records: Sequence[Record]) -> tuple[list[dict[str, Any]], Arrays]:
        rows: list[dict[str, Any]] = []
        arrays: Arrays = {}
        for record in records:
            row, signals = trace_row(job, record.entry, record.sample, record.images, record.key, again=record.again)
            rows.append(row)
            arrays |= signals
        return rows, arrays

    label = job.tree.source.name if progress else None
    engine: Engine[Record] = Engine(parts, lambda record: record.key, process, BATCH, label)
    return [key for key in engine.run(_records(job)) if key is not None]


def _key(job: Conversion, entry: Entry, images: str) -> str:
    """Hash of everything that decides a row; of feature files, which are large, the size and time."""
    files = []
    for path in (job.tree.v_top(entry.value), job.tree.trajectory(entry.value)):
        stat = os.stat(path) if os.path.isfile(path) else None
        files.append([str(path), stat and [stat.st_size, stat.st_mtime_ns]])
    decided = [TRACE.version, "released", entry.number, entry.value, images, files, asdict(job.settings), job.width]
    return key_of(*decided)
