"""Checksums: what a run wrote is read as it was written, or not at all."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from perception_gap.errors import DamagedError
from perception_gap.runs.parts import Parts, stored
from perception_gap.runs.run import Run
from perception_gap.storage import checksums, intact
from perception_gap.storage.files import ArrayFile, write_arrays, write_json
from tests.unit.reports import synthetic_run

FLIPS = 12  # bits of each file, spread over it


def flipped(path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << at % 8
    path.write_bytes(content)


def places(path) -> list[int]:
    return np.random.default_rng(0).integers(0, path.stat().st_size, FLIPS).tolist()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    synthetic_run.write_pair(folder, n=4)
    return folder


@pytest.mark.parametrize(
    "name", ["run.json", "summary.json", "samples.parquet", "words.parquet", "maps.safetensors", "hidden.safetensors"]
)
def test_a_flipped_bit_of_a_finished_run_is_named(pair, tmp_path, name):
    run = shutil.copytree(pair / "student", tmp_path / "student")
    whole = (run / name).read_bytes()
    for at in places(run / name):
        flipped(run / name, at)
        with pytest.raises(DamagedError, match=rf"{name}: damaged|written in run schema"):
            Run.open(run)
        (run / name).write_bytes(whole)
    Run.open(run)


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_a_flipped_bit_of_a_part_costs_its_samples_and_is_said(pair, tmp_path, kind):
    run = shutil.copytree(pair / "student", tmp_path / "student")
    (path,) = (run / "parts").glob(f"*.{kind}")
    whole = path.read_bytes()
    for at in places(path):
        flipped(path, at)
        assert stored(run / "parts") == ({}, [path.stem])
        path.write_bytes(whole)
    flipped(path, 100)
    parts = Parts(run)
    assert "1 part is damaged (checksum), or of an older gapcheck: their samples are measured again" in parts.mend()
    assert Parts(run).mend() is None
    assert not list((run / "parts").glob(f"{path.stem}.*"))


def test_maps_of_a_large_file_are_checked_when_they_are_read(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(intact, "WHOLE", 0)
    run = shutil.copytree(pair / "student", tmp_path / "student")
    flipped(run / "maps.safetensors", -5)
    opened = Run.open(run)
    with pytest.raises(DamagedError, match=r"maps\.safetensors: damaged \(.*its checksum differs"):
        [opened.map(*name.rsplit("/", 1)) for name in opened._maps.keys()]  # noqa: SIM118 (no mapping)


def test_files_of_two_runs_do_not_mix(pair, tmp_path):
    run = shutil.copytree(pair / "student", tmp_path / "student")
    shutil.copy(pair / "teacher" / "maps.safetensors", run)
    with pytest.raises(DamagedError, match=r"maps\.safetensors: damaged"):
        Run.open(run)


@pytest.mark.parametrize("value", [-1e-9, np.inf, -np.inf])
def test_a_map_is_finite_and_not_negative(tmp_path, value):
    write_arrays(tmp_path / "a", {"s/own": np.array([0.5, value], np.float32)})
    with pytest.raises(DamagedError, match="s/own is no map"):
        intact.Arrays(tmp_path / "a").map("s/own")


def test_a_row_that_is_undefined_as_a_whole_is_a_map_and_half_a_one_is_not(tmp_path):
    nothing = np.array([[np.nan, np.nan], [0.5, 0.5]], np.float32)
    write_arrays(tmp_path / "a", {"s/own_words": nothing, "s/own": np.array([0.5, np.nan], np.float32)})
    arrays = intact.Arrays(tmp_path / "a")
    np.testing.assert_array_equal(arrays.map("s/own_words"), nothing)
    assert arrays.map("t/own") is None
    with pytest.raises(DamagedError, match="s/own is no map"):
        arrays.map("s/own")


def test_both_writers_of_arrays_say_the_same_and_plain_safetensors_reads_them(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones((0, 4), np.float16)}
    write_arrays(tmp_path / "whole", arrays)
    file = ArrayFile(tmp_path / "piecewise")
    for name, array in arrays.items():
        file.add(name, array)
    checksum = file.close()
    for name in ("whole", "piecewise"):
        found = intact.Arrays(tmp_path / name, checksum)
        assert found.keys() == ["a", "b"]
        assert load_file(tmp_path / name).keys() == arrays.keys()
    with pytest.raises(DamagedError, match="its checksum differs"):
        intact.Arrays(tmp_path / "whole", "0" * 32)


@pytest.mark.parametrize(
    ("array", "other"),
    [
        (np.zeros(4, np.float32), np.zeros(2, np.float64)), (np.zeros((2, 2)), np.zeros(4)),
        (np.zeros(2), np.array([0.0, -0.0])),
    ],
)  # fmt: skip
def test_type_shape_and_every_bit_count(array, other):
    assert checksums.of_array("a", array) != checksums.of_array("a", other)
    assert checksums.of_array("a", array) == checksums.of_array("a", array.copy())
    assert checksums.of_array("a", array) != checksums.of_array("b", array)


def test_arrays_without_checksums_are_not_ours(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "a")
    with pytest.raises(DamagedError, match="its checksum differs"):
        intact.Arrays(tmp_path / "a")


def test_an_object_is_sealed_over_all_that_json_holds(tmp_path):
    value = {"b": (1, 2.5), "a": {"3": None, "é": "\u2028"}, "n": 10**30}
    write_json(tmp_path / "a.json", value)
    read = json.loads((tmp_path / "a.json").read_text())
    assert checksums.intact(read)
    assert list(read) == ["b", "a", "n", "checksum"]
    write_json(tmp_path / "b.json", read)  # written again it is the same
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    for change in ({"b": [1, 2.6]}, {"b": [1]}, {"c": 1}, {"checksum": "0"}):
        assert not checksums.intact(read | change)
    with pytest.raises(DamagedError, match=r"a\.json: damaged \(its checksum differs"):
        intact.require(read | {"n": 3}, intact.Document, tmp_path / "a.json")
