"""Where a command's file goes, said before the work that makes it, and the command itself, as files keep it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from perception_gap.errors import UsageError
from perception_gap.redaction import public_command


def check_writable(out: Path, suffixes: Sequence[str] = (), option: str = "--out") -> None:
    """UsageError unless a file can be written there; makes its folder. A device or pipe is taken as it is."""
    if not out.name:
        raise UsageError(f"{option} {str(out)!r}: expected the name of a file")
    if suffixes and out.suffix not in suffixes:
        raise UsageError(f"{option} {out}: expected a file that ends in {', '.join(suffixes)}")
    if out.is_dir():
        raise UsageError(f"{option} {out}: is a folder; expected a file")
    if out.exists() and not out.is_file():
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.with_name(f"{out.name}.{os.getpid()}.tmp")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{option} {out}: cannot be written ({error.strerror}); choose another place") from None


def command_line() -> str:
    """The command that is running, as a shell reads it, without what opens anything (`public_command`)."""
    return public_command(sys.argv[1:])
