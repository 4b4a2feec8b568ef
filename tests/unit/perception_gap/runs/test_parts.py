"""Parts are atomic, keys decide what is reused, damage is not read."""

import numpy as np
import pyarrow as pa
import pytest

from perception_gap.errors import GapcheckError, UsageError
from perception_gap.runs.parts import Parts

SCHEMA = pa.schema({"key": pa.string(), "status": pa.string(), "error": pa.string(), "boxes": pa.list_(pa.float64())})


def row(key: str, **fields) -> dict:
    return {"key": key, "status": "ok", "boxes": [0.0, 0.0, 1.0, 2.0]} | fields


def parts_of(folder, **options) -> Parts:
    return Parts(folder, schema=SCHEMA, **options)


def test_a_part_gives_back_rows_and_arrays_in_the_order_asked_for(tmp_path):
    parts = parts_of(tmp_path)
    parts.write([row("a"), row("b")], {"a/own": np.arange(3.0), "b/own": np.arange(4.0)})
    parts.write([row("c", status="failed", error="no image")], {})
    found = list(parts.read(["c", "b"]))
    assert [r["key"] for r, _ in found] == ["c", "b"]
    assert found[0][0]["error"] == "no image"
    assert found[0][1] == {}
    np.testing.assert_array_equal(found[1][1]["own"], np.arange(4.0))
    assert found[1][0]["boxes"] == [0.0, 0.0, 1.0, 2.0]


def test_a_field_that_the_schema_does_not_know_is_refused_before_anything_is_written(tmp_path):
    parts = parts_of(tmp_path)
    with pytest.raises(ValueError, match="no column for gaze_entropy"):
        parts.write([row("a", gaze_entropy=1.0)], {"a/own": np.arange(3.0)})
    assert parts.done() == {}
    assert not list(parts.folder.glob("*.safetensors"))


def test_rows_that_vanish_under_a_run_are_no_smaller_denominator(tmp_path):
    parts = parts_of(tmp_path)
    parts.write([row("a")], {})
    with pytest.raises(GapcheckError, match="vanished"):
        list(parts.read(["a", "b"]))


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "samples.parquet").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files \(samples\.parquet\)"):
        parts_of(tmp_path, fresh=True)


def test_half_a_part_and_a_torn_part_do_not_count(tmp_path):
    parts = parts_of(tmp_path)
    for key in "abc":
        parts.write([row(key)], {f"{key}/own": np.ones(2)})
    (tmp_path / "parts" / "a.safetensors").unlink()  # killed between the two files
    torn = tmp_path / "parts" / "b.parquet"
    torn.write_bytes(torn.read_bytes()[:40])
    assert set(parts_of(tmp_path).done()) == {"c"}


def test_leftovers_of_a_killed_writer_are_removed_and_fresh_forgets_everything(tmp_path):
    parts_of(tmp_path).write([row("a")], {"a/own": np.ones(2)})
    (tmp_path / "parts" / "x.parquet.123.tmp").touch()
    assert set(parts_of(tmp_path).done()) == {"a"}
    assert not list((tmp_path / "parts").glob("*.tmp"))
    assert parts_of(tmp_path, fresh=True).done() == {}


def test_an_output_that_is_a_file_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file: is a file; expected a folder"):
        parts_of(tmp_path / "file")
