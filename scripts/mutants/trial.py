"""Running tests on a changed module in a fork of a process that has imported the heavy libraries once."""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest


class _Loader(SourceFileLoader):
    """Loads a module from a syntax tree in place of its file."""

    tree: ast.Module

    def get_code(self, fullname: str) -> Any:
        return compile(self.tree, self.path, "exec")


class _Finder:
    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path = name, path
        self.loader = _Loader(name, str(path))
        self.loader.tree = tree

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self.path, loader=self.loader) if fullname == self.name else None


class Watch:
    """A pytest plugin: which lines of a file each test runs, how long it takes, what fails.

    lines: test → lines. shared: lines that ran outside of a test's own call (on import, in a fixture that several tests
    share), so that any test may depend on them.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._now = str(file), set[int]()
        self.lines: dict[str, list[int]] = {}
        self.shared: list[int] = []
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def trace(self, frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != self._file:
            return None
        self._now.add(frame.f_lineno)
        return self.trace

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ran, self._now = self._now, set()
        sys.settrace(self.trace)  # a test may have set its own
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.when == "call":
            self.lines[report.nodeid] = sorted(ran)
        else:
            self.shared = sorted({*self.shared, *ran})
        if report.failed:
            self.failed.append(report.nodeid)

    def facts(self) -> dict[str, Any]:
        modules = [name for name, module in sys.modules.items() if _is_foreign(module)]
        shared = sorted({*self.shared, *self._now})
        return {"lines": self.lines, "shared": shared, "seconds": self.seconds, "failed": self.failed, "warm": modules}


class Chosen:
    """A pytest plugin: only the chosen tests, in their order; keeps the first that fails."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._rank = {test: i for i, test in enumerate(tests)}
        self.failed: str | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self._rank), key=lambda item: self._rank[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def _is_foreign(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and getattr(module, "__spec__", None) is not None and Path.cwd() not in Path(file).parents


def warm(names: Sequence[str]) -> None:
    """Import what the tests import besides the project, so that no fork pays for it."""
    for name in names:
        with suppress(ImportError):  # names that only exist inside the test run
            importlib.import_module(name)


def forked(work: Callable[[Path], Any], limit_s: float | None = None) -> tuple[Any, int]:
    """What `work(folder)` gives in a fork of this process (None where it ended early), and the signal that ended it.

    limit_s: after which SIGALRM ends it. The folder is a temporary one.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        answer = Path(folder) / "answer.json"
        sys.stdout.flush()
        gc.freeze()  # a collection in the fork would copy every page of the libraries
        child = os.fork()
        if not child:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            if limit_s:
                signal.setitimer(signal.ITIMER_REAL, limit_s)
            try:
                answer.write_text(json.dumps(work(Path(folder))))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return (json.loads(answer.read_text()) if answer.exists() else None), ended


def pytest_in(folder: Path, tests: Sequence[str], plugin: object) -> int:
    # Without what only helps a reader of failures: two thirds of the time of a short test.
    flags = ["-x", "-q", "--assert=plain", f"--basetemp={folder / 'tmp'}"]
    for unneeded in ("cacheprovider", "unraisableexception", "threadexception", "xdist"):
        flags += ["-p", f"no:{unneeded}"]
    return int(pytest.main([*flags, *tests], plugins=[plugin]))


def baseline(file: Path, tests: Sequence[str]) -> dict[str, Any]:
    """`Watch.facts` of the tests on the module as it is."""

    def run(folder: Path) -> dict[str, Any]:
        watch = Watch(file)
        sys.settrace(watch.trace)
        code = pytest_in(folder, tests, watch)
        sys.settrace(None)
        return watch.facts() | {"code": code}

    facts, _ = forked(run)
    if facts is None or facts["code"]:
        failed = facts["failed"] if facts else []
        raise SystemExit(f"{file}: its tests do not pass unchanged ({', '.join(failed) or ' '.join(tests)})")
    return facts


def trial(name: str, file: Path, mutated: Callable[[], ast.Module], tests: Sequence[str], limit_s: float) -> Any:
    """{"code", "failed"} of the tests on the module changed; code is "timeout" or "crash" where they never ended."""

    def run(folder: Path) -> dict[str, Any]:
        sys.meta_path.insert(0, _Finder(name, file, mutated()))  # type: ignore[arg-type]
        chosen = Chosen(tests)
        files = sorted({test.split("::")[0] for test in tests})
        return {"code": pytest_in(folder, files, chosen), "failed": chosen.failed}

    began = time.monotonic()
    result, ended = forked(run, limit_s)
    if result is None:
        result = {"code": "timeout" if ended == signal.SIGALRM else "crash", "failed": None}
    return result | {"seconds": time.monotonic() - began}
