"""Published figures: as printed, checked on reading, and recomputed with the rounding of their digits."""

from __future__ import annotations

import csv
import io
import math
import re
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks import published
from perception_gap.errors import UsageError
from tests.command import gapcheck

ROOT = Path(__file__).parents[3]

SMALL = """
[paper]
id = "small"
title = "A small paper"
source = "https://example.org"
date = 2026-01-15

[columns.right]
title = "right"
unit = "percent"
n = { questions = 8, pairs = 4 }

[columns.mean]
title = "mean"
unit = "tokens"

[columns.sd]
title = "SD"
unit = "tokens"

[columns.cv]
title = "CV"
unit = "ratio"

[tables.one]
title = "One"
columns = ["right", "mean", "sd", "cv"]

[[tables.one.rows]]
model = "A"
params = "3B"
values = { right = 37.5, mean = 4.0, sd = 1.0, cv = 0.25 }
starred = ["right"]

[[tables.one.rows]]
model = "B"
values = { right = 50, mean = 4.0 }
"""

NOTHING = """
[tables.none]
title = "None"
columns = ["sd"]

[[tables.none.rows]]
name = "nothing"
values = { sd = 0 }
"""


@pytest.fixture
def small(tmp_path):
    """Reads the small paper after replacing some of its text, which must be there, and adding some."""

    def read(*changes: tuple[str, str], more: str = "") -> published.Paper:
        text = SMALL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "small.toml").write_text(text + more)
        return published.load(tmp_path / "small.toml")

    return read


def disagreeing(paper: published.Paper) -> dict[tuple[str, str, str], tuple[str, str]]:
    return {(c.table, c.row, c.column): (c.printed, c.shown) for c in published.checks(paper) if not c.agrees}


@pytest.mark.parametrize(
    ("cell", "printed", "starred", "n"),
    [
        (("table1", "LaViT 3B", "rel_depth"), "78.23", False, 124),
        (("table1", "Qwen2.5-VL 3B", "mmstar"), "50.2", True, 1500),
        (("table1", "LVR_RL 3B", "vstar_attr"), "69.6", True, 115),
        (("table1", "LVR_RL 3B", "rel_depth"), "64.52", False, 124),
        (("table2", "Qwen2.5-VL 3B", "entropy_mean"), "4.870", False, None),
        (("table3", "LaViT 3B, w/o Latent Tokens", "rel_reflectance"), "81.12", False, 134),
        (("tableA1", "epsilon", "value"), "1e-6", False, None),
        (("tableA1", "freeze_vision", "value"), "true", False, None),
        (("tableA2", "LaViT 3B, K = 8, 600 steps", "iq_test"), "22.67", False, 150),
        (("tableA3", "TextCap", "percentage"), "9.50", False, None),
        (("tableA4", "samples", "statistic"), "14567", False, None),
        (("fig2", "Qwen2.5-VL 32B, incorrect answers", "focus"), "0.1184", False, None),
    ],
)
def test_figures_are_kept_as_printed(cell, printed, starred, n):
    figure = published.value("lavit", *cell)
    assert (figure.printed, figure.starred, figure.n) == (printed, starred, n)


def test_every_table_of_the_paper_is_there_in_full():
    counts = {t.id: (len(t.rows), sum(len(row.cells) for row in t.rows)) for t in published.load("lavit").tables}
    assert counts == {
        "abstract": (1, 1), "fig2": (2, 2), "fig3": (4, 4), "table1": (11, 72), "table2": (3, 24), "table3": (6, 30),
        "tableA1": (20, 20), "tableA2": (17, 68), "tableA3": (10, 20), "tableA4": (8, 8),
    }  # fmt: skip


def test_what_is_not_printed_is_none_and_never_zero():
    assert published.value("lavit", "table1", "R1-OneVision 7B", "iq_test") is None
    assert all(figure.model != "R1-OneVision" for figure in published.for_task("blink_iq_test"))


