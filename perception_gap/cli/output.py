"""Where a command's file goes: said before the work that makes it, not after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from perception_gap.errors import UsageError


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
