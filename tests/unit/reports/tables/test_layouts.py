"""The four layouts of one table: what they say is the same, and each obeys its own grammar."""

import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from reports import tables
from reports.tables import as_csv, as_html, as_latex, as_markdown, as_text
from reports.tables.as_latex import escaped
from reports.tables.model import Cell, Column, Row, Table, mark, padded
from tests.unit.reports.tables.synthetic_bench import write_bench

NASTY = r"a_b & 100% <i> #1 {x} \y ~z^2 | é"


def cell(value, **more):
    return Cell(value, **more)


TABLE = Table(
    "t_1",
    f"Caption of {NASTY}",
    (Column("x", "accuracy of the task", n=200, notes=("of the column",)), Column("y", "entropy", "nats")),
    (
        Row(
            NASTY,
            "ours",
            {"x": cell(9.5, low=8.25, high=10.0, n=200, rank="best"), "y": cell(4.0, decimals=3)},
            "g & h",
        ),
        Row("Paper 3B", "published", {"x": cell(82.6, printed="82.6", starred=True, notes=("off by 1 %",))}, "g & h"),
        Row("none", "ours", {"x": cell(None, n=0, show_n=True), "y": cell(-1.23456, decimals=3, rank="second")}),
        Row("d", "difference", {"x": cell(-0.001, signed=True, low=-1.0, high=1.0)}),
    ),
    about=("all of it: 50 %",),
)


def test_figures_keep_printed_digits_and_signs_and_lose_minus_zero():
    assert (cell(82.6, printed="82.60").figure, cell(82.6).figure) == ("82.60", "82.60")
    assert (cell(1.0, signed=True).figure, cell(-1.0, signed=True).figure) == ("+1.00", "−1.00")
    assert cell(-0.001, signed=True).figure == "+0.00"
    assert (cell(None).figure, cell(float("nan")).figure) == ("–", "–")
    assert cell(None, low=1.0, high=2.0).interval == ""
    assert (cell(0.0004, p_value=True).figure, cell(0.04, p_value=True, decimals=3).figure) == ("< 0.001", "0.040")


def test_points_of_a_column_stand_below_each_other():
    width = TABLE.padding(TABLE.columns[0])
    places = set()
    for row in TABLE.rows:
        before, after = padded(row.cells["x"].figure, width)
        text = before + row.cells["x"].figure + after
        whole = row.cells["x"].figure.partition(".")[0]
        places.add((len(before) + len(whole), len(text)))
    assert len(places) == 1


def test_footnotes_are_lettered_in_reading_order():
    assert TABLE.marks == {"of the column": "a", "off by 1 %": "b"}
    assert [mark(i) for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]


def test_csv_is_tidy_and_plain():
    lines = list(csv.DictReader(io.StringIO(tables.render([TABLE], "csv"))))
    assert list(lines[0]) == ["table", "row", "column", "source", "value", "low", "high", "n", "starred", "note"]
    assert len(lines) == sum(len(row.cells) for row in TABLE.rows)
    assert [lines[0][k] for k in ("row", "value", "low", "high", "n", "starred")] == [
        NASTY,
        "9.5",
        "8.25",
        "10",
        "200",
        "false",
    ]
    published = next(line for line in lines if line["source"] == "published")
    assert (published["value"], published["starred"], published["note"]) == (
        "82.6",
        "true",
        "of the column; off by 1 %",
    )
    nothing = next(
        line for line in lines if line["row"] == "none" and line["column"] == "accuracy of the task (percent)"
    )
    assert (nothing["value"], nothing["n"]) == ("", "0")


def test_markdown_has_as_many_cells_a_line_and_escapes():
    text = tables.render([TABLE], "md")
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in grid} == {5}
    assert "**9.50**" in text
    assert "<u>−1.235</u>" in text
    assert "82.6\\*<sup>b</sup>" in text
    assert r"a\_b" in text
    assert "[8.25, 10.00]" in text
    assert "– n 0" in re.sub("[\u2007\u2008]", "", text)
    assert "- <sup>b</sup> off by 1 %" in text
    assert "- \\* taken from elsewhere by the paper itself" in text
    assert "n 200" in text