def test_a_name_that_leads_nowhere_raises_with_what_is_near():
    with pytest.raises(UsageError, match="no table of lavit 'tabel1': expected one like table1"):
        published.value("lavit", "tabel1", "LaViT 3B", "mmvp")
    with pytest.raises(UsageError, match="no row of table1 'LaViT-3B': expected one like LaViT 3B"):
        published.value("lavit", "table1", "LaViT-3B", "mmvp")
    with pytest.raises(UsageError, match="no column of table1 'mmvpp': expected one like mmvp"):
        published.value("lavit", "table1", "LaViT 3B", "mmvpp")


def test_text_has_no_value_and_digits_are_counted():
    assert math.isnan(published.value("lavit", "tableA1", "lr_scheduler", "value").value)
    rate = published.value("lavit", "tableA1", "learning_rate", "value")
    assert (rate.value, rate.decimals, rate.half) == (5e-6, 6, Fraction(1, 2 * 10**6))
    assert published.value("lavit", "tableA3", "TextCap", "percentage").decimals == 2
    assert published.value("lavit", "tableA3", "TextCap", "samples").half == 0


def test_a_task_has_its_figures_from_every_table_that_prints_it():
    found = published.for_task("blink_relative_depth")
    assert {figure.table for figure in found} == {"table1", "table3"}
    assert len(found) == 10 + 6
    ours = [(f.model, f.params, f.value, f.n, f.starred, f.paper) for f in found if f.row == "LaViT 3B"]
    assert ours == [("LaViT", "3B", 78.23, 124, False, "lavit")] * 2
    assert published.for_task("no_such_task") == []


def test_each_suite_here_has_published_figures():
    assert all(published.for_task(task) for task in published.TASKS)


def test_seven_figures_of_the_paper_do_not_follow_from_its_others():
    ablated = "LaViT 3B, w/o Latent Tokens"
    assert disagreeing(published.load("lavit")) == {
        ("table2", "Qwen2.5-VL 3B", "salient_cv"): ("0.191", "0.167"),
        ("table2", "LaViT 3B", "salient_cv"): ("0.102", "0.118"),
        ("tableA3", "TextCap", "percentage"): ("9.50", "9.49"),
        ("table1", "GPT-4o", "vstar_attr"): ("72.5", "72.2"),
        ("table1", "LVR 7B", "vstar_attr"): ("84.4", "84.3"),
        ("table3", ablated, "rel_reflectance"): ("81.12", "81.34"),
        ("table3", ablated, "spatial_relation"): ("25.33", "25.17"),
    }


def test_a_shifted_cell_is_traced_to_the_column_whose_questions_fit():
    checks = published.checks(published.load("lavit"))
    remarks = {c.column: c.remark for c in checks if c.row == "LaViT 3B, w/o Latent Tokens" and not c.agrees}
    assert remarks == {
        "rel_reflectance": "but 116 of 143, as in spatial_relation",
        "spatial_relation": "but 38 of 150, as in iq_test",
    }


def test_mmvp_figures_are_shares_of_questions_and_not_of_pairs():
    fits = {(f.column, f.what): (f.fitting, f.figures) for f in published.fits(published.load("lavit"))}
    assert fits["mmvp", "questions"] == (34, 34)
    assert fits["mmvp", "pairs"] == (21, 34)


def test_an_ablation_prints_the_figures_of_another_setting():
    (found,) = published.coincidences(published.load("lavit"))
    assert found.first == ("table3", "LaViT 3B, Single Stage Training")
    assert found.second == ("tableA2", "LaViT 3B, K = 8, 1000 steps")
    assert found.columns == ("mmvp", "iq_test", "rel_reflectance", "spatial_relation")


def test_gains_are_points_and_starred_where_one_side_is():
    found = {(g.table, g.over, g.column): g for g in published.gains(published.load("lavit")) if g.row == "LaViT 3B"}
    assert found["table1", "Qwen2.5-VL 3B", "rel_depth"].points == pytest.approx(16.94, abs=1e-9)
    assert found["table1", "Naive SFT 3B", "mmstar"].points == pytest.approx(-1.46, abs=1e-9)
    assert [key[1:] for key, gain in found.items() if gain.starred] == [("Qwen2.5-VL 3B", "mmstar")]


