from itertools import pairwise

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from perception_gap.data.images import open_image
from reports.overlays.picture import rgb
from reports.overlays.text import Line, block_height, text_width, wrapped, write

QUESTION = "Which of the two marked points on the checkered floor is closer to the camera, point a or point b?"


@pytest.mark.parametrize("text", [QUESTION, "кошка ближе " * 9, "猫が近い" * 20, "$" * 90, "i" * 300, "W" * 90])
@pytest.mark.parametrize("inches", [0.5, 1.2, 5.0])
def test_lines_fit_the_width_and_hold_the_whole_text(text, inches):
    found = wrapped(text, inches, 1000)
    assert max(text_width(line) for line in found) <= inches
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


def test_lines_break_at_blanks_and_are_as_long_as_they_can_be():
    found = wrapped(QUESTION, 2, 9)
    assert " ".join(found) == QUESTION
    for line, following in pairwise(found):
        assert text_width(f"{line} {following.split()[0]}") > 2


def test_text_that_is_cut_says_so_within_the_width():
    found = wrapped(QUESTION, 1.5, 2)
    assert len(found) == 2
    assert found[-1].endswith(" …")
    assert QUESTION.startswith(" ".join(found)[:-2])
    assert text_width(found[-1]) <= 1.5
    assert wrapped("short", 1.5, 2) == ["short"]
    assert wrapped("", 1.5, 2) == []


def test_line_ends_and_what_cannot_be_printed_are_no_text():
    assert wrapped("a\n\tb\x00\x1b c\u200b", 3, 2) == ["a b c"]


def test_a_novel_is_cut_at_once():
    assert wrapped("word " * 10**6, 1, 2)[-1].endswith("…")


def test_width_is_that_of_the_drawn_letters_and_bold_is_wider():
    figure = Figure(figsize=(4, 1), dpi=150)
    text = figure.text(0, 0.5, QUESTION[:40], fontsize=7)
    drawn = text.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 150
    assert text_width(QUESTION[:40]) == pytest.approx(drawn, abs=2 / 150)
    assert text_width("width", bold=True) > text_width("width")


def test_lines_stand_under_each_other_within_their_height():
    figure = Figure(figsize=(4, 2), dpi=100)
    lines = [Line("Ágy", bold=True), Line("猫 jg", size=9), Line("last")]
    height = block_height(lines)
    ax: Axes = figure.add_axes((0, 1 - height / 2, 1, height / 2))
    write(ax, lines)
    canvas = FigureCanvasAgg(figure)
    with pytest.warns(UserWarning, match="missing from font"):
        canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in ax.texts]
    assert boxes[0].y0 > boxes[1].y0 > boxes[2].y0
    assert boxes[2].y0 >= 200 - 100 * height - 1
    assert boxes[0].y1 <= 200


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "LA"])
def test_pictures_of_every_mode_are_read_as_rgb_between_0_and_1(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (30, 20), (200, 200, 200)).convert(mode).save(path)
    found = rgb(open_image(path), (10, 15))
    assert found.shape == (10, 15, 3)
    # One bit a pixel dithers; its mean is the grey still.
    assert found.mean() == pytest.approx(200 / 255, abs=0.08)


def test_sixteen_bit_grey_has_the_shades_that_the_model_saw(tmp_path):
    path = tmp_path / "depth.png"
    deep = Image.new("I;16", (4, 4), 20000)
    deep.putpixel((0, 0), 40000)
    deep.save(path)
    found = rgb(open_image(path), (4, 4))
    assert found[3, 3, 0] == pytest.approx(20000 / 65535, abs=0.01)
    assert found[0, 0, 0] == pytest.approx(40000 / 65535, abs=0.01)


def test_a_turned_photograph_is_shown_upright(tmp_path):
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (0, 0, 20, 20))  # left half; the camera was turned, so this is the top
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    found = rgb(open_image(tmp_path / "a.jpg"), (40, 20))
    assert found[:15].mean() > 0.95
    assert found[25:].mean() < 0.05
