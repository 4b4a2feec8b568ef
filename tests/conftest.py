"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a red CI then means the change, not the draw.
settings.register_profile("gapcheck", derandomize=True)
settings.load_profile("gapcheck")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """kind (see tests/models.py) → folder of a tiny random checkpoint with its processor, built once a session."""
    from tests.models import checkpoint

    built: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in built:
            built[kind] = checkpoint(kind, tmp_path_factory.mktemp(kind))
        return built[kind]

    return folder


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder 1200 levels deep that is not there yet; gone afterwards, since pytest's own cleaning is recursive."""
    folder = tmp_path.joinpath(*["d"] * 1200)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    for above in folder.parents[: len(folder.parts) - len(tmp_path.parts) - 1]:
        above.rmdir()


@pytest.fixture(scope="session", autouse=True)
def _users_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What gapcheck keeps for a user (the key that signs runs) is the tests' own, also in processes they start."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
