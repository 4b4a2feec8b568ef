"""What can be known before a training starts: its traces, their pictures, and what its folder holds."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from lavit.request import TrainRequest
from lavit.settings import TrainSettings
from lavit.traces import Traces
from perception_gap.errors import UsageError
from perception_gap.files import write_text
from perception_gap.folders import make_folder
from perception_gap.job import image_hash


def file_hash(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        if not lost and trace.image_hash and image_hash(trace.sample) != trace.image_hash:
            other.append(trace.sample.images[0])
    if gone:
        raise UsageError(f"traces {traces.path}: {len(gone)} images are missing, the first {gone[0]}; put them back")
    if other:
        raise UsageError(
            f"traces {traces.path}: {len(other)} images have changed since they were traced, the first {other[0]}; put "
            "them back, or extract the traces again"
        )


def check_folder(request: TrainRequest, made: dict) -> None:
    """UsageError when OUT holds something else than this very training; makes the folder."""
    out = request.out
    if request.fresh and (out / "train.json").exists():
        shutil.rmtree(out)
    if out.is_dir() and any(out.iterdir()) and not (out / "train.json").exists():
        raise UsageError(f"--out {out}: holds other files ({next(out.iterdir()).name}); choose a new folder")
    if (out / "train.json").exists():
        before = json.loads((out / "train.json").read_text())
        for name in ("preset", "student", "traces", "settings"):
            if before.get(name) != made[name]:
                was, now = before.get(name), made[name]
                if name == "settings":
                    key = next((k for k in now if was.get(k) != now[k]), name)
                    name, was, now = f"setting {key}", was.get(key), now.get(key)
                raise UsageError(
                    f"--out {out}: is a training with {name} {was!r}, not {now!r}; choose another folder, or --fresh"
                )
    try:
        make_folder(out)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from None


def forget_later(log: Path, step: int) -> None:
    """Drop the log's lines behind the checkpoint that training goes on from: they are written again."""
    if log.exists():
        kept = [
            line for line in log.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step
        ]
        write_text(log, "".join(line + "\n" for line in kept))
