"""Paths that a run names, as far as they are followed: a run from somebody else may name any file of this machine.

Followed are paths below the run itself and below folders that the user names; those of a run that this user made on
this machine, which its signature says, also below the folder of its data, and to its teacher's run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perception_gap.storage.machine_key import signature, signed_here


def signed(info: dict[str, Any]) -> dict[str, Any]:
    """run.json or compare.json with the signature of the paths in it."""
    return info | {"signature": signature(_paths(info))}


def own_data_root(folder: Path, info: Mapping[str, Any]) -> list[Path]:
    """[the folder of the data of a run of one's own], [] of anybody else's and of data without one."""
    root = info["data"].get("root")
    return [folder / root] if isinstance(root, str) and signed_here(info.get("signature"), _paths(info)) else []


def follows_teacher(folder: Path, info: Mapping[str, Any], named: Iterable[Path]) -> bool:
    """Whether the path of the teacher's run that `info`, the JSON in `folder`, names may be followed."""
    return is_below(folder / info["teacher"]["path"], [folder, *named]) or signed_here(
        info.get("signature"), _paths(info)
    )


def is_below(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path lies in one of the folders, or is one, links followed."""
    where = Path(os.path.realpath(path))
    return any(where.is_relative_to(os.path.realpath(folder)) for folder in folders)


def stored_path(out: Path, path: Path) -> str:
    """A path as a run keeps it: relative to its folder `out` where it lies beside or in it, else absolute."""
    out, path = Path(os.path.abspath(out)), Path(os.path.abspath(path))  # not resolve(): it raises on a loop of links
    return os.path.relpath(path, out) if path.is_relative_to(out.parent) else str(path)


def _paths(info: Mapping[str, Any]) -> list[Any]:
    teacher = info.get("teacher")
    return [info["data"].get("root"), teacher and teacher["path"]]
