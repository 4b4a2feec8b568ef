"""A model's revision is of its content."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from perception_gap.errors import UsageError
from perception_gap.models import fingerprint
from perception_gap.models.fingerprint import folder_hash
from perception_gap.models.loading import revision_of


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder of files of which the weights are worth remembering, changed long ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprint, "_REMEMBERED", 1000)
    monkeypatch.setattr(fingerprint, "_SETTLED", -1.0)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(4000))
    (folder / "README.md").write_text("a card")
    return folder


def edit_in_place(path, offset: int = 10) -> None:
    """One byte, with size and modification time as they were, as `cp -p` and rsync leave them."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_an_edit_that_keeps_size_and_time_is_another_model(model):
    before = folder_hash(model)
    assert before.startswith("sha256:")
    assert len(before) == len("sha256:") + 16
    edit_in_place(model / "model.safetensors")
    assert folder_hash(model) != before


@pytest.mark.parametrize("name", ["config.json", "merges.txt", "chat_template.jinja", "modeling.py", "spiece.model",
                                  "additional_chat_templates/tool.jinja", "preprocessor_config.json"])  # fmt: skip
def test_every_file_that_decides_the_output_counts(model, name):
    before = folder_hash(model)
    path = model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"a": 1}')
    with_it = folder_hash(model)
    assert with_it != before
    path.write_text('{"a": 2}')
    assert folder_hash(model) not in (before, with_it)


def test_copies_touched_and_renamed_folders_and_other_cards_are_the_same_model(model, tmp_path):
    before = folder_hash(model)
    assert folder_hash(shutil.copytree(model, tmp_path / "copy")) == before
    os.utime(model / "model.safetensors", ns=(1, 1))
    (model / "README.md").write_text("another card")
    (model / "training_args.bin").write_bytes(b"x")
    (model / "runs").mkdir()
    (model / "runs" / "run.json").write_text("{}")
    assert folder_hash(model) == before
    assert folder_hash(model.rename(tmp_path / "renamed")) == before
    (tmp_path / "link").symlink_to(tmp_path / "renamed")
    assert folder_hash(tmp_path / "link") == before


def test_weights_are_read_once(model, monkeypatch):
    read = []
    of_file = fingerprint.checksums.of_file
    monkeypatch.setattr(fingerprint.checksums, "of_file", lambda path: read.append(path.name) or of_file(path))
    first = folder_hash(model)
    assert sorted(read) == ["config.json", "model.safetensors"]
    read.clear()
    assert folder_hash(model) == first
    assert read == ["config.json"]  # small files always are
    edit_in_place(model / "model.safetensors")
    read.clear()
    assert folder_hash(model) != first
    assert sorted(read) == ["config.json", "model.safetensors"]


def test_a_file_that_changed_just_now_is_not_remembered(model, monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprint, "_SETTLED", 3600.0)
    folder_hash(model)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["", "[]", '{"files": {}}', "{" * 9999, None])
def test_a_damaged_cache_is_no_cache(model, tmp_path, damage):
    before = folder_hash(model)
    (kept,) = (tmp_path / "cache").rglob("*.json")
    if damage is None:  # what is remembered is another hash, under a checksum of before
        text = kept.read_text()
        told = json.loads(text)
        damage = text.replace(next(iter(told["files"].values())), "0" * 32)
    kept.write_text(damage)
    assert folder_hash(model) == before


def test_a_home_that_cannot_be_written_costs_time_alone(model, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    before = folder_hash(model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    assert folder_hash(model) == before


def test_processes_that_meet_find_the_same(model):
    code = """import sys
from pathlib import Path
from perception_gap.models import fingerprint
fingerprint._REMEMBERED, fingerprint._SETTLED = 0, -1.0
for _ in range(30):
    print(fingerprint.folder_hash(Path(sys.argv[1])))
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(model)], stdout=subprocess.PIPE) for _ in range(3)]
    said = {line for process in running for line in process.communicate()[0].splitlines()}
    assert said == {folder_hash(model).encode()}
    assert all(process.returncode == 0 for process in running)


def test_a_file_that_cannot_be_read_is_named(model, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(fingerprint.checksums, "of_file", refuse)
    with pytest.raises(UsageError, match=r"config\.json cannot be read \(Permission denied\)"):
        folder_hash(model)


def test_an_adapter_is_itself_and_its_base(model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "config.json").write_text("{}")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    (adapter / "adapter_model.safetensors").write_bytes(bytes(100))
    first = revision_of(str(adapter))
    assert first is not None
    assert revision_of(str(model)) in first
    edit_in_place(model / "model.safetensors")
    second = revision_of(str(adapter))
    edit_in_place(adapter / "adapter_model.safetensors")
    assert len({first, second, revision_of(str(adapter))}) == 3


def test_the_embedded_models_have_a_revision_of_their_content(tmp_path):
    from perception_gap.tiny import WEIGHTS

    assert revision_of("tiny:student") == revision_of(str(shutil.copytree(WEIGHTS / "student", tmp_path / "s")))
    assert revision_of("tiny:student") != revision_of("tiny:teacher")
