"""A key that only this user on this machine has: what is signed with it was made here, and cannot be guessed at."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
from functools import cache
from pathlib import Path
from typing import Any

SIZE = 32  # bytes


def signature(*content: Any) -> str:
    """HMAC-SHA256 (hex) over the content, which is JSON, under this user's key."""
    return hmac.new(_key(), json.dumps(content).encode(), "sha256").hexdigest()


def signed_here(signed: Any, *content: Any) -> bool:
    """Whether `signed` is the `signature` of the content."""
    return isinstance(signed, str) and hmac.compare_digest(signed.encode(), signature(*content).encode())


@cache
def _key() -> bytes:
    """Made at the first call, in $XDG_STATE_HOME; where nothing can be kept it lasts as long as the process."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state).expanduser() / "gapcheck" / "key"
    fresh = secrets.token_bytes(SIZE)
    with contextlib.suppress(OSError, RuntimeError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f"{secrets.token_hex(8)}.tmp")
        with os.fdopen(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(fresh)
        try:
            with contextlib.suppress(FileExistsError):  # another process was faster: its key holds
                os.link(aside, path)
        finally:
            aside.unlink()
        kept = path.read_bytes()
        return kept if len(kept) == SIZE else fresh
    return fresh
