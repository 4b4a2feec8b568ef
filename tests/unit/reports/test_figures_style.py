"""Files of figures: the same figure is the same file, and an SVG stands in a page beside others."""

import itertools
import re
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from perception_gap.errors import GapcheckError
from reports.figures import figures_of
from reports.style import FLOOR, MUTED, RC, fitted, look, new_figure, save, svg, width_of


@pytest.fixture(scope="module")
def made(pair):
    return {made.name: made.figure for made in figures_of([pair[1]])}


def ids(text):
    return re.findall(r'\bid="([^"]*)"', text)


def test_an_svg_is_well_formed_and_its_ids_begin_with_its_name_and_stand_once(made):
    for name, figure in made.items():
        text = svg(figure, name)
        assert ET.fromstring(text).tag.endswith("svg")
        assert text.startswith("<svg ")
        found = ids(text)
        assert len(found) == len(set(found)) > 20
        assert all(one == name or one.startswith(f"{name}-") for one in found)
        assert not any(re.search(r"\s", one) for one in found)
        references = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
        assert references
        assert set(references) <= set(found)


def test_two_figures_in_one_page_share_no_id(made):
    one, two = (set(ids(svg(made[name], name))) for name in ("entropy", "salient_regions"))
    assert not one & two


def test_ink_takes_the_colours_of_the_page(made):
    text = svg(made["focus_accuracy"], "focus_accuracy") + svg(made["divergence_by_category"], "divergence_by_category")
    assert "currentColor" in text
    assert f"var(--muted, {MUTED})" in text
    assert f"var(--floor, {FLOOR})" in text
    bare = re.sub(r"var\(--\w+, #\w+\)", "", text)
    assert not any(ink in bare for ink in ("#262626", "#000000", "#ffffff", MUTED, FLOOR))
    assert "font-family" not in text
    assert "<text" in text  # letters, not outlines


def test_the_style_sheet_of_an_svg_reaches_no_further_than_itself(made):
    sheet = re.search(r"<style[^>]*>(.*?)</style>", svg(made["entropy"], "entropy"), re.DOTALL)
    assert sheet is not None
    assert sheet[1].strip().startswith("#entropy *{")


def test_the_same_figure_is_the_same_file_however_often_it_is_drawn(made, tmp_path, pair):
    figure = made["entropy"]
    first, again = (save(figure, tmp_path / run, "entropy", ("png", "pdf", "svg")) for run in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert svg(figure, "e") == svg(figure, "e")
    fresh = next(one.figure for one in figures_of([pair[1]]) if one.name == "entropy")
    assert svg(fresh, "e") == svg(figure, "e")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["entropy.pdf", "entropy.png", "entropy.svg"]


def test_other_data_are_another_svg(made):
    assert svg(made["entropy"], "x") != svg(made["salient_regions"], "x")


def test_a_drawing_that_breaks_off_leaves_the_old_file_and_nothing_else(made, tmp_path, monkeypatch):
    (path,) = save(made["entropy"], tmp_path, "entropy", ("png",))
    before = path.read_bytes()

    def breaks_off(target, **options):
        target.write_bytes(before[:100])
        raise OSError("no space left on device")

    monkeypatch.setattr(made["entropy"], "savefig", breaks_off)
    with pytest.raises(GapcheckError, match="cannot be written"):
        save(made["entropy"], tmp_path, "entropy", ("png",))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_is_too_long_loses_its_middle():
    with matplotlib.rc_context(RC):
        name = "LaViT-3B-checkpoint-with-a-very-long-name-indeed"
        short = fitted(name, 100)
        assert width_of(short) <= 100 < width_of(name)
        start, end = short.split("…")
        assert name.startswith(start)
        assert name.endswith(end)
        assert fitted("short", 100) == "short"


def test_legends_stay_inside_the_figure_and_its_panels_above(made):
    for figure in made.values():
        figure.canvas.draw()
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y0 >= -1
            for ax in figure.axes:
                assert ax.get_tightbbox().y0 >= box.y1 - 1


def test_models_differ_in_more_than_colour():
    looks = [look(i) for i in range(28)]
    assert len({(one.color, one.line) for one in looks}) == 28
    assert all(a.marker != b.marker and a.line != b.line for a, b in itertools.pairwise(looks))
    assert all(one.line != "--" for one in looks)  # the teacher's


def test_dollar_signs_in_names_are_letters():
    with matplotlib.rc_context(RC):
        figure = new_figure(2, 1)
        figure.subplots().set_title("x_{1$ and $y")
    assert "x_{1$ and $y" in svg(figure, "dollar")
