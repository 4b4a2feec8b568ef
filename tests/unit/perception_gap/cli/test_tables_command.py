"""`gapcheck tables` as a user runs it."""

import pytest

from tests.command import gapcheck
from tests.unit.reports.tables.synthetic_bench import write_bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    models = {"tiny:student": {"scenes_iq": [True, False] * 4}, "tiny:lavit": {"scenes_iq": [True] * 8}}
    return write_bench(tmp_path_factory.mktemp("runs") / "bench", models).path


@pytest.mark.parametrize(
    ("layout", "start"),
    [("md", "**Main results"), ("latex", "% \\usepackage"), ("csv", "table,row"), ("html", "<table")],
)
def test_every_layout_is_printed(bench, layout, start):
    status, said = gapcheck(
        "tables", bench, "--as", "table1", "--row", "tiny:student=Qwen2.5-VL 3B", "--format", layout
    )
    assert status == 0
    assert said.startswith(start)
    assert "tiny:lavit" in said
    assert "+50.00" in said or layout == "csv"  # the gain over the row that the user named


def test_everything_is_printed_without_a_table_of_the_paper(bench):
    status, said = gapcheck("tables", bench, bench)
    assert (status, said.count("Accuracy in percent")) == (0, 1)


def test_the_text_goes_to_a_file(bench, tmp_path):
    status, said = gapcheck("tables", bench, "--as", "table1", "--format", "csv", "--out", tmp_path / "t.csv")
    assert (status, said.strip()) == (0, str(tmp_path / "t.csv"))
    assert (tmp_path / "t.csv").read_text().startswith("table,row,column,source")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--as", "table1", "--row", "tiny:lavit"], "--row 'tiny:lavit': expected MODEL=ROW"),
        (["--as", "table1", "--row", "tiny:lavi=LaViT 3B"], "expected one like tiny:lavit"),
        (["--as", "table1", "--row", "tiny:lavit=LaViT"], "no published row 'LaViT'"),
        (["--as", "table1", "--row", "tiny:lavit=LaViT 3B", "--row", "tiny:lavit=GPT-4o"], "given twice"),
        (["--as", "table1", "--baseline", "nobody"], "--baseline"),
        (["--as", "table2"], "gapcheck bench --gaze"),
        (["--row", "tiny:lavit=LaViT 3B"], "add --as table1"),
        (["--as", "table9"], "table9"),
    ],
)
def test_wrong_usage_is_one_line_with_status_2(bench, arguments, text):
    status, said = gapcheck("tables", bench, *arguments)
    assert status == 2
    assert text in said
    assert said.count("\n") == 1


def test_a_folder_that_is_no_run_is_named(tmp_path):
    status, said = gapcheck("tables", tmp_path)
    assert status == 2
    assert str(tmp_path) in said
