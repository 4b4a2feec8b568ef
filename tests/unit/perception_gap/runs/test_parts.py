"""The run directory: parts are atomic, keys decide what is reused, damage is named."""

import json

import numpy as np
import pytest

from perception_gap.errors import GapcheckError, UsageError
from perception_gap.storage.files import aside, write_text
from perception_gap.geometry import TokenGeometry
from perception_gap.runs.parts import Parts
from perception_gap.runs.rows import geometry_fields, geometry_of
from perception_gap.runs.run import Run
from perception_gap.runs.schema import SCHEMA_VERSION


def row(key: str, **fields) -> dict:
    return {"key": key, "sample_id": f"s-{key}", "task": "t", "status": "ok", "boxes": [0.0, 0.0, 1.0, 2.0]} | fields


def test_a_part_gives_back_rows_and_arrays_in_the_order_asked_for(tmp_path):
    parts = Parts(tmp_path)
    parts.write([row("a"), row("b")], {"a/own": np.arange(3.0), "b/own": np.arange(4.0)})
    parts.write([row("c", status="failed", error="no image")], {})
    found = list(parts.read(["c", "b"]))
    assert [r["key"] for r, _ in found] == ["c", "b"]
    assert found[0][0]["error"] == "no image"
    assert found[0][1] == {}
    np.testing.assert_array_equal(found[1][1]["own"], np.arange(4.0))
    assert found[1][0]["boxes"] == [0.0, 0.0, 1.0, 2.0]


def test_a_field_that_the_schema_does_not_know_is_refused_before_anything_is_written(tmp_path):
    parts = Parts(tmp_path)
    with pytest.raises(ValueError, match="no column for gaze_entropy"):
        parts.write([row("a", gaze_entropy=1.0)], {"a/own": np.arange(3.0)})
    assert parts.done() == {}
    assert not list(parts.folder.glob("*.safetensors"))


def test_rows_that_vanish_under_a_run_are_no_smaller_denominator(tmp_path):
    parts = Parts(tmp_path)
    parts.write([row("a")], {})
    with pytest.raises(GapcheckError, match="vanished"):
        list(parts.read(["a", "b"]))


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "samples.parquet").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files \(samples\.parquet\)"):
        Parts(tmp_path, fresh=True)


def test_half_a_part_and_a_torn_part_do_not_count(tmp_path):
    parts = Parts(tmp_path)
    for key in "abc":
        parts.write([row(key)], {f"{key}/own": np.ones(2)})
    (tmp_path / "parts" / "a.safetensors").unlink()  # killed between the two files
    torn = tmp_path / "parts" / "b.parquet"
    torn.write_bytes(torn.read_bytes()[:40])
    assert set(Parts(tmp_path).done()) == {"c"}


def test_leftovers_of_a_killed_writer_are_removed_and_fresh_forgets_everything(tmp_path):
    Parts(tmp_path).write([row("a")], {"a/own": np.ones(2)})
    (tmp_path / "parts" / "x.parquet.123.tmp").touch()
    assert set(Parts(tmp_path).done()) == {"a"}
    assert not list((tmp_path / "parts").glob("*.tmp"))
    assert Parts(tmp_path, fresh=True).done() == {}


def test_an_output_that_is_a_file_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file: is a file; expected a folder"):
        Parts(tmp_path / "file")


def test_writing_replaces_whole_files_only(tmp_path):
    target = tmp_path / "deep" / "run.json"
    write_text(target, "one")
    write_text(target, "two")
    assert target.read_text() == "two"
    assert [p.name for p in target.parent.iterdir()] == ["run.json"]


def test_geometry_survives_a_row():
    tiles = TokenGeometry.concatenate([TokenGeometry.grid(2, 3), TokenGeometry.nowhere(1), TokenGeometry.grid(1, 1)])
    for geometry in (TokenGeometry.grid(3, 5), tiles):
        assert geometry_of(row("a") | geometry_fields(geometry)) == geometry
    assert geometry_fields(TokenGeometry.grid(3, 5))["token_boxes"] == []


def test_opening_names_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match=r"run\.json is missing"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 0}))
    with pytest.raises(UsageError, match="written in run schema 0"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(UsageError, match="in run schema 1, this gapcheck reads 3; run `gapcheck analyze` again"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UsageError, match=r"run schema 4, this gapcheck reads 3; .*upgrade this gapcheck"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    with pytest.raises(UsageError, match=r"run\.json: damaged \(model is missing"):
        Run.open(tmp_path)


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
