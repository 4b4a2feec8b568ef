"""Where samples come from: drawn scenes, JSON Lines, Visual-CoT."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perception_gap.datasets.images import Contents, check_boxes, decode_image, open_image, shrink
from perception_gap.errors import UsageError
from perception_gap.sample import Sample

__all__ = [
    "SCENES_DEFAULT", "Contents", "Dataset", "check_boxes", "decode_image", "hash_samples", "open_data", "open_image",
    "shrink",
]  # fmt: skip

SCENES_DEFAULT = 300  # scenes in a run without --limit


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order; `hash` (sha256, hex) covers all their texts and boxes, but no path and no pixel.

    `samples` may read from disk when it is indexed (Visual-CoT): iterate, slice, do not copy.
    """

    spec: str
    samples: Sequence[Sample]
    hash: str

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
) -> Dataset:
    """The first `limit` samples of `scenes`, `scenes:TASK,TASK`, `FILE.jsonl` or `viscot:FILE.json`.

    Scenes (`SCENES_DEFAULT` without a limit) are drawn into `work/data/`; `seed` and `split` concern them alone.
    UsageError, before any image is opened, for an unknown spec, a malformed file and zero samples; images and boxes
    are checked per sample, by `open_image` and `check_boxes`.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1")
    samples: Sequence[Sample]
    kind, _, rest = spec.partition(":")
    if kind == "scenes":
        if image_root is not None:
            raise UsageError("--image-root: scenes bring their own images; leave it out")
        samples = _scenes(rest.split(",") if rest else ["all"], limit or SCENES_DEFAULT, work, seed, split)
    elif kind == "viscot":
        from perception_gap.datasets.viscot import VisualCoT

        samples = VisualCoT(_existing(Path(rest)), limit=limit, image_root=image_root)
    elif spec.endswith(".jsonl"):
        from perception_gap.datasets.jsonl import read_jsonl

        samples = read_jsonl(_existing(Path(spec)), limit=limit, image_root=image_root)
    else:
        raise UsageError(f"unknown data {spec!r}: expected scenes, scenes:TASK,TASK, FILE.jsonl or viscot:FILE.json")
    if not samples:
        raise UsageError(f"{spec}: zero samples: expected at least one")
    return Dataset(spec, samples, hash_samples(samples))


def hash_samples(samples: Iterable[Sample]) -> str:
    """sha256 (hex) over everything of the samples but their image paths, in order."""
    digest = hashlib.sha256()
    for s in samples:
        fields = [s.id, len(s.images), s.question, s.answer, s.boxes, s.box_images, s.options, s.task, s.pair]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()


def _scenes(names: Sequence[str], n: int, work: Path, seed: int, split: str) -> Sequence[Sample]:
    from perception_gap.datasets.jsonl import read_jsonl
    from perception_gap.datasets.scenes import TASKS
    from perception_gap.datasets.scenes_files import choose_tasks, write_scenes

    tasks = choose_tasks([name.strip() for name in names])
    chosen = "all" if len(tasks) == len(TASKS) else "+".join(tasks)
    folder = work / "data" / f"scenes-{chosen}-{split}-{seed}"
    return read_jsonl(write_scenes(folder, tasks, n, split, seed), limit=n)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"data {path}: {'a folder' if path.is_dir() else 'no such file'}; expected a file of samples")
    return path
