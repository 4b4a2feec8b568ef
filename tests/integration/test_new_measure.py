"""CONTRIBUTING's worked example: a measure is one declaration, and is then in every file, table and page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from perception_gap.compare.pairs import Member, frames
from perception_gap.geometry import TokenGeometry
from perception_gap.metrics.columns import sample_columns
from perception_gap.metrics.table import declared
from perception_gap.runs.run import Run
from perception_gap.storage.files import frame_of
from reports import tables
from reports.page import write_page
from reports.summary import summary_table, written
from reports.tables import compared
from tests.command import gapcheck

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def example() -> dict:
    """The names of the example's code block, after it has run."""
    block = re.search(r"## A measure, worked out.*?```python\n(.*?)```", CONTRIBUTING.read_text("utf-8"), re.DOTALL)
    assert block is not None
    names: dict = {}
    exec(compile(block[1], str(CONTRIBUTING), "exec"), names)
    return names


@pytest.fixture(scope="module")
def folder(example, tmp_path_factory) -> Path:
    """An analysis of six scenes by the embedded pair, with the example's measures."""
    out = tmp_path_factory.mktemp("measure") / "run"
    with declared(example["HELLINGER"], example["LARGEST"]):
        options = ("--data", "scenes:attribute", "--limit", 6, "--per-layer", "--no-figures", "--out", out)
        status, text = gapcheck("analyze", "tiny:student", "--teacher", "tiny:teacher", *options)
    assert status == 0, text
    assert "Hellinger distance, sample" in text
    return out


@pytest.fixture
def run(example, folder):
    with declared(example["HELLINGER"], example["LARGEST"]):
        yield Run.open(folder)


def test_samples_and_words_hold_it_as_its_function_says(run, example):
    teacher, hellinger = run.teacher(), example["hellinger_distance"]
    for row in run.samples.itertuples():
        student, target = run.map(row.sample_id, "shared"), teacher.map(row.sample_id)
        assert row.hellinger == pytest.approx(hellinger(target, student), abs=1e-6)
        assert row.largest_weight == pytest.approx(run.map(row.sample_id).max(), abs=1e-6)
    assert run.samples["hellinger_floor"].notna().any()
    assert run.samples["hellinger_without_sinks"].isna().all()  # states so narrow have no sinks
    words = run.words[run.words["text"] == "shared"]
    assert words["hellinger"].between(0, 1).all()
    assert words["largest_weight"].between(0, 1).all()
    assert run.map(run.samples["sample_id"][0], "layers").shape == (5, 2)


def test_the_summary_has_its_interval_floor_words_and_layers(run):
    hellinger, largest = run.summary["hellinger"], run.summary["largest_weight"]
    assert hellinger["sample"]["mean"] == pytest.approx(run.samples["hellinger"].mean())
    assert hellinger["against_floor"]["difference"]["n"] == run.samples["hellinger_floor"].notna().sum()
    assert hellinger["object"]["n"] > 0
    assert largest["mean"] == pytest.approx(run.samples["largest_weight"].mean())
    assert set(largest) == {"mean", "ci", "n"} | ({"reason"} & set(largest))
    assert run.summary["per_layer"]["by_layer"]["hellinger"]["0"]["n"] == 6


def test_terminal_tables_and_page_show_it(run, tmp_path):
    lines = summary_table(run).splitlines()
    row = next(line for line in lines if line.startswith("Hellinger distance, sample"))
    assert written(run.summary["hellinger"]["sample"]) in row
    row = next(line for line in lines if line.startswith("largest weight"))
    assert written(run.summary["largest_weight"], "%") in row
    assert written(run.teacher().summary["largest_weight"], "%") in row
    text = tables.render(tables.build(None, [run]), "csv")
    assert "largest weight (%)" in text
    assert "Hellinger distance, sample: floor (teacher, other sample)" in text
    page = write_page([run], tmp_path / "page.html", samples=2).path.read_text("utf-8")
    assert "largest weight" in page
    assert "Hellinger distance, sample" in page


def test_pairs_of_models_have_it(run):
    members = (Member("teacher", run.teacher(), "own"), Member("student", run))
    samples, words = frames(members, (8, 8), 0)
    np.testing.assert_allclose(samples["hellinger"], run.samples["hellinger"], atol=1e-6)  # both look on 8 × 8
    assert words["hellinger"].notna().all()
    assert compared.pair_titles()["hellinger"] == ("Hellinger distance", "", 3)


def test_without_the_declaration_the_run_opens_and_the_value_has_no_column(folder):
    run = Run.open(folder)
    assert "Hellinger" not in summary_table(run)
    assert run.geometry(run.samples["sample_id"][0]) == TokenGeometry.grid(8, 8)
    with pytest.raises(ValueError, match="no column for hellinger"):
        frame_of([{"hellinger": 0.5}], sample_columns())
