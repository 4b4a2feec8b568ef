"""Tables of cells: nothing is read as a number, nothing ends a cell of Markdown too early."""

from __future__ import annotations

from perception_gap.grid import grid

LINES = [["a", "1.50"], ["longer", "10"]]


def test_cells_stay_as_written_and_columns_are_aligned():
    assert grid(("name", "n"), LINES, right=[1]).splitlines() == [
        "name       n",
        "------  ----",
        "a       1.50",
        "longer    10",
    ]


def test_markdown_is_a_table_whose_pipes_are_escaped_once():
    text = grid(("name", "a|b"), [["x|y", r"x\|y"]], "markdown")
    head, rule, line = text.splitlines()
    assert r"a\|b" in head
    assert set(rule) == {"|", "-"}
    assert [cell.strip() for cell in line.strip("|").split(" | ")] == [r"x\|y", r"x\|y"]


def test_a_short_line_is_filled_and_no_line_leaves_the_head():
    assert grid(("a", "b"), [["only"]]).splitlines()[-1].rstrip() == "only"
    assert grid(("a", "b"), []).splitlines()[0].split() == ["a", "b"]


def test_blanks_before_a_cell_stay():
    assert grid(("a",), [["  inside"]]).splitlines()[-1] == "  inside"
