"""Where samples come from: drawn scenes, JSON Lines, Visual-CoT, COCO, tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perception_gap.data.reading import Reading
from perception_gap.errors import UsageError
from perception_gap.sample import Sample
from perception_gap.storage.redaction import public_text

__all__ = ["Dataset", "hash_samples", "open_data"]

SCENES_DEFAULT = 300  # scenes in a run without --limit
KNOWN = (
    "scenes, scenes:TASK,TASK, FILE.jsonl, viscot:FILE.json, coco:FILE.json, FILE.parquet, FOLDER or "
    "hub:OWNER/NAME[/CONFIG][:SPLIT]"
)


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order; `hash` (sha256, hex) covers all their texts and boxes, but no path and no pixel.

    root: the folder that the user named for their pictures, by --image-root or as that of the file; None without one.

    `samples` may read from disk when it is indexed (Visual-CoT): iterate, slice, do not copy.
    """

    spec: str
    samples: Sequence[Sample]
    hash: str
    reading: Reading = field(default_factory=Reading)
    root: Path | None = None

    def description(self) -> dict[str, Any]:
        """What a run keeps of it: spec, hash, n, and what the user said of boxes and fields."""
        spec = public_text(self.spec)
        return {"spec": spec, "hash": self.hash, "n": len(self.samples)} | self.reading.description()

    def __len__(self) -> int:
        return len(self.samples)


def open_data(
    spec: str,
    *,
    limit: int | None = None,
    image_root: Path | None = None,
    work: Path,
    seed: int = 0,
    split: str = "heldout",
    reading: Reading | None = None,
) -> Dataset:
    """The first `limit` samples of one of KNOWN.

    Scenes (`SCENES_DEFAULT` without a limit) are drawn into `work/data/`; `seed` and `split` concern them alone.
    Pictures that come inside the data are written there as well. reading: what the user says of boxes and fields.
    UsageError, before any image is opened, for an unknown spec, a malformed file and zero samples; images and boxes
    are checked per sample, by `open_pictures` and `check_boxes`.
    """
    reading = reading or Reading()
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1")
    kind, _, rest = spec.partition(":")
    if kind == "scenes":
        given = {"--image-root": image_root, "--boxes": reading.boxes, "--field": reading.fields}
        for option in (name for name, value in given.items() if value):
            raise UsageError(f"{option}: scenes bring their own images, boxes and fields; leave it out")
        samples = _scenes(rest.split(",") if rest else ["all"], limit or SCENES_DEFAULT, work, seed, split)
    else:
        within = replace(reading, image_root=image_root, pictures=work / "data" / "pictures")
        samples = _read(spec, limit, within)
    if not samples:
        raise UsageError(f"{spec}: zero samples: expected at least one")
    root = image_root or (work / "data" if kind == "scenes" else _folder_of(spec))
    return Dataset(spec, samples, hash_samples(samples), reading, root)


def _folder_of(spec: str) -> Path | None:
    """Where the pictures of data that name them lie, unless --image-root says so; None for data from the hub."""
    kind, colon, rest = spec.partition(":")
    if kind == "hub" and colon:
        return None
    path = Path(rest if kind in ("viscot", "coco") and colon else spec)
    return path if path.is_dir() else path.parent


def _read(spec: str, limit: int | None, reading: Reading) -> Sequence[Sample]:
    """The samples of a spec that names a file, a folder or a data set of the hub."""
    from perception_gap.data.tables import is_table, read_table

    kind, colon, rest = spec.partition(":")
    if kind == "viscot" and colon:
        from perception_gap.data.viscot import VisualCoT

        return VisualCoT(_existing(Path(rest)), limit=limit, reading=reading)
    if kind == "coco" and colon:
        from perception_gap.data.coco import read_coco

        return read_coco(_existing(Path(rest)), limit=limit, reading=reading)
    if spec.endswith(".jsonl"):
        from perception_gap.data.jsonl import read_jsonl

        return read_jsonl(_existing(Path(spec)), limit=limit, reading=reading)
    if is_table(spec):
        return read_table(spec, limit=limit, reading=reading)
    hint = f"; say what it is: viscot:{spec} or coco:{spec}" if spec.endswith(".json") else ""
    raise UsageError(f"unknown data {spec!r}: expected {KNOWN}{hint}")


def hash_samples(samples: Iterable[Sample]) -> str:
    """sha256 (hex) over everything of the samples but their image paths, in order."""
    digest = hashlib.sha256()
    for s in samples:
        about = [s.id, len(s.images), s.question, s.answer, s.boxes, s.box_images]
        digest.update(json.dumps([*about, s.options, s.task, s.pair, s.fractions]).encode() + b"\n")
    return digest.hexdigest()


def _scenes(names: Sequence[str], n: int, work: Path, seed: int, split: str) -> Sequence[Sample]:
    from perception_gap.data.jsonl import read_jsonl
    from perception_gap.data.scenes import TASKS
    from perception_gap.data.scenes_files import choose_tasks, write_scenes

    tasks = choose_tasks([name.strip() for name in names])
    chosen = "all" if len(tasks) == len(TASKS) else "+".join(tasks)
    folder = work / "data" / f"scenes-{chosen}-{split}-{seed}"
    return read_jsonl(write_scenes(folder, tasks, n, split, seed), limit=n)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"data {path}: {'a folder' if path.is_dir() else 'no such file'}; expected a file of samples")
    return path
