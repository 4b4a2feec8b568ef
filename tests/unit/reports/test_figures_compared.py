"""Figures of a comparison: marks stand where the numbers are, and no words lie on others."""

import copy
import dataclasses

import numpy as np
import pytest

from perception_gap.stats.estimates import side
from reports.figures import figures_of
from reports.style import settle
from tests.unit.reports.synthetic_comparison import write_comparison
from tests.unit.reports.synthetic_run import Model

NAMES = ("leaderboard", "pairs", "agreement")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("compared") / "out")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("two") / "out", [Model("tiny:student", gain=3.0)], n=14)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    models = [Model(f"org/Model{i}-VL-7B-Instruct", gain=1.0 + 2 * i, accuracy=0.3 + 0.1 * i) for i in range(7)]
    return write_comparison(tmp_path_factory.mktemp("eight") / "out", models, n=20)


def made(found):
    return {one.name: one for one in figures_of([found])}


def marks(figure, prefix):
    return {
        artist.get_gid().removeprefix(prefix): artist
        for ax in figure.axes for artist in [*ax.lines, *ax.texts] if (artist.get_gid() or "").startswith(prefix)
    }  # fmt: skip


def test_a_comparison_has_its_own_figures_first_and_those_of_its_models(found):
    names = list(made(found))
    assert tuple(names[:3]) == NAMES
    assert {"focus_accuracy", "entropy", "gap_accuracy"} <= set(names)


def test_points_of_the_leaderboard_stand_at_focus_and_accuracy(found):
    points = marks(made(found)["leaderboard"].figure, "point ")
    for row in found.summary["models"]:
        x, y = points[found.labels[row["name"]]].get_xydata()[0]
        assert (x, y) == pytest.approx((row["focus_score"]["mean"], row["accuracy"]["mean"]))
    chance = marks(made(found)["leaderboard"].figure, "chance")[""]
    assert chance.get_xdata()[0] == pytest.approx(found.summary["models"][0]["focus_chance"]["mean"])


def test_models_look_as_in_the_other_figures(found):
    figures = made(found)
    colors = {name: mark.get_color() for name, mark in marks(figures["leaderboard"].figure, "point ").items()}
    gap = {name: mark.get_color() for name, mark in marks(figures["gap_accuracy"].figure, "point ").items()}
    assert gap.items() <= colors.items()
    assert len(set(colors.values())) == 3


def test_the_heat_map_has_js_below_the_diagonal_and_its_floor_above(found):
    figure = made(found)["pairs"].figure
    texts = {name: text.get_text() for name, text in marks(figure, "js ").items()}
    for row in found.summary["pairs"]:
        below, above = texts[f"{row['second']} {row['first']}"], texts[f"{row['first']} {row['second']}"]
        pair = row["against_floor"]
        assert below.startswith(f"{pair['value']['mean']:.3f}")
        assert above == f"{pair['floor']['mean']:.3f}"
        assert ("▼" in below) == (side(pair["difference"]) == 1)
    values = figure.axes[0].collections[0].get_array()
    assert np.ma.count_masked(values) == 3  # the diagonal


def test_marks_of_the_agreement_stand_at_their_means(found):
    points = marks(made(found)["agreement"].figure, "mean ")
    for row in found.summary["pairs"]:
        for verdict in ("both_right", "both_wrong", "only_first_right", "only_second_right"):
            metric, name = row["agreement"]["js"][verdict], f"{verdict} {row['first']} {row['second']}"
            if metric["mean"] is None:
                assert name not in points
            else:
                assert points[name].get_xdata()[0] == pytest.approx(metric["mean"])


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_its_numbers_in_words(found, name):
    alt = made(found)[name].alt
    for label in found.labels.values():
        assert label in alt
    told = found.summary["pairs"][0]
    numbers = {
        "leaderboard": [f"{100 * row['accuracy']['mean']:.1f} %" for row in found.summary["models"]],
        "pairs": [
            f"{told['against_floor']['value']['mean']:.3f} nats",
            f"floor {told['against_floor']['floor']['mean']:.3f}",
            "on the 16 × 16 raster",
        ],
        "agreement": [f"both right {told['agreement']['js']['both_right']['mean']:.3f}"],
    }
    assert all(number in alt for number in numbers[name])


def boxes(figure):
    """(words, extent) of everything written."""
    settle(figure)
    texts = [t for ax in figure.axes for t in [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]]
    for ax in figure.axes:
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            # A slanted label's extent is that of the box around it.
            texts += [t for at, t in ticks if low <= at <= high and t.get_rotation() == 0]
    texts += [t for legend in figure.legends for t in [*legend.get_texts(), legend.get_title()]]
    texts += [figure._supxlabel] if figure._supxlabel else []
    return [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text().strip() and t.get_visible()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["two", "found", "eight"])
def test_no_words_lie_on_others_or_leave_the_figure(which, name, request):
    figure = made(request.getfixturevalue(which))[name].figure
    placed = boxes(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for i, (words, box) in enumerate(placed):
        assert box.x0 >= -1, words
        assert box.x1 <= width + 1, words
        assert box.y0 >= -1, words
        assert box.y1 <= height + 1, words
        for other, area in placed[i + 1 :]:
            across = min(box.x1, area.x1) - max(box.x0, area.x0)
            down = min(box.y1, area.y1) - max(box.y0, area.y0)
            assert across <= 1 or down <= 2, (words, other)


def test_what_is_undefined_says_so(found):
    summary = copy.deepcopy(found.summary)
    nothing = {"mean": None, "ci": None, "n": 0}
    for row in summary["models"]:
        row.pop("focus_score")
    for row in summary["pairs"]:
        row["js"] = nothing
        row["against_floor"] = dict.fromkeys(row["against_floor"], nothing)
        row["agreement"]["js"] = dict.fromkeys(row["agreement"]["js"], nothing)
    figures = made(dataclasses.replace(found, summary=summary))
    assert "undefined" in figures["leaderboard"].alt
    assert figures["pairs"].alt.count("undefined, n = 0") == 3
    assert "Δ undefined" in figures["agreement"].alt
    without = made(dataclasses.replace(found, summary={**summary, "pairs": []}))
    assert not {"pairs", "agreement"} & set(without)
