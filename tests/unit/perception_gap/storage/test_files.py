"""Files appear whole, under their own names, and nowhere that a link in a folder of results points to."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from perception_gap.errors import GapcheckError, UsageError
from perception_gap.storage.files import ArrayFile, aside, frame_of, new_beside, write_json, write_text
from perception_gap.storage.folders import claim, make_folder


def test_a_link_in_a_folder_of_results_is_replaced_and_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / "run").mkdir()
    for name in ("run.json", "maps.safetensors"):
        (tmp_path / "run" / name).symlink_to(mine)
    (tmp_path / "run" / "dangling").symlink_to(tmp_path / "new")
    (tmp_path / "run" / "folder").symlink_to(tmp_path)
    write_json(tmp_path / "run" / "run.json", {})
    for name in ("dangling", "folder"):
        write_text(tmp_path / "run" / name, "text")
    arrays = ArrayFile(tmp_path / "run" / "maps.safetensors")
    arrays.add("a", np.ones(3, np.float32))
    arrays.close()
    assert mine.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    assert not any(path.is_symlink() for path in (tmp_path / "run").iterdir())
    assert list(load_file(tmp_path / "run" / "maps.safetensors")) == ["a"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "dangling",
        "folder",
        "maps.safetensors",
        "run.json",
    ]


def test_a_link_that_the_user_typed_stays(tmp_path):
    (tmp_path / "page.html").symlink_to(tmp_path / "real.html")
    write_text(tmp_path / "page.html", "text", follow=True)
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "real.html").read_text() == "text"
    write_text(Path("/dev/null"), "text", follow=True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_the_file_that_is_written_aside_has_a_name_nobody_can_know(tmp_path):
    names = {new_beside(tmp_path / "a.json").name for _ in range(20)}
    assert len(names) == 20
    assert all(name.endswith(f".{os.getpid()}.tmp") for name in names)  # whose it is, so that it can be swept
    assert new_beside(tmp_path / ("x" * 255)).is_file()


def test_a_file_that_is_there_already_is_never_written_into(tmp_path, monkeypatch):
    monkeypatch.setattr("perception_gap.storage.files.secrets.token_hex", lambda n: "known")
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / f"a.json.known.{os.getpid()}.tmp").symlink_to(mine)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "a.json", "text")
    assert mine.read_text() == "precious"


def test_a_file_has_the_permissions_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_folder_is_no_file_and_what_fails_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write_text(tmp_path / "folder", "text")
    with pytest.raises(ZeroDivisionError), aside(tmp_path / "a"):
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_folders_of_any_depth_are_made(deep):
    make_folder(deep)
    write_text(deep / "more" / "a", "text")
    assert (deep / "more" / "a").read_text() == "text"


def test_whether_a_folder_may_be_written_is_tried_without_touching_what_is_there(tmp_path):
    mine = tmp_path / "mine"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{os.getpid()}.tmp").symlink_to(mine)
    claim(tmp_path / "run", "run.json", lambda name: True)
    assert not mine.exists()
    with pytest.raises(UsageError, match="is no UTF-8 text"):
        claim(tmp_path / "\udcff", "run.json", lambda name: True)
    with pytest.raises(UsageError, match="cannot be written"):
        claim(tmp_path / ("x" * 300), "run.json", lambda name: True)


def test_a_table_has_the_declared_columns_and_what_a_row_lacks_is_undefined():
    table = frame_of([{"kl": 0.5}, {"sample_id": "s2"}], ["sample_id", "kl"])
    assert list(table.columns) == ["sample_id", "kl"]
    assert table["kl"].tolist() == [0.5, pytest.approx(float("nan"), nan_ok=True)]
    assert list(frame_of([], ("sample_id", "kl")).columns) == ["sample_id", "kl"]


def test_a_field_without_a_column_stops_the_writing_by_name():
    with pytest.raises(ValueError, match="no column for chi_square, emd: declare it beside sample_id, kl"):
        frame_of([{"sample_id": "s1", "kl": 0.5}, {"sample_id": "s2", "emd": 1, "chi_square": 2}], ["sample_id", "kl"])


def test_writing_replaces_whole_files_only(tmp_path):
    target = tmp_path / "deep" / "run.json"
    write_text(target, "one")
    write_text(target, "two")
    assert target.read_text() == "two"
    assert [p.name for p in target.parent.iterdir()] == ["run.json"]


def test_an_array_file_written_piece_by_piece_is_a_safetensors_file(tmp_path):
    from safetensors.numpy import load_file

    from perception_gap.storage.files import ArrayFile

    arrays = {"a/own": np.arange(6, dtype=np.float32).reshape(2, 3), "a/hidden": np.ones((0, 4), np.float16)}
    file = ArrayFile(tmp_path / "maps.safetensors")
    for name, array in arrays.items():
        file.add(name, array)
    assert not (tmp_path / "maps.safetensors").exists()
    file.close()
    loaded = load_file(tmp_path / "maps.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    assert [p.name for p in tmp_path.iterdir()] == ["maps.safetensors"]


def test_a_full_disk_names_the_file(tmp_path):
    says = r"a\.parquet: cannot be written \(No space left\); make room"
    with pytest.raises(GapcheckError, match=says), aside(tmp_path / "a.parquet"):
        raise OSError("No space left")
    with pytest.raises(FileNotFoundError), aside(tmp_path / "a"):
        (tmp_path / "gone").read_bytes()
    assert list(tmp_path.iterdir()) == []