def test_the_rounding_of_the_inputs_counts_as_agreement(small):
    ratio = '\n[[recompute]]\nkind = "ratio"\ntable = "one"\ncolumn = "cv"\nof = "sd"\nover = "mean"\n'
    assert disagreeing(small(more=ratio)) == {}
    # 0.95 / 4.05 = 0.2346 and 1.05 / 3.95 = 0.2658: prints from 0.23 to 0.27 can come of them, 0.22 cannot.
    for printed, agrees in (("0.23", True), ("0.27", True), ("0.22", False), ("0.28", False), ("0.234", False)):
        found = disagreeing(small(("cv = 0.25", f"cv = {printed}"), more=ratio))
        assert (found == {}) is agrees, printed


def test_a_share_agrees_when_some_whole_number_rounds_to_the_print(small):
    assert disagreeing(small()) == {}
    assert disagreeing(small(("right = 37.5", "right = 37.4"))) == {("one", "A 3B", "right"): ("37.4", "37.5")}
    (check,) = [c for c in published.checks(small(("right = 37.5", "right = 37.4"))) if not c.agrees]
    assert check.remark == "starred: taken from elsewhere"


@pytest.mark.parametrize("n", [7, 124, 143, 300])
def test_every_true_share_passes_and_the_check_matches_a_search_through_all(small, n):
    for k in range(n + 1):
        paper = small(("{ questions = 8, pairs = 4 }", str(n)), ("right = 37.5", f"right = {100 * k / n:.2f}"))
        assert ("one", "A 3B", "right") not in disagreeing(paper)
    for printed in ("0.01", "37.4", "50.1", "99.99", "33.33"):
        half = 0.5 * 10 ** -len(printed.partition(".")[2])
        possible = any(abs(100 * k / n - float(printed)) <= half + 1e-12 for k in range(n + 1))
        paper = small(("{ questions = 8, pairs = 4 }", str(n)), ("right = 37.5", f"right = {printed}"))
        assert (("one", "A 3B", "right") not in disagreeing(paper)) is possible, printed


def test_digits_too_coarse_to_tell_are_not_counted_as_agreement(small):
    assert {c.row for c in published.checks(small()) if c.kind == "k of n"} == {"A 3B", "B"}
    coarse = small(("{ questions = 8, pairs = 4 }", "100"))
    # Of 100 questions every whole percentage is a share; 37.5 is none.
    assert [(c.row, c.agrees) for c in published.checks(coarse)] == [("A 3B", False)]


def test_a_row_in_a_unit_of_its_own_is_no_share_of_questions(small):
    paper = small(('model = "B"', 'model = "B"\nunit = "tokens"'))
    assert [c.row for c in published.checks(paper)] == ["A 3B"]
    assert [(f.n, f.figures) for f in published.fits(paper)] == [(8, 1), (4, 1)]


