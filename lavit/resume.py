"""What a training folder holds, and what a training goes on from: its newest whole checkpoint, and the log up to there.

train.json  log.jsonl  checkpoint-N/  model/        writing/  model.writing/ (while they are written)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lavit import manifest
from perception_gap.errors import UsageError
from perception_gap.storage import intact

RECORD, LOG, MODEL, WRITING, MODEL_WRITING = "train.json", "log.jsonl", "model", "writing", "model.writing"
FILES, FOLDERS = (RECORD, LOG), (MODEL, WRITING, MODEL_WRITING)
STATE = "trainer_state.json"
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


def step_of(checkpoint: Path) -> int:
    match = _NAME.fullmatch(checkpoint.name)
    assert match
    return int(match[1])


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints of a training folder, whole or not, oldest first."""
    there = [p for p in out.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _NAME.fullmatch(p.name)]
    return sorted((p for p in there if (p / manifest.MANIFEST).is_file() or (p / STATE).is_file()), key=step_of)


def newest_whole(out: Path, training: str, say: Callable[[str], None]) -> Path | None:
    """The checkpoint to go on from, None where there is none; says which newer ones are damaged.

    UsageError where there are checkpoints, but none of them is whole.
    """
    damaged: list[str] = []
    for folder in reversed(checkpoints(out)):
        reason = manifest.fault(folder, training)
        if reason is None:
            if damaged:
                say(f"{out}: {'; '.join(damaged)}; goes on from {folder.name}, the newest whole checkpoint")
            return folder
        damaged.append(f"{folder.name} is not whole ({reason})")
    if damaged:
        raise UsageError(
            f"--out {out}: {'; '.join(damaged)}; put back what was there, or an older whole checkpoint, or start anew "
            "with --fresh"
        )
    return None


def finished(out: Path, training: str) -> bool:
    """Whether the trained model is there; DamagedError where it is damaged, or is another training's."""
    model = out / MODEL
    if not any((model / name).is_file() for name in (manifest.MANIFEST, "lavit.json")):
        return False
    reason = manifest.fault(model, training)
    if reason is not None:
        raise UsageError(
            f"{model}: damaged ({reason}); put back what was written, or delete the folder (it is made anew from the "
            "last checkpoint)"
        )
    return True


def settle(out: Path, training: str) -> None:
    """What a kill left whole aside takes its place; what it left half-written goes."""
    moves = [(out / MODEL_WRITING, out / MODEL)]
    moves += [(path, out / path.name) for path in (out / WRITING).glob(f"{PREFIX_CHECKPOINT_DIR}-*")]
    for source, target in moves:
        if source.is_dir() and manifest.fault(source, training) is None:
            manifest.move(source, target)
    for half in (out / WRITING, out / MODEL_WRITING):
        if half.is_dir():
            manifest.delete(half)


def log_row(step: int, logs: dict[str, Any]) -> str:
    """A line of log.jsonl; what is not finite is null."""
    values = {k: None if isinstance(v, float) and v - v != 0 else v for k, v in sorted(logs.items())}
    return json.dumps({"step": step} | values) + "\n"


def logged(checkpoint: Path | None) -> str:
    """log.jsonl as it was at a checkpoint, which keeps every line itself: later steps are taken, and written, again."""
    if checkpoint is None:
        return ""
    state = intact.read_json(checkpoint / STATE)
    rows = [row for row in state.get("log_history", ()) if "loss" in row]
    return "".join(log_row(row["step"], {k: v for k, v in row.items() if k not in ("step", "epoch")}) for row in rows)
