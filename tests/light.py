"""Commands as they run where only `pip install perception-gap` was done: in a process that lacks all other packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Absent to imports and to importlib.util.find_spec alike, as if it had never been installed.
_ABSENT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from perception_gap.cli import main
for arguments in COMMANDS:
    try:
        main(arguments)
    except SystemExit as end:
        status = end.code
    for stream in (sys.stdout, sys.stderr):
        print(f"{MARK} {status}", file=stream, flush=True)
"""
_MARK = "--- end of a command:"


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: str
    stderr: str


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


def closure(requirements: Iterable[str]) -> set[str]:
    """The normalised names of the distributions that come with some requirements here, extras of theirs included."""
    names: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        wanted, extra = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = name_of(str(wanted))
        entries = {f"{name}[{e}]" for e in ("", *wanted.extras)} - names
        names |= entries
        try:
            below = [Requirement(text) for text in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            continue
        waiting += [(one, entry.partition("[")[2][:-1]) for entry in entries for one in below]
    return {entry.partition("[")[0] for entry in names}


def modules_outside(distributions: set[str]) -> set[str]:
    """The importable names of everything else that is installed here."""
    own = {*distributions, name_of(PROJECT["name"])}
    owners = metadata.packages_distributions()
    return {module for module, names in owners.items() if not own & {name_of(name) for name in names}}


def gapcheck_without(absent: set[str], *commands: Sequence[Any], cwd: Path) -> list[Outcome]:
    """What each command does, one after the other, in one process that has none of the modules."""
    texts = [[str(argument) for argument in command] for command in commands]
    code = f"ABSENT, COMMANDS, MARK = {absent!r}, {texts!r}, {_MARK!r}\n{_ABSENT}"
    python, env = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(python, capture_output=True, text=True, timeout=300, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    outs, errs = (re.split(rf"{_MARK} (\d+)\n", text) for text in (done.stdout, done.stderr))
    ended = zip(outs[1::2], outs[:-1:2], errs[:-1:2], strict=True)
    return [Outcome(int(status), out, err) for status, out, err in ended]
