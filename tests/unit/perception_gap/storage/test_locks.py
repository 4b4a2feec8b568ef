"""One command at a time in a folder."""

from __future__ import annotations

import errno
import subprocess
import sys
import time

import pytest

from perception_gap.errors import GapcheckError, UsageError
from perception_gap.storage import locks
from perception_gap.storage.folders import LOCK, ROOM, make
from perception_gap.storage.locks import locked

HOLD = "import sys, time; from pathlib import Path; from perception_gap.storage.locks import locked\n" \
       "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"  # fmt: skip


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_holder_is_named_and_a_killed_one_holds_nothing(tmp_path, holder):
    with pytest.raises(GapcheckError) as refused, locked(tmp_path / ".." / tmp_path.name):
        pass
    assert not isinstance(refused.value, UsageError)
    said = str(refused.value)
    assert f"process {holder.pid} on" in said
    assert "`gapcheck" in said
    assert "since 20" in said
    assert "\n" not in said
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_one_process_may_hold_it_twice_and_leaves_nothing(tmp_path):
    with locked(tmp_path), locked(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_in_the_hands_of_another_is_not_lost_by_trying(tmp_path, holder):
    for _ in range(3):
        with pytest.raises(GapcheckError, match=f"process {holder.pid}"), locked(tmp_path):
            pass


def test_the_other_processes_of_a_command_share_it(tmp_path, holder, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    said = []
    with locked(tmp_path, said.append):
        pass
    assert said == [f"{tmp_path}: cannot be locked (No locks available): see to it that no other command writes there"]


def test_an_interruption_notes_what_is_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt) as stopped, locked(tmp_path), locked(tmp_path / "below"):
        raise KeyboardInterrupt
    assert stopped.value.__notes__[-1] == f"what {tmp_path} holds is kept, the same command goes on with it"


def test_places_that_cannot_be_a_folder_are_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    deep = tmp_path / "/".join(["d" * 200] * 30)
    for out, says in (
        (tmp_path / "file", "is a file; expected a folder"), (tmp_path / "file" / "x", "cannot be written (Not a dir"),
        (deep, "a path of"), (tmp_path / ("n" * 300), "cannot be written (File name too long)"),
        (tmp_path / "a\0b", "cannot be written (embedded null byte)"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as refused:
            make(out)
        assert says in str(refused.value)
        assert len(str(refused.value)) < 600
    assert len("/teacher/parts/") + 2 * 64 < ROOM  # a key, a rank, a temporary name


def test_a_second_command_gets_the_folder_when_the_first_one_ends(tmp_path):
    for _ in range(20):
        with locked(tmp_path):
            time.sleep(0)
    assert not (tmp_path / LOCK).exists()
