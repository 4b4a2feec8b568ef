"""The knockout in words and as a figure: numbers from the summary, claims only where intervals allow them."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

from perception_gap.knockout.summary import summarise
from perception_gap.stats.statistics import mean_ci
from reports.figures import NAMES, figures_of
from reports.knockout import block, finding
from reports.summary import summary_table
from tests.unit.reports.knocked_out import ASKED, knocked_out


def summary(run):
    return run.summary["knockout"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return knocked_out(tmp_path_factory.mktemp("knocked"))


def made(*runs):
    (found,) = [figure for figure in figures_of(runs) if figure.name == "knockout"]
    return found


def test_the_table_has_every_cut_and_the_redrawn_scene(run):
    text = block(summary(run))
    lines = [line for line in text.splitlines() if "nats [" in line and "points" in line]
    assert len(lines) == 16
    first = summary(run)["answer"]["inside"]["change"]
    assert f"{first['mean']:.2f}".replace("-", "−") in lines[0]
    assert "boxed things not drawn" in lines[-1]
    assert text in summary_table(run)


def test_a_difference_is_claimed_only_where_its_interval_excludes_zero(run):
    found = copy.deepcopy(summary(run))
    contrasts = found["contrasts"]["text"]
    number, mass = contrasts["inside_minus_outside_number"], contrasts["inside_minus_outside_mass"]
    number["change"] = {"mean": -2.0, "ci": [-3.0, -1.0], "n": 30}
    mass["change"] = {"mean": -1.0, "ci": [-1.5, -0.5], "n": 20}
    assert "costs 2.00 nats [1.00, 3.00], n = 30, more than cutting as many tokens elsewhere" in finding(found)
    assert "not only because the model looks there most" in finding(found)
    mass["change"] = {"mean": -1.0, "ci": [-1.5, -0.5], "n": 20, "p": 0.06}  # the test does not reject
    assert finding(found).endswith("beyond their share of the attention is not established.")
    mass["change"] = {"mean": -1.0, "ci": [-2.5, 0.5], "n": 20}
    assert "is not established to cost more than cutting tokens elsewhere of the same" in finding(found)
    assert finding(found).endswith("beyond their share of the attention is not established.")
    mass["change"] = {"mean": None, "ci": None, "n": 0}
    assert finding(found).endswith("beyond their share of the attention cannot be told.")
    number["change"] = {"mean": -0.1, "ci": [-0.3, 0.1], "n": 30}
    assert finding(found).endswith("that what is in the boxes decides the answer is not established.")
    number["change"] = {"mean": 0.4, "ci": [0.1, 0.8], "n": 30}
    assert "costs less than cutting as many tokens elsewhere" in finding(found)
    number["change"] = mean_ci([-2.0, -1.0, -3.0, -2.0], null=0).as_dict()
    assert "as many tokens elsewhere (2.00 nats, n = 4: too few to say)" in finding(found)
    number["change"] = {"mean": None, "ci": None, "n": 0}
    assert "undefined (no boxes" in finding(found)


def test_the_figure_draws_what_the_summary_says(run):
    assert "knockout" in NAMES
    figure = made(run)
    left, right = figure.figure.axes
    marks = {line.get_gid(): line for ax in (left, right) for line in ax.lines if line.get_gid()}
    for rows, tokens in (("answer", "inside"), ("text", "outside_mass"), ("question", "image"), ("picture", "redrawn")):
        cut = summary(run)[rows][tokens]
        for what, metric in (("change", cut["change"]), ("accuracy", cut["accuracy"]["difference"])):
            name = f"{what} {rows} {tokens} tiny:student"
            assert marks[f"mean {name}"].get_xdata() == pytest.approx([metric["mean"]])
            assert list(marks[f"interval {name}"].get_xdata()) == pytest.approx(metric["ci"])
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[0].startswith("in the boxes\n")
    assert labels[0].endswith(f"n = {summary(run)['text']['inside']['change']['n']}")
    assert finding(summary(run)) in figure.alt
    figure.figure.savefig(io.BytesIO(), format="png")


def test_a_set_that_no_sample_has_is_called_undefined(run, tmp_path):
    table = run.knockout.copy()
    table.loc[table["tokens"] == "outside_mass", ["change", "log_probability", "change_per_token"]] = np.nan
    run = copy.copy(run)
    run.summary = {**run.summary, "knockout": summarise(table, run.samples, ASKED, 0)}
    texts = [text.get_text() for text in made(run).figure.axes[0].texts]
    assert texts == ["undefined"]


def test_runs_without_a_knockout_have_no_such_figure(run, tmp_path):
    from tests.unit.reports.synthetic_run import write_pair

    teacher, student = write_pair(tmp_path, n=8)
    assert "knockout" not in {figure.name for figure in figures_of([teacher, student])}
    assert "knockout" not in summary_table(student)
    assert len(made(student, run).figure.axes) == 2
