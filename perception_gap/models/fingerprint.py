"""Which weights a folder holds, by their content: two copies are one model, an edited file is another one.

Large files are read once: what was read is remembered in the user's cache, beside what the file system says of the
file. Its change time moves with every write, also where size and modification time are put back (`cp -p`, rsync).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from perception_gap.errors import UsageError
from perception_gap.storage import checksums
from perception_gap.storage.files import write_json

# What decides the model lies at the top of its folder, chat templates beside; cards, and runs written below, do not.
_DECIDES = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model", ".spm", ".tiktoken", ".py")
_TEMPLATES = "additional_chat_templates/*.jinja"
_OF_TRAINING = {"training_args.bin", "optimizer.bin", "scheduler.bin", "trainer_state.json"}
_REMEMBERED = 2**24  # bytes from which a file is worth a place in the cache
_SETTLED = 2.0  # seconds: a file that changed just now may change again within one tick of the file system's clock


def folder_hash(folder: Path) -> str:
    """`sha256:` and 16 hex digits over names and contents of the files that decide what a model does.

    UsageError where one of them cannot be read.
    """
    files = sorted(_deciding(folder), key=lambda path: path.as_posix())
    known = _load(folder)
    try:
        with ThreadPoolExecutor(min(8, len(files) or 1)) as pool:
            hashes = list(pool.map(lambda path: _content(path, known), files))
    except OSError as error:
        raise UsageError(f"model {folder}: {error.filename} cannot be read ({error.strerror})") from None
    _keep(folder, {stamp: hashed for stamp, hashed in hashes if stamp is not None})
    digest = hashlib.sha256()
    for path, (_, hashed) in zip(files, hashes, strict=True):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{hashed}\0".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def _deciding(folder: Path) -> Iterator[Path]:
    for path in (*folder.iterdir(), *folder.glob(_TEMPLATES)):
        if path.is_file() and path.suffix in _DECIDES and path.name not in _OF_TRAINING:
            yield path


def _content(path: Path, known: dict[str, str]) -> tuple[str | None, str]:
    """(what to remember it by, None for a small file and one that is not settled, checksum) of a file."""
    stamp = _stamp(path)
    if stamp in known:
        return stamp, known[stamp]
    hashed = checksums.of_file(path)
    now = path.stat()
    settled = time.time() - max(now.st_ctime, now.st_mtime) > _SETTLED and _stamp(path) == stamp
    return (stamp if settled and now.st_size >= _REMEMBERED else None), hashed


def _stamp(path: Path) -> str:
    at = path.stat()
    return f"{at.st_dev} {at.st_ino} {at.st_size} {at.st_mtime_ns} {at.st_ctime_ns}"


def _cache(folder: Path) -> Path:
    """The file that remembers this folder; one each, so that processes with different models never meet."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "gapcheck" / "weights" / f"{checksums.of_bytes(os.fsencode(os.path.realpath(folder)))}.json"


def _load(folder: Path) -> dict[str, str]:
    """{} where nothing is remembered, or where that is damaged: then the files are read again."""
    try:
        kept = json.loads(_cache(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept["files"] if isinstance(kept, dict) and checksums.intact(kept) else {}


def _keep(folder: Path, files: dict[str, str]) -> None:
    if not files or files == _load(folder):
        return
    try:
        write_json(_cache(folder), {"folder": os.path.realpath(folder), "files": files})
    except (OSError, UsageError):  # a home that cannot be written: the next command reads the weights again
        return
