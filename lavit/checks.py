"""What can be known before a training starts: its traces, their pictures, and what its folder holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lavit import manifest
from lavit.options import TrainOptions
from lavit.resume import FILES, FOLDERS, LOG, MODEL, MODEL_WRITING, RECORD, WRITING, checkpoints
from lavit.settings import TrainSettings
from lavit.traces import Traces
from perception_gap.data.images import Contents
from perception_gap.errors import UsageError
from perception_gap.storage import intact
from perception_gap.storage.folders import LOCK, claim


class Decided(intact.Document):
    """What decides a training: the fields of train.json that two runs of one folder must agree in."""

    preset: intact.Text
    student: dict[str, Any]
    traces: dict[str, Any]
    settings: dict[str, Any]


_NAMED = 8  # names of files that --fresh keeps


def check_enough(traces: Traces, settings: TrainSettings) -> None:
    """UsageError unless the traces fill one step."""
    if len(traces) < settings.batch_size:
        raise UsageError(
            f"traces {traces.path}: {len(traces)} kept, fewer than the {settings.batch_size} of one step; extract "
            "more, or --set batch_size=.."
        )


def check_images(traces: Traces) -> None:
    """UsageError that counts the pictures which are no longer there, or no longer those that were traced."""
    gone, other = [], []
    for i in range(len(traces)):
        trace = traces[i]
        lost = [path for path in trace.sample.images if not path.is_file()]
        gone += lost
        if not lost and trace.image_hash and Contents.of(trace.sample.images).hash != trace.image_hash:
            other.append(trace.sample.images[0])
    if gone:
        raise UsageError(f"traces {traces.path}: {len(gone)} images are missing, the first {gone[0]}; put them back")
    if other:
        raise UsageError(
            f"traces {traces.path}: {len(other)} images have changed since they were traced, the first {other[0]}; put "
            "them back, or extract the traces again"
        )


def key_of(record: dict[str, Any]) -> str:
    """Hash of what decides a training; every folder that it writes names it."""
    decided = {name: record[name] for name in Decided.model_fields}
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:32]


def check_folder(options: TrainOptions, record: dict[str, Any]) -> None:
    """UsageError when OUT holds something else than this very training; makes the folder, sweeps stale files."""
    out, student = options.out, Path(options.student).absolute()
    if options.fresh and student.is_relative_to(out.absolute()):
        raise UsageError(f"--fresh would delete the student {options.student}, which lies in --out {out}")
    claim(out, RECORD, lambda name: _may_precede_the_record(options, name))
    for name in (*FILES, *FOLDERS, *(p.name for p in checkpoints(out))):
        _check_place(out / name, folder=name not in FILES)
    model = out / MODEL
    ours = any((p / manifest.MANIFEST).is_file() for p in (model, out / MODEL_WRITING))
    if model.is_dir() and any(model.iterdir()) and not ours and not (model / "lavit.json").is_file():
        raise UsageError(f"--out {out}: its {MODEL}/ is none of a training; move it away, or choose another folder")
    if not options.fresh and (out / RECORD).is_file():
        _same_training(out, record)
    for name in FILES:
        for stale in out.glob(f"{name}.*tmp"):
            stale.unlink()  # a killed training's: a running one holds the folder


def _check_place(path: Path, *, folder: bool) -> None:
    """UsageError where a training would write through a link, or a folder in the place of a file."""
    if path.is_symlink() or (path.exists() and path.is_dir() != folder):
        what = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a file"
        raise UsageError(
            f"--out {path.parent}: {path.name} is {what}, expected a {'folder' if folder else 'file'} that a training "
            "wrote; move it away, or choose another folder"
        )


def _may_precede_the_record(options: TrainOptions, name: str) -> bool:
    """Whether a training may have left this in OUT before, or without, train.json."""
    path, cache = (options.out / name).absolute(), options.cache and options.cache.absolute()
    temporary = name.endswith("tmp") and name.startswith(tuple(f"{file}." for file in FILES))
    listed = (path / manifest.MANIFEST).is_file()
    beside = name in (LOG, WRITING, MODEL_WRITING) and any(options.out.glob(f"*/{manifest.MANIFEST}"))
    return temporary or listed or beside or bool(cache and cache.is_relative_to(path))


def _same_training(out: Path, record: dict[str, Any]) -> None:
    """UsageError that names the first thing in which the training in OUT differs."""
    before = intact.read_json(out / RECORD)
    intact.require(before, Decided, out / RECORD)
    for name in Decided.model_fields:
        was, now = before[name], json.loads(json.dumps(record[name]))
        if was == now:
            continue
        if name == "settings":
            key = next(k for k in {**was, **now} if was.get(k) != now.get(k))
            name, was, now = f"setting {key}", was.get(key), now.get(key)
        raise UsageError(
            f"--out {out}: is a training with {name} {was!r}, not {now!r}; choose another folder, or --fresh"
        )


def start_anew(out: Path) -> list[str]:
    """--fresh: delete what a training wrote into OUT, and nothing else; returns the names of what stays."""
    folders = [path for path in (*checkpoints(out), *(out / name for name in FOLDERS)) if path.is_dir()]
    inside = [path for folder in folders for path in manifest.delete(folder)]
    events = out.glob("runs/*/events.out.tfevents.*")  # TensorBoard's
    for path in (*events, *(out / name for name in FILES)):
        path.unlink(missing_ok=True)
    beside = [path for path in out.iterdir() if path not in folders and path.name != LOCK]
    return sorted(path.relative_to(out).as_posix() for path in (*inside, *beside))


def kept_words(out: Path, kept: list[str]) -> str:
    """What --fresh says of files that it does not know."""
    more = f" and {len(kept) - _NAMED:,} more" if len(kept) > _NAMED else ""
    return f"{out}: kept, for no training wrote it: {', '.join(kept[:_NAMED])}{more}"
