"""One command at a time in a folder of results, and one line that says who holds it.

The lock is the operating system's (flock): that of a killed command is free, though its file stays. Processes of one
command (torchrun) share it: the first one holds it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from perception_gap.errors import GapcheckError, one_line
from perception_gap.storage.folders import LOCK, make


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@contextmanager
def locked(out: Path, say: Callable[[str], None] = _say) -> Iterator[None]:
    """Holds the folder, which is made, so claim it first; the same process may hold it several times.

    GapcheckError that names pid, machine, command and time of another holder. Where the file system has no locks, a
    line says so, and the command goes on without. An interruption gets a note on what is kept (see `cli.main`).
    """
    make(out)
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    path = Path(os.path.realpath(out)) / LOCK  # two spellings of one folder are one lock
    lock = FileLock(path, timeout=0, is_singleton=True, thread_local=False, fallback_to_soft=False)
    first = not lock.is_locked
    try:
        lock.acquire()
    except Timeout:
        raise GapcheckError(f"--out {out}: {_holder(path)} writes there; let it end, or choose a new folder") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        say(f"{out}: cannot be locked ({reason}): see to it that no other command writes there")
        yield
        return
    try:
        if first:
            _sign(path)
        yield
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"what {out} holds is kept, the same command goes on with it")
        raise
    finally:
        if first:
            path.unlink(missing_ok=True)  # while it is held: filelock gives no lock on a file that has lost its name
        lock.release()


def _sign(path: Path) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    command = one_line(" ".join(["gapcheck", *sys.argv[1:]]), 120)
    who = {"pid": os.getpid(), "machine": socket.gethostname(), "command": command, "since": since}
    with path.open("w", encoding="utf-8") as file:  # in place: another file would be another lock
        json.dump(who, file)


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"`{who['command']}` (process {who['pid']} on {who['machine']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has not signed yet
        return "another gapcheck command"
