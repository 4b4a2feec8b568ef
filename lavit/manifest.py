"""Folders that a training writes: each lists its files, with sizes and checksums, in `manifest.json`, written last.

A folder is whole if every listed file is there as it was written. Only what is listed is ever deleted or replaced (in a
folder that was never finished: what bears the names that a training gives); what somebody else has put there stays.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from perception_gap.errors import DamagedError
from perception_gap.storage import intact
from perception_gap.storage.files import write_json

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


class ListedFile(intact.Document):
    bytes: intact.Whole
    sha256: intact.Text


class Manifest(intact.Document):
    schema_version: intact.Whole
    training: intact.Text
    files: dict[str, ListedFile]


# What save_pretrained, Trainer and we ourselves call files, where a kill came before the manifest.
_WRITTEN = re.compile(
    r"((generation_|tokenizer_|(video_)?(pre)?processor_)?config|lavit|manifest|tokenizer|trainer_state|chat_template"
    r"|special_tokens_map|added_tokens|vocab|.*\.index)\.json|merges\.txt|.*\.(safetensors|pt|pth|bin|distcp|jinja|tmp)"
)


def file_hash(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, training: str) -> None:
    """List all files of a folder; `training` is the hash of what decides the training that wrote them."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": file_hash(folder / name)} for name in names}
    write_json(folder / MANIFEST, {"schema_version": SCHEMA_VERSION, "training": training, "files": files})


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder: `training`, and `files`, name → bytes and sha256; DamagedError where it is damaged."""
    path = folder / MANIFEST
    written = intact.read_json(path)
    intact.require(written, Manifest, path)
    outside = [name for name in written["files"] if os.path.isabs(name) or ".." in Path(name).parts]
    if outside or written["schema_version"] != SCHEMA_VERSION:
        raise intact.damaged(path, f"it lists {outside[0]!r}" if outside else f"schema {written['schema_version']}")
    return written


def fault(folder: Path, training: str | None = None, suffix: str = "") -> str | None:
    """What is wrong with a folder, in a few words; None for a whole one.

    training: the training that it must be of; None: any. suffix: of the files that count.
    """
    if not (folder / MANIFEST).is_file():
        return f"{MANIFEST} is missing"
    try:
        written = read(folder)
    except DamagedError:
        return f"{MANIFEST} is damaged"
    if training not in (None, written["training"]):
        return "it is of another training"
    for name, listed in written["files"].items():
        path = folder / name
        if not name.endswith(suffix):
            continue
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != listed["bytes"]:
            return f"{name} has {size:,} bytes, {listed['bytes']:,} were written"
        if file_hash(path) != listed["sha256"]:
            return f"{name} has changed since it was written: its checksum differs"
    return None


def own(folder: Path) -> list[Path]:
    """The files of a folder that a training wrote, the manifest last; nothing behind a link."""
    try:
        files = [folder / name for name in read(folder)["files"]]
    except DamagedError:
        files = [path for path in sorted(folder.rglob("*")) if _WRITTEN.fullmatch(path.name)]
    last = folder / MANIFEST
    there = [path for path in (*(f for f in files if f != last), last) if path.is_file() or path.is_symlink()]
    return [path for path in there if path.parent.resolve().is_relative_to(folder.resolve())]


def delete(folder: Path) -> list[Path]:
    """Delete a training's own files of a folder, and it with them where nothing else is in it; returns what stays."""
    files = own(folder)
    for path in files:
        path.unlink()
    _prune(folder, files)
    return sorted(p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())


def move(source: Path, target: Path) -> None:
    """Put a whole folder in the place of another, whose listed files go; what else lies there stays."""
    if (target / MANIFEST).is_file():
        delete(target)
    if not target.exists():
        os.rename(source, target)
        return
    files = own(source)
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
    _prune(source, files)


def _prune(folder: Path, files: list[Path]) -> None:
    """Remove the folder, and those in it that held these files, where they are empty now."""
    parents = {folder / inner for path in files for inner in path.relative_to(folder).parents} | {folder}
    for parent in sorted(parents, reverse=True):
        if not any(parent.iterdir()):
            parent.rmdir()