class Reader(HTMLParser):
    """Every tag closed, no style; the text of each cell."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.found = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert "style" not in attributes
        self.found.append((tag, attributes))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            assert tag == "td" or "scope" in attributes
            self.rows[-1].append([int(attributes.get("colspan", 1)), ""])
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1][1] += text


def test_html_is_a_closed_table_of_scoped_heads_and_escaped_text():
    text = tables.render([TABLE], "html")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert {sum(span for span, _ in row) for row in reader.rows} == {4}
    assert [tag for tag, _ in reader.found if tag in ("table", "caption", "thead", "tfoot")] == [
        "table", "caption", "thead", "tfoot",
    ]  # fmt: skip
    assert "<i>" not in text
    assert ("td", {"class": "number"}) in reader.found
    assert any(row and row[0][1] == NASTY for row in reader.rows)
    assert {a["scope"] for tag, a in reader.found if tag == "th"} == {"col", "row", "rowgroup"}


def check_grammar(text):
    """Environments and braces closed in order, as many cells a line as columns, every special character escaped."""
    assert text.isascii() or all(c.isalpha() for c in text if not c.isascii())
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text.replace(r"\\", "  ")):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    for body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        align, lines = body
        for line in lines.splitlines():
            if not line.endswith(r" \\"):
                assert line in ("", r"\toprule", r"\midrule", r"\bottomrule"), line
                continue
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            cells = len(re.findall(r"(?<!\\)&", line)) + 1 + sum(n - 1 for n in spans)
            assert cells == len(align), line
    prose = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)[%#]", prose)
    assert not re.search(r"(?<!\\)_", re.sub(r"\\label\{[^}]*\}", "", prose))


def test_latex_obeys_its_grammar():
    text = tables.render([TABLE, TABLE], "latex")
    check_grammar(text)
    assert r"\textbf{9.50}" in text
    assert r"\underline{$-$1.235}" in text
    assert r"82.6\rlap{*\textsuperscript{b}}\phantom{0}" in text
    assert r"\toprule" in text


def test_the_grammar_check_finds_faults():
    good = tables.render([TABLE], "latex")
    faults = [(r"\&", "&"), (r"\%", "%"), (r"\_", "_"), (r"\end{tabular}", ""), (r"\textbf{9.50}", r"\textbf{9.50")]
    for right, wrong in [*faults, ("difference & ", "difference ")]:
        bad = good.replace(right, wrong)
        assert bad != good
        with pytest.raises((AssertionError, IndexError)):
            check_grammar(bad)


def test_every_special_character_is_escaped():
    assert escaped(r"_&%#${}") == r"\_\&\%\#\$\{\}"
    assert escaped("\\~^") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}"
    assert escaped("−–‖é字") == r"$-$--$\Vert$é?"


def has_booktabs() -> bool:
    """Debian's texlive-latex-base has pdflatex and not the package."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_booktabs(), reason="pdflatex with booktabs is not installed; the grammar check above runs")
def test_latex_compiles_with_booktabs(tmp_path, pair):
    bench = {
        "tiny:lavit": {"blink_relative_depth": [True, False] * 5, "mmvp": [True] * 4},
        "a_b&c%": {"mmvp": [False] * 4},
    }
    source = write_bench(tmp_path / "b", bench, gaze=True)
    made = [table for kind in (*tables.KINDS, None) for table in tables.build(kind, [source, pair[1]])]
    text = tables.render([TABLE, *made], "latex")
    check_grammar(text)
    head = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[margin=1cm]{geometry}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(
        head + text.replace("\n\n\\begin{table*}", "\n\\clearpage\\begin{table*}") + "\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "t.log").read_text(errors="replace")


HOSTILE = "=1|2\n\n[a](http://x.y) `rm` <b> & ~x~ \x1b[31m\u202e www.x.y"


def hostile() -> list[Table]:
    columns = (Column("a", HOSTILE),)
    rows = (Row(HOSTILE, "ours", {"a": Cell(-1.5, printed="-1.5", notes=(HOSTILE,))}, group=HOSTILE),)
    return [Table("t", HOSTILE, columns, rows, about=(HOSTILE,))]


def test_names_of_somebodys_run_stay_texts_in_every_layout():
    latex, html, markdown = as_latex.render(hostile()), as_html.render(hostile()), as_markdown.render(hostile())
    assert "\n\n=" not in latex  # a paragraph inside a cell ends LaTeX
    assert "<b>" not in html
    grid = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {re.sub(r"\\.", "", line).count("|") for line in grid} == {3}  # the stub and one column
    assert not re.search(r"(?<!\\)[`\[<&~]|://|www\.", markdown.replace("<sup>", "").replace("</sup>", ""))
    cells = list(csv.reader(io.StringIO(as_csv.render(hostile()))))[1]
    assert cells[1] == "'" + HOSTILE
    assert cells[4] == "-1.5"
    for text in (latex, markdown, as_text.render(hostile())):
        assert "\x1b" not in text
        assert "\u202e" not in text
