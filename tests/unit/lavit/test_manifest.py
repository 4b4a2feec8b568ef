"""Folders that list what was written into them: whole or not, and what is deleted and moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from lavit import manifest
from perception_gap.errors import DamagedError

NAMES = ("config.json", "model.safetensors", "optimizer_0/shard.distcp")


def written(folder: Path, training: str = "t") -> Path:
    for i, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([i]) * 100)
    manifest.write(folder, training)
    return folder


def flip(path: Path, at: int = 50) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_folder_as_it_was_written_is_whole(tmp_path):
    folder = written(tmp_path / "a")
    assert manifest.fault(folder) is manifest.fault(folder, "t") is None
    assert set(manifest.read(folder)["files"]) == set(NAMES)
    assert manifest.fault(folder, "u") == "it is of another training"
    (folder / "notes.txt").write_text("mine")
    assert manifest.fault(folder, "t") is None


@pytest.mark.parametrize("name", NAMES)
def test_every_missing_cut_or_flipped_file_is_named(tmp_path, name):
    path = written(tmp_path / "a") / name
    whole = path.read_bytes()
    flip(path)
    assert manifest.fault(tmp_path / "a") == f"{name} has changed since it was written: its checksum differs"
    path.write_bytes(whole[:-1])
    assert manifest.fault(tmp_path / "a") == f"{name} has 99 bytes, 100 were written"
    path.unlink()
    assert manifest.fault(tmp_path / "a") == f"{name} is missing"
    assert manifest.fault(tmp_path / "a", suffix=".unknown") is None


DAMAGED = {
    "empty": "", "half": "{", "list": "[]", "no training": '{"schema_version": 1, "files": {}}',
    "schema": '{"schema_version": 9, "training": "t", "files": {}}',
    "outside": '{"schema_version": 1, "training": "t", "files": {"../x": {"bytes": 7, "sha256": ""}}}',
}  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_manifest_is_no_whole_folder_and_reaches_nothing_outside(tmp_path, content):
    folder = written(tmp_path / "a")
    (tmp_path / "x").write_text("outside")
    (folder / "notes.txt").write_text("mine")
    (folder / manifest.MANIFEST).write_text(content)
    assert manifest.fault(folder) == "manifest.json is damaged"
    with pytest.raises(DamagedError):
        manifest.read(folder)
    assert manifest.delete(folder) == [folder / "notes.txt"]  # the others have the names that a training gives
    assert (tmp_path / "x").exists()


def test_only_listed_files_are_deleted(tmp_path):
    folder = written(tmp_path / "a")
    assert manifest.delete(folder) == []
    assert not folder.exists()
    folder = written(tmp_path / "b")
    (folder / "mine.safetensors").write_text("mine")
    (folder / "eval").mkdir()
    assert manifest.delete(folder) == [folder / "mine.safetensors"]
    assert sorted(p.name for p in folder.iterdir()) == ["eval", "mine.safetensors"]


def test_nothing_behind_a_link_is_deleted(tmp_path):
    folder, elsewhere = written(tmp_path / "a"), tmp_path / "elsewhere"
    (folder / "optimizer_0").rename(elsewhere)
    (folder / "optimizer_0").symlink_to(elsewhere)
    assert manifest.delete(folder) == [folder / "optimizer_0"]
    assert (elsewhere / "shard.distcp").exists()


def test_a_folder_takes_the_place_of_an_older_one_beside_what_is_not_ours(tmp_path):
    source, target = written(tmp_path / "new", "new"), written(tmp_path / "old", "old")
    (target / "older.pt").write_text("listed")
    manifest.write(target, "old")
    manifest.move(source, target)
    assert not source.exists()
    assert manifest.fault(target, "new") is None
    assert not (target / "older.pt").exists()
    source = written(tmp_path / "new", "newest")
    (target / "notes.txt").write_text("mine")
    manifest.move(source, target)
    assert not source.exists()
    assert manifest.fault(target, "newest") is None
    assert (target / "notes.txt").read_text() == "mine"
