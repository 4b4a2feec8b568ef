"""Where a command's file goes, said before the work that makes it, and the command itself, as files keep it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click

from perception_gap.errors import UsageError, one_line
from perception_gap.storage.folders import make_folder
from perception_gap.storage.redaction import public_command

# By what a file of our own is known, which may be written anew.
PAGE = re.compile(rb'<p class="kicker">gapcheck</p>')
FIGURE = re.compile(rb"[Mm]atplotlib")
TABLES = re.compile(rb'\A(\*\*|% \\usepackage\{booktabs\}|table,row,column,source,|<table class="figures")')


class OutFolder(click.Path):
    """A folder to write into; "" is none, though it would be the current one: what a shell makes of an unset name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty; expected a folder, . for the current one", param, ctx)
        return super().convert(value, param, ctx)


def check_writable(
    out: Path, suffixes: Sequence[str] = (), option: str = "--out", *, ours: re.Pattern[bytes] | None = None
) -> None:
    """UsageError unless a file can be written there; makes its folder. A device or pipe is taken as it is.

    ours: what a file that is there must hold to be replaced.
    """
    if not out.name:
        raise UsageError(f"{option} {str(out)!r}: expected the name of a file")
    if suffixes and out.suffix not in suffixes:
        raise UsageError(f"{option} {out}: expected a file that ends in {', '.join(suffixes)}")
    try:
        if out.is_dir():
            raise UsageError(f"{option} {out}: is a folder; expected a file")
        if out.exists() and not out.is_file():
            return
        make_folder(out.parent)
        with TemporaryFile(dir=out.parent):
            pass
        content = out.read_bytes() if ours and out.exists() else b""
    except OSError as error:
        shown = one_line(str(out))
        raise UsageError(f"{option} {shown}: cannot be written ({error.strerror}); choose another place") from None
    if ours and content and not ours.search(content):
        raise UsageError(f"{option} {out}: is a file that gapcheck did not write; choose another name, or remove it")


def command_line() -> str:
    """The command that is running, as a shell reads it, without what opens anything (`public_command`)."""
    return public_command(sys.argv[1:])
