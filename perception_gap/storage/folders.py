"""Folders of results: what they are called, and whether a command may write into one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryFile

from perception_gap.errors import UsageError, one_line

LOCK = ".gapcheck.lock"  # see `locks`
ROOM = 256  # bytes of a path that the files of a run take behind its folder
LONGEST = 120  # characters of a folder's name; file systems take 255 bytes


def slug(name: str) -> str:
    """A model's or a data set's name as the name of a folder: what files cannot carry becomes a dash, the end stays.

    A name of dots alone would be the folder itself or the one above: it becomes "model".
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", name)[-LONGEST:].strip("-.") or "model"


def named(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A folder name for each of the names, each once and none of `taken`."""
    used, folders = set(taken), []
    for wanted in map(slug, names):
        candidates = (wanted, *(f"{wanted}-{i}" for i in range(1, len(used) + 2)))
        free = next(name for name in candidates if name not in used)
        used.add(free)
        folders.append(free)
    return folders


def make(out: Path) -> None:
    """Creates the folder. UsageError where that, or a file in it, cannot be."""
    try:
        longest = os.pathconf("/", "PC_PATH_MAX") - ROOM
        size = len(os.fsencode(os.path.abspath(out)))
        if size > longest:
            raise UsageError(f"--out {one_line(str(out), 80)}: a path of {size} bytes; expected at most {longest}")
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out}: is a file; expected a folder")
        str(out).encode()  # Parquet files have names in UTF-8
        make_folder(out)
        with TemporaryFile(dir=out):
            pass
    except UnicodeEncodeError:
        raise UsageError(f"--out {str(out)!a}: is no UTF-8 text; choose another name") from None
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"--out {one_line(str(out))}: cannot be written ({reason}); choose a folder that you may write to"
        ) from None


def make_folder(path: Path) -> None:
    """Creates the folder and those above it, however many: `Path.mkdir` calls itself once a level."""
    missing = list(takewhile(lambda folder: not folder.exists(), path.parents))
    for folder in (*reversed(missing), path):
        folder.mkdir(exist_ok=True)


def claim(out: Path, described_in: str, ours: Callable[[str], bool]) -> None:
    """Creates `out`. UsageError where it cannot be written, or holds something that is none of ours.

    described_in: the file that says whose folder it is; ours: whether a name may lie there before that file does.
    """
    make(out)
    try:
        foreign = sorted(p.name for p in out.iterdir() if p.name != LOCK and not ours(p.name))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be read ({error.strerror}); choose another folder") from None
    if foreign and not (out / described_in).exists():
        raise UsageError(f"--out {out}: holds other files ({foreign[0]}); choose a new folder")