def test_totals_shares_and_repeats_notice_one_changed_digit(tmp_path):
    text = (published.PAPERS / "lavit.toml").read_text()
    for old, new, cell in (
        ("samples = 4681", "samples = 4680", ("tableA4", "samples", "statistic")),
        ("percentage = 11.31", "percentage = 11.30", ("tableA3", "DocVQA", "percentage")),
        ("largest_gain = 16.9", "largest_gain = 16.8", ("abstract", "LaViT 3B", "largest_gain")),
        ('name = "v_top_dim"\nvalues = { value = 5120', 'name = "v_top_dim"\nvalues = { value = 5121',
         ("tableA4", "teacher feature dimension", "statistic")),
    ):  # fmt: skip
        assert text.count(old) == 1
        (tmp_path / "changed.toml").write_text(text.replace(old, new))
        assert cell in disagreeing(published.load(tmp_path / "changed.toml"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "One"', 'titel = "One"', "tables.one: no key 'titel': expected one like title"),
        ('title = "One"', "", "tables.one: lacks 'title'"),
        ("date = 2026-01-15", 'date = "2026"', "paper.date: is '2026'; expected a date such as 2026-01-15"),
        ("right = 37.5", 'right = "37.5"', "tables.one.rows.'A 3B'.right: is '37.5'; expected a number (percent)"),
        ("right = 37.5", "right = true", "tables.one.rows.'A 3B'.right: is True; expected a number (percent)"),
        ("right = 37.5", "right = 137.5", "rows.'A 3B'.right: is 137.5 percent; expected a number from 0 to 100"),
        ("right = 37.5", "right = nan", "tables.one.rows.'A 3B'.right: is nan percent"),
        ("sd = 1.0", "sd = -1.0", "tables.one.rows.'A 3B'.sd: is -1.0 tokens; expected a number of at least 0"),
        ('unit = "tokens"', 'unit = "token"', "columns.mean.unit: no unit 'token': expected one like tokens"),
        ('starred = ["right"]', 'starred = ["wrong"]', "rows.1: no starred column 'wrong': expected right, mean"),
        ("mean = 4.0 }", "maen = 4.0 }", "tables.one: no column for row 'B': 'maen': expected one like mean"),
        ('model = "B"', 'model = "A"\nparams = "3B"', "tables.one: row 'A 3B' appears twice"),
        ('model = "B"', "", "tables.one.rows.2: has no name"),
        ("pairs = 4", "pairs = 0", "columns.right.n.pairs: is 0; expected a whole number above 0"),
        ('title = "SD"', 'title = "SD"\ntask = "mmvpp"', "columns.sd.task: no lmms-eval task here, nor in other_tasks"),
        ('model = "B"', 'model = "B"\nsettings = { value = 3 }', "rows.2: settings: 'value' is the name of a column"),
        ("[tables.one]", "[tables.one", "not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_place_and_what_was_expected(small, tmp_path, old, new, said):
    with pytest.raises(UsageError) as error:
        small((old, new))
    assert said in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'small.toml'}: ")


def test_a_task_beside_the_suites_is_allowed_when_it_is_stated(small):
    task = ('title = "right"', 'title = "right"\ntask = "mathvista"')
    with pytest.raises(UsageError, match="other_tasks"):
        small(task)
    paper = small(task, ('id = "small"', 'id = "small"\nother_tasks = ["mathvista"]'))
    assert [figure.value for figure in published.for_task("mathvista", [paper])] == [37.5, 50.0]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('kind = "rato"', "recompute.1: no kind 'rato': expected one like ratio"),
        ('kind = "total"\ntable = "one"\ncolumn = "sd"\ncell = ["one", "A 3B"]', "expected [table, row, column]"),
        ('kind = "total"\ntable = "one"\ncolumn = "sd"\ncell = ["one", "C", "sd"]', "no row of one 'C'"),
        ('kind = "total"\ntable = "one"\ncolumn = "sd"\ncell = ["one", "B", "sd"]', "one/B/sd: nothing is printed"),
        ('kind = "share"\ntable = "none"\ncolumn = "right"\nof = "sd"', "none: sd adds up to 0"),
        ('kind = "same rows"\nrows = [["one", "B"]]', "recompute.1.rows: is [['one', 'B']]; expected two or more"),
    ],
)
def test_a_recomputation_that_leads_nowhere_is_refused_on_reading(small, entry, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        small(more=f"\n[[recompute]]\n{entry}\n{NOTHING}")


def test_the_frame_is_tidy_and_has_the_settings_as_columns():
    frame = published.frame(tables=["tableA2"])
    assert len(frame) == 68
    row = frame[(frame.num_latent_tokens == 8) & (frame.total_steps == 600) & (frame.column == "mmvp")]
    assert row[["model", "params", "value", "n", "task"]].values.tolist() == [["LaViT", "3B", 63.33, 300, "mmvp"]]
    assert frame[frame.group == "reference"].num_latent_tokens.isna().all()
    assert list(frame.columns[: len(published.RECORD)]) == list(published.RECORD)


def test_the_files_that_ship_are_named_by_their_ids_and_are_package_data():
    assert "lavit" in published.papers()
    assert all(published.load(name).id == name for name in published.papers())
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "published/papers/*.toml" in data["benchmarks"]


def test_the_worked_example_of_the_documentation_loads_and_recomputes(tmp_path):
    (block,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "published.md").read_text(), re.M | re.S)
    (tmp_path / "lvr.toml").write_text(block)
    paper = published.load(tmp_path / "lvr.toml")
    assert disagreeing(paper) == {}
    assert [gain.points for gain in published.gains(paper)] == [5.0]
    # The row that LaViT quotes is the one in LaViT's table, stars included.
    for figure in paper.figures(["quoted"]):
        quoted = published.value("lavit", "table1", figure.row, figure.column)
        assert (figure.printed, figure.starred) == (quoted.printed, quoted.starred)
    status, text = gapcheck("published", tmp_path / "lvr.toml")
    assert status == 0
    assert "| LVR_RL 3B | 55.3*  | 69.6*           |" in text


