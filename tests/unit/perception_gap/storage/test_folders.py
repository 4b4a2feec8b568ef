"""Names of folders, and whether a command may write into one."""

from __future__ import annotations

import pytest

from perception_gap.errors import UsageError
from perception_gap.storage.folders import claim, named, slug


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen-Qwen2.5-VL-3B-Instruct"), ("tiny:student", "tiny-student"),
        ("../runs/x/model", "runs-x-model"), ("..", "model"), ("東京", "model"), ("a" * 300, "a" * 120),
    ],
)  # fmt: skip
def test_a_name_becomes_a_folder(name, folder):
    assert slug(name) == folder


def test_names_that_would_meet_are_told_apart():
    assert named(["a/b", "a:b", "a-b", "data"], {"data"}) == ["a-b", "a-b-1", "a-b-2", "data-1"]


def test_a_folder_of_somebody_else_is_not_claimed(tmp_path):
    def ours(name: str) -> bool:
        return name == "data"

    claim(tmp_path / "new", "made.json", ours)
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "data").mkdir()
    claim(tmp_path / "new", "made.json", ours)
    (tmp_path / "new" / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"holds other files \(notes\.txt\); choose a new folder"):
        claim(tmp_path / "new", "made.json", ours)
    (tmp_path / "new" / "made.json").touch()
    claim(tmp_path / "new", "made.json", ours)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file/below: cannot be written"):
        claim(tmp_path / "file" / "below", "made.json", ours)
