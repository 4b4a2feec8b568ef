"""A comparison in tables: the summary's own numbers, in every layout."""

import copy
import dataclasses

import pytest

from perception_gap.stats.estimates import side
from reports import tables
from reports.tables import as_text, compared
from reports.tables.model import Cell, Column, Row, Table
from tests.unit.reports.synthetic_comparison import write_comparison
from tests.unit.reports.synthetic_run import Model


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("compared") / "out", failed={"x/broken": "no weights"})


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    models = [Model(f"org/model-{i}-of-eight-and-a-long-name", gain=2.0 + i, accuracy=0.4 + 0.07 * i) for i in range(7)]
    return write_comparison(tmp_path_factory.mktemp("many") / "out", models, n=12)


def by_id(found):
    return {table.id: table for table in tables.build(None, [found])}


def test_the_leaderboard_is_the_summary_most_accurate_first(found):
    table = by_id(found)["leaderboard"]
    told = found.summary["models"]
    accuracies = [row.cells["accuracy"].value for row in table.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies == [pytest.approx(100 * row["accuracy"]["mean"]) for row in told]
    for row, one in zip(table.rows, told, strict=True):
        assert row.cells["focus_score"].value == pytest.approx(100 * one["focus_score"]["mean"])
        assert row.cells["focus_lift"].value == one["focus_lift"]["mean"]
        assert row.cells["failed"].value == one["n_failed"]
        assert ("accuracy_difference" in row.cells) == (one["name"] != "tiny:teacher")
        assert ("kl" in row.cells) == (not one["is_teacher"])
    teacher = next(row for row in table.rows if row.label.startswith("tiny:teacher"))
    assert teacher.label == "tiny:teacher (teacher, baseline)"
    assert "most_pixels" not in teacher.cells


def test_columns_that_no_model_has_are_left_out_and_those_of_later_measures_appear(found):
    keys = [column.key for column in compared.leaderboard(found).columns]
    summary = copy.deepcopy(found.summary)
    for row in summary["models"]:
        for key in ("focus_score", "focus_lift", "focus_score_difference", "sink_share"):
            row.pop(key, None)
        row["focus_chance"] = row["auroc"] = {"mean": None, "ci": None, "n": 0}
    bare = [column.key for column in compared.leaderboard(dataclasses.replace(found, summary=summary)).columns]
    assert {"focus_score", "auroc", "focus_chance"} <= set(keys)
    assert not {"focus_score", "auroc", "focus_chance", "focus_lift", "sink_share"} & set(bare)
    summary["models"][0]["sink_share"] = {"mean": 0.25, "ci": [0.2, 0.3], "n": 28}
    table = compared.leaderboard(dataclasses.replace(found, summary=summary))
    assert table.rows[0].cells["sink_share"].figure == "25.0"
    assert "sink_share" in [column.key for column in table.columns]


def test_the_matrix_is_symmetric_and_marks_what_the_interval_says_of_the_floor(found):
    table = by_id(found)["pairs matrix"]
    rows = {row.label: row.cells for row in table.rows}
    for row in found.summary["pairs"]:
        first, second = found.pair(row)
        assert rows[first][second] == rows[second][first]
        assert rows[first][second].value == row["against_floor"]["value"]["mean"]
        wanted = {1: compared.NEARER, -1: compared.FARTHER, 0: compared.OPEN}
        assert rows[first][second].notes == (wanted[side(row["against_floor"]["difference"])],)
    assert all(label not in cells for label, cells in rows.items())


def test_pairs_show_both_directions_of_kl_which_differ(found):
    table = by_id(found)["pairs"]
    for row, told in zip(table.rows, found.summary["pairs"], strict=True):
        assert row.cells["kl"].value == told["kl"]["mean"]
        assert row.cells["kl_reverse"].value == told["kl_reverse"]["mean"]
        assert row.cells["kl"].figure != row.cells["kl_reverse"].figure
        pair = told["against_floor"]
        for key, name in (("js", "value"), ("js_floor", "floor"), ("floor − JS", "difference")):
            assert (row.cells[key].value, row.cells[key].n) == (pair[name]["mean"], pair["value"]["n"])
        assert row.cells["floor − JS"].signed
    assert "on the 16 × 16 raster" in table.about[0]
    assert [c.key for c in table.columns][-3:] == ["cc", "similarity", "emd"]


def test_agreement_has_each_n_and_a_dash_for_what_is_undefined(found):
    summary = copy.deepcopy(found.summary)
    summary["pairs"][0]["agreement"]["js"]["only_second_right"] = {"mean": None, "ci": None, "n": 0}
    table = compared.agreement(dataclasses.replace(found, summary=summary))
    cell = table.rows[0].cells["only_second_right"]
    assert (cell.figure, cell.count) == ("–", "n 0")
    told = summary["pairs"][0]["agreement"]["js"]
    sizes = [told[key]["n"] for key in ("both_right", "only_first_right", "only_second_right", "both_wrong")]
    assert [table.rows[0].cells[key].n for key in list(compared.AGREEMENT)[:4]] == sizes
    assert sum(sizes) == summary["pairs"][0]["n_samples"]
    for key in ("raw_difference", "right_minus_wrong"):
        assert table.rows[0].cells[key].value == pytest.approx(told[key]["mean"])
    raw = told["both_right"]["mean"] - told["both_wrong"]["mean"]
    assert told["raw_difference"]["mean"] == pytest.approx(raw)


@pytest.mark.parametrize("layout", tables.LAYOUTS)
def test_every_layout_holds_every_table(found, layout):
    text = tables.render(tables.build(None, [found]), layout)
    js = f"{found.summary['pairs'][0]['against_floor']['value']['mean']:.3f}"
    assert text.count(js) >= 3
    assert "x/broken was not measured" in text or layout == "csv"


def test_eight_models_fit_a_terminal_with_intervals_below_their_figures(many):
    text = as_text.render([compared.leaderboard(many, brief=True)])
    assert max(map(len, text.splitlines())) < 160
    lines = text.splitlines()
    row = next(i for i, line in enumerate(lines) if "model-0-of" in line)
    assert "[" not in lines[row]
    assert "[" in lines[row + 1]


def test_a_narrow_table_stays_on_one_line_with_marks_and_notes():
    cells = {"a": Cell(1.5, 1.0, 2.0, 7, decimals=1, notes=("odd",), show_n=True), "b": Cell(None)}
    table = Table("t", "Title", (Column("a", "alpha", "nats", n=9), Column("b", "beta")),
                  (Row("one", "ours", cells, "group"), Row("two", "published", {"a": Cell(3.0, starred=True)})),
                  about=("about",))  # fmt: skip
    lines = as_text.render([table]).splitlines()
    assert lines[0] == "Title"
    assert "alpha (nats), n 9" in lines[2]
    assert lines[4].strip() == "group"
    assert "1.5 a [1.0, 2.0] n 7" in lines[5]
    assert lines[5].rstrip().endswith("–")
    assert "3.00*" in lines[6]
    assert lines[7:] == ["  a: odd", "  * taken from elsewhere by the paper itself", "  about"]


def test_table2_of_a_comparison_is_that_of_its_models(found):
    (table,) = tables.build("table2", [found])
    assert {row.label for row in table.rows if row.source == "ours"} == set(found.labels.values()) - {"broken"}


def test_without_a_common_sample_only_the_leaderboard_is_left(found):
    alone = dataclasses.replace(found, summary={**found.summary, "pairs": []})
    assert [table.id for table in compared.build(alone)] == ["leaderboard"]
