"""`gapcheck analyze --knockout` as a user runs it: what it leaves behind, and what goes wrong in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perception_gap.errors import DamagedError, UsageError
from perception_gap.knockout.conditions import CONDITIONS
from perception_gap.measure.finish import so_far
from perception_gap.runs.parts import Parts
from perception_gap.runs.run import Run
from tests.command import gapcheck

QUICK = ("--max-new-tokens", 4, "--no-figures", "--batch-size", 4, "--device", "cpu")


@pytest.fixture(scope="module")
def model(tiny_checkpoint) -> Path:
    return tiny_checkpoint("qwen2_5_vl")


@pytest.fixture(scope="module")
def run(model, tmp_path_factory) -> Run:
    """Seven scenes, two of them a pair, by a random model that is its own teacher."""
    out = tmp_path_factory.mktemp("knockout") / "run"
    status, said = gapcheck("analyze", model, "--teacher", model, "--limit", 7, "--knockout", "--out", out, *QUICK)
    assert status == 0, said
    assert "Attention knockout in all layers" in said
    return Run.open(out)


def test_every_sample_and_condition_is_a_row_that_adds_up(run):
    table = run.knockout
    assert len(table) == 7 * len(CONDITIONS)
    assert run.info["settings"]["knockout"] == {"layers": "all", "k": 8, "seed": 0}
    known = table.dropna(subset=["change"])
    np.testing.assert_allclose(known["change"], known["log_probability"] - known["base"], atol=1e-5)
    assert (known["base"] < 0).all()
    for (sample_id, _), group in table.groupby(["sample_id", "rows"]):
        by, geometry = group.set_index("tokens"), run.geometry(sample_id)
        if "redrawn" in by.index:
            continue
        share = run.map(sample_id)
        assert by.loc["image", "n_cut"] == len(geometry)
        assert by.loc["image", "mass_cut"] == pytest.approx(1, abs=1e-5)
        assert by.loc["top_k", "mass_cut"] == pytest.approx(np.sort(share)[-8:].sum(), abs=1e-5)
        if not np.isnan(by.loc["outside_number", "n_cut"]):
            assert by.loc["outside_number", "n_cut"] == by.loc["inside", "n_cut"]
        if not np.isnan(by.loc["outside_mass", "n_cut"]):
            assert by.loc["outside_mass", "mass_cut"] == pytest.approx(by.loc["inside", "mass_cut"], rel=0.051)
    unchanged = table[table["changed"].eq(False)].merge(run.samples[["sample_id", "answer"]], on="sample_id")
    assert (unchanged["answer_x"] == unchanged["answer_y"]).all()
    assert "knockout_answers" not in run.samples
    assert all(run.map(i, "knockout") is None for i in run.samples["sample_id"])


def test_the_teachers_pass_is_not_cut(run):
    teacher = run.teacher()
    assert teacher.info["settings"]["knockout"] is None
    assert teacher.knockout is None
    assert "knockout" not in teacher.summary
    assert not (teacher.path / "knockout.parquet").exists()


def test_the_same_command_reuses_every_row_and_another_seed_or_k_none(run, model, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run.path, out)
    common = ("analyze", model, "--teacher", out / "teacher", "--limit", 7, "--knockout", "--out", out, *QUICK)
    before = set(Parts(out).done())
    status, said = gapcheck(*common)
    assert status == 0, said
    assert set(Parts(out).done()) == before
    pd.testing.assert_frame_equal(Run.open(out).knockout, run.knockout)
    assert gapcheck(*common, "--knockout-k", 3, "--knockout-layers", "last1")[0] == 0
    assert len(set(Parts(out).done()) - before) == 7
    again = Run.open(out)
    assert again.info["settings"]["knockout"] == {"layers": "last1", "k": 3, "seed": 0}
    assert again.knockout[again.knockout["tokens"] == "top_k"]["n_cut"].eq(3).all()
    without = [argument for argument in common if argument != "--knockout"]
    assert gapcheck(*without)[0] == 0
    assert Run.open(out).knockout is None
    assert not (out / "knockout.parquet").exists()


def test_what_is_stored_so_far_can_be_summarised(run, tmp_path):
    found = so_far(run.path, tmp_path / "work")
    assert found.summary["knockout"] == run.summary["knockout"]


def test_samples_without_boxes_and_failed_ones_are_undefined_and_counted(run, model, tmp_path):
    folder = run.path / "data"
    (lines,) = folder.glob("*/scenes.jsonl")
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    for record in records:
        record["image"] = str(lines.parent / record["image"])
    del records[0]["boxes"]
    records[1]["image"] = "nowhere.png"
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    out = tmp_path / "run"
    status, said = gapcheck("analyze", model, "--data", tmp_path / "data.jsonl", "--knockout", "--out", out, *QUICK)
    assert status == 0, said
    found = Run.open(out)
    first = found.knockout[found.knockout["sample_id"] == records[0]["id"]].set_index(["rows", "tokens"])["change"]
    assert first["text"][["inside", "outside_number", "outside_mass"]].isna().all()
    assert first["text"][["top_k", "image"]].notna().all()
    assert records[1]["id"] not in set(found.knockout["sample_id"])
    assert found.summary["knockout"]["text"]["inside"]["n_undefined"] == 2
    assert found.summary["knockout"]["text"]["image"]["n_undefined"] == 1
    # A scene is redrawn wherever its picture comes from, but for the failed one and the one without an object.
    assert found.summary["knockout"]["picture"]["redrawn"]["change"]["n"] == 5


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "unfinished run (knockout.parquet is missing)"),
        (lambda path: path.write_bytes(b"PAR1"), "not a whole parquet file"),
        (lambda path: pd.read_parquet(path).drop(columns="mass_cut").to_parquet(path), "column mass_cut is missing"),
        (lambda path: pd.concat([pd.read_parquet(path)] * 2).to_parquet(path), "two rows of sample_id"),
    ],
)
def test_a_damaged_table_is_said_in_one_line(run, tmp_path, damage, words):
    shutil.copytree(run.path, tmp_path / "run")
    damage(tmp_path / "run" / "knockout.parquet")
    with pytest.raises((DamagedError, UsageError)) as error:
        Run.open(tmp_path / "run")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--knockout", "--knockout-layers", "last9"), "layers 'last9': expected"),
        (("--knockout-k", 4), "give --knockout as well"),
        (("--knockout-layers", "all"), "give --knockout as well"),
        (("--knockout", "--knockout-k", 0), "0 is not in the range"),
    ],
)
def test_wrong_options_are_one_line_and_status_two(model, tmp_path, options, words):
    status, said = gapcheck("analyze", model, "--limit", 2, "--out", tmp_path / "run", *QUICK, *options)
    assert status == 2
    assert words in said
    assert not (tmp_path / "run" / "run.json").exists()
