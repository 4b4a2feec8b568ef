import json

import pytest

from tests.command import gapcheck
from tests.unit.reports import synthetic_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    synthetic_run.write_pair(folder, n=14)
    return folder


def test_figures_of_a_run_are_written_beside_it(runs):
    status, printed = gapcheck("figures", runs / "student", "--only", "entropy,focus_accuracy", "--format", "svg")
    folder = runs / "student" / "figures"
    assert status == 0
    # The order of the figures, not of the option.
    assert printed.splitlines() == [f"figure {folder / name}" for name in ("focus_accuracy.svg", "entropy.svg")]
    assert sorted(p.name for p in folder.iterdir()) == ["entropy.svg", "focus_accuracy.svg"]


def test_all_figures_of_a_run_are_png_and_pdf_by_default(runs, tmp_path):
    status, _ = gapcheck("figures", runs / "student", runs / "teacher", "--out", tmp_path / "out")
    names = ("divergence_by_category", "entropy", "focus_accuracy", "salient_regions")
    assert status == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{n}.{k}" for n in names for k in ("pdf", "png")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--only", "entropi"], "--only 'entropi': expected some of leaderboard,"),
        (["--only", ","], "--only ',': names nothing"),
        (["--format", "gif"], "--format 'gif': expected some of png,pdf,svg"),
    ],
)
def test_an_unknown_name_is_one_line_and_writes_nothing(runs, tmp_path, options, says):
    status, printed = gapcheck("figures", runs / "student", "--out", tmp_path / "out", *options)
    assert status == 2
    assert printed.startswith(f"gapcheck: error: {says}")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_allows_no_such_figure_is_an_error(runs, tmp_path):
    status, printed = gapcheck("figures", runs / "student", "--only", "training", "--out", tmp_path / "out")
    assert status == 1
    assert "allow none of the figures training" in printed
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_named_and_the_others_are_drawn(runs, tmp_path):
    growing = tmp_path / "growing"
    growing.mkdir()
    info = json.loads((runs / "student" / "run.json").read_text())
    (growing / "run.json").write_text(json.dumps(info))
    status, printed = gapcheck(
        "figures", growing, runs / "student", "--only", "entropy", "--format", "png", "--out", tmp_path / "out"
    )
    assert status == 0
    assert "growing: unfinished, 0 of 14 samples are stored" in printed
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["entropy.png"]