def test_the_documentation_lists_what_the_command_finds():
    document = (ROOT / "docs" / "published.md").read_text()
    checks = published.checks(published.load("lavit"))
    assert f"{sum(c.agrees for c in checks)} of {len(checks)} agree" in document
    for printed, shown in disagreeing(published.load("lavit")).values():
        assert f"| {printed} | {shown} |" in document


def test_the_command_prints_papers_tables_stars_and_what_does_not_recompute():
    status, text = gapcheck("published")
    assert status == 0
    assert "# lavit: LaViT" in text
    assert re.search(r"\| PAPO 3B +\| 50\.0\* +\| 22\.61\* +\| 59\.68 +\|", text)
    assert re.search(r"\| R1-OneVision 7B +\| 67\.0\* +\|( +\|){5} 52\.1\* +\|", text)
    assert re.search(r"\| Qwen2.5-VL 3B +\| salient_cv +\| 0.191 +\| 0.167 +\| 9.0 / 53.8 +\|", text)
    assert "191 of 198 recomputations agree with the print" in text


def test_one_table_shows_its_own_recomputations_only():
    status, text = gapcheck("published", "lavit", "--table", "tableA3")
    assert status == 0
    assert "## tableA3" in text
    assert "## table1" not in text
    assert "9 of 10 recomputations agree with the print" in text


def test_all_recomputations_and_gains_are_shown_on_request():
    status, text = gapcheck("published", "lavit", "--table", "table1", "--check")
    assert status == 0
    assert re.search(r"\| GPT-4o +\| vstar_attr +\| 72.5 +\| 72.2 +\| 83 of 115 questions +\| no +\|", text)
    assert re.search(r"\| LaViT 3B +\| \+5\.00 +\| \+0\.87 +\| \+16\.94 +\|.*\| \+3\.87\* +\|", text)
    assert re.search(r"\| PAPO 3B +\| iq_test +\| 31\.33\* +\| 31\.33 +\|", text)
    assert "## table1: Main results" not in text


def test_csv_has_one_line_a_figure_or_a_recomputation():
    status, text = gapcheck("published", "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert status == 0
    assert len(lines) == 249
    depth = [line for line in lines if line["row"] == "LaViT 3B" and line["column"] == "rel_depth"]
    assert [(line["table"], line["printed"], line["n"]) for line in depth] == [
        ("table1", "78.23", "124"), ("table3", "78.23", "124"),
    ]  # fmt: skip
    checks = list(csv.DictReader(io.StringIO(gapcheck("published", "--format", "csv", "--check")[1])))
    assert (len(checks), sum(line["agrees"] == "False" for line in checks)) == (198, 7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lavitt",), "no paper 'lavitt': expected one like lavit, or a file NAME.toml"),
        (("lavit", "--table", "tabel3"), "no table of lavit 'tabel3': expected one like table3"),
        (("nowhere.toml",), "nowhere.toml: cannot be read (No such file or directory)"),
    ],
)
def test_an_unknown_paper_or_table_ends_with_two_and_what_is_near(arguments, said):
    status, text = gapcheck("published", *arguments)
    assert status == 2
    assert said in text


def test_listing_needs_neither_torch_nor_pandas():
    code = "import sys; from benchmarks import published as p; p.checks(p.load('lavit')); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "pandas", "lmms_eval", "transformers"} & set(loaded.split())
