"""Drawn scenes as files: PNG images and one `scenes.jsonl`, written atomically and reused when they are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from PIL import Image

from perception_gap.data import drawing
from perception_gap.data import scenes as scenes_module
from perception_gap.data.scenes import SPLITS, TASKS, scenes
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.storage import checksums
from perception_gap.storage.files import aside
from perception_gap.storage.folders import make_folder


def choose_tasks(names: Sequence[str]) -> tuple[str, ...]:
    """The named tasks once each, in the suite's own order; `all` is every one. UsageError lists the known ones."""
    unknown = [name for name in names if name not in TASKS and name != "all"]
    if unknown or not names:
        what = f"unknown scenes task {unknown[0]!r}" if unknown else "no scenes task"
        raise UsageError(f"{what}: expected one of {', '.join(TASKS)}, all")
    return tuple(task for task in TASKS if task in names or "all" in names)


def write_scenes(folder: Path, tasks: Sequence[str], n: int, split: str = "heldout", seed: int = 0) -> Path:
    """`n` scenes as `folder/images/ID.png` and `folder/scenes.jsonl`; returns the latter's path.

    The first scenes do not depend on `n`, so a larger one only adds images. Files are replaced one by one and
    `scenes.json`, which says what the folder holds, comes last: a killed call is finished by the next one.
    UsageError for an unknown task or split and n < 1, GapcheckError when the folder cannot be written.
    """
    tasks = choose_tasks(tasks)
    if split not in SPLITS:
        raise UsageError(f"unknown scenes split {split!r}: expected one of {', '.join(SPLITS)}")
    if n < 1 or seed < 0:
        raise UsageError(f"{n} scenes with seed {seed}: expected at least one scene and a seed of at least 0")
    wanted = {"tasks": list(tasks), "n": n, "split": split, "seed": seed, "drawn_by": _drawn_by()}
    rows, facts = folder / "scenes.jsonl", folder / "scenes.json"
    try:
        if _holds(folder, wanted):
            return rows
        make_folder(folder / "images")
        facts.unlink(missing_ok=True)
        lines = []
        for scene in scenes(tasks, n, split=split, seed=seed):
            name = f"images/{scene.id}.png"
            _write_image(folder / name, Image.fromarray(scene.image))
            lines.append(json.dumps(scene.record(name), ensure_ascii=False) + "\n")
        _replace(rows, lambda file: file.write("".join(lines).encode()))
        whole = wanted | {"checksum": _checksum(folder)}
        _replace(facts, lambda file: file.write(json.dumps(whole, indent=1).encode()))
    except OSError as error:
        raise GapcheckError(f"cannot write {folder} ({error.strerror}): choose another folder") from None
    return rows


def _drawn_by() -> str:
    """Changes when the code that draws does, or the libraries under it: old pictures are then drawn again."""
    digest = hashlib.sha256()
    for module in (drawing, scenes_module):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(f"numpy {version('numpy')} scikit-image {version('scikit-image')}".encode())
    return digest.hexdigest()


def _holds(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder holds just these scenes, each file as it was written."""
    try:
        return bool(json.loads((folder / "scenes.json").read_text()) == wanted | {"checksum": _checksum(folder)})
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        return False


def _checksum(folder: Path) -> str:
    """Over scenes.jsonl and the pictures that it names."""
    text = (folder / "scenes.jsonl").read_bytes()
    pictures = [checksums.of_file(folder / json.loads(line)["image"]) for line in text.splitlines()]
    return checksums.of_bytes(text + "".join(pictures).encode())


def _write_image(path: Path, image: Image.Image) -> None:
    """Leaves an equal picture untouched; one that is damaged counts as different."""
    try:
        with Image.open(path, formats=["PNG"]) as there:
            if there.mode == image.mode and there.size == image.size and there.tobytes() == image.tobytes():
                return
    except (OSError, SyntaxError, ValueError):
        pass
    # Noise barely compresses: the lowest level is several times faster and a tenth larger.
    _replace(path, lambda file: image.save(file, "PNG", compress_level=1))


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with aside(path) as partial, partial.open("wb") as file:
        write(file)
