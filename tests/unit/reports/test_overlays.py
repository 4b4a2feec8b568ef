import copy

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from perception_gap.errors import UsageError
from perception_gap.geometry import TokenGeometry
from reports.overlays import density, extreme_focus, most_divergent, overlay_figure, sample_sheet, top_tokens
from reports.style import BOX, TEACHER, save
from tests.unit.reports import synthetic_run

# Tiles, a separator and a thumbnail over one picture: tokens overlap and one covers nothing.
TILES = TokenGeometry.concatenate([
    TokenGeometry.grid(2, 2), TokenGeometry.nowhere(1), TokenGeometry.grid(4, 2, within=(0, 0, 0.5, 1)),
    TokenGeometry.grid(4, 2, within=(0.5, 0, 1, 1)),
])  # fmt: skip


def attention(ax) -> np.ndarray:
    return next(im.get_array() for im in ax.images if im.get_gid() == "attention")


def painted_axes(figure) -> list:
    return [ax for ax in figure.axes if any(im.get_gid() == "attention" for im in ax.images)]


def outlines(ax) -> list[tuple[float, ...]]:
    corners = [p.get_extents() for p in (q.get_path().transformed(q.get_patch_transform()) for q in ax.patches)]
    return [(c.x0, c.y0, c.x1, c.y1) for c in corners]


def shown(figure) -> str:
    """Every text of the figure, as if no line were broken."""
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def titles(figure) -> list[str]:
    return [ax.texts[0].get_text() for ax in figure.axes if len(ax.texts) == 1 and ax.texts[0].get_fontsize() == 8]


def covers(ax) -> tuple[float, ...]:
    """The axes in inches: left, bottom, right, top."""
    box, (width, height) = ax.get_position(), ax.figure.get_size_inches()
    return box.x0 * width, box.y0 * height, box.x1 * width, box.y1 * height


def test_density_of_four_tokens_by_hand():
    found = density(np.array([1.0, 2.0, 3.0, 4.0]), TokenGeometry.grid(2, 2), 4, 4)
    quarters = np.array([[0.4, 0.8], [1.2, 1.6]])  # weight / 10 of the mass on a quarter of the picture
    np.testing.assert_allclose(found, np.kron(quarters, np.ones((2, 2)))[None], atol=1e-12)


def test_density_of_overlapping_tokens_equals_a_sum_over_every_pixel():
    weights = np.random.default_rng(0).random(len(TILES))
    found = density(weights, TILES, 8, 8)[0]
    for r in range(8):
        for c in range(8):
            x, y = (c + 0.5) / 8, (r + 0.5) / 8
            here = [
                w / a for w, a, (x0, y0, x1, y1) in zip(weights, TILES.areas, TILES.boxes, strict=True)
                if a > 0 and x0 < x < x1 and y0 < y < y1
            ]  # fmt: skip
            assert found[r, c] == pytest.approx(sum(here) / weights.sum())


def test_density_ignores_the_scale_of_the_weights_and_keeps_the_mass():
    weights = np.random.default_rng(1).random(256)
    grid = TokenGeometry.grid(16, 16)
    one = density(weights, grid, 50, 37)
    np.testing.assert_allclose(one, density(1000 * weights, grid, 50, 37))
    assert one.mean() == pytest.approx(1, rel=1e-9)


def test_density_of_a_picture_without_tokens_is_zero_and_of_no_mass_undefined():
    found = density(np.ones(4), TokenGeometry.grid(2, 2), 6, 6, n_images=2)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), [2, 0])
    assert np.isnan(density(np.zeros(4), TokenGeometry.grid(2, 2), 6, 6)).all()


def test_smoothing_keeps_the_peak_where_it_is():
    weights = np.full((8, 8), 0.1)
    weights[2, 5] = 5
    found = density(weights.ravel(), TokenGeometry.grid(8, 8), 80, 80, smooth=True)[0]
    row, col = np.unravel_index(found.argmax(), found.shape)
    assert (row // 10, col // 10) == (2, 5)
    assert found.min() >= 0
    assert found.mean() == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("grid", [(3, 3), (7, 5), (1, 9)])
def test_smoothing_keeps_the_mass_of_a_picture_that_is_no_multiple_of_the_grid(grid):
    weights = np.random.default_rng(0).random(grid) ** 4
    weights[0, -1] = 9  # in a corner, whose cell has fewer pixels than others
    smooth = density(weights.ravel(), TokenGeometry.grid(*grid), 50, 37, smooth=True)[0]
    assert smooth.mean() == pytest.approx(1, rel=1e-9)


def test_top_tokens_are_the_heaviest_that_cover_something():
    weights = np.arange(len(TILES), dtype=float)
    weights[4] = 100  # the separator
    assert top_tokens(weights, TILES, 3).tolist() == [20, 19, 18]


def test_samples_of_largest_divergence_come_from_distinct_tasks_first():
    samples = pd.DataFrame({
        "sample_id": list("abcdef"), "task": ["x", "x", "x", "y", "z", "z"], "status": ["ok"] * 5 + ["failed"],
        "kl": [9.0, 8.0, 7.0, 1.0, np.nan, 50.0],
    })  # fmt: skip
    assert most_divergent(samples, 3)["sample_id"].tolist() == ["a", "b", "d"]
    assert most_divergent(samples, 2)["sample_id"].tolist() == ["a", "d"]


def test_without_teacher_the_extremes_of_focus_are_chosen():
    samples = pd.DataFrame({
        "sample_id": list("abcdef"), "status": ["ok"] * 5 + ["failed"], "focus_score": [0.5, 0.1, np.nan, 0.9, 0.3, 0.0]
    })  # fmt: skip
    assert extreme_focus(samples, 3)["sample_id"].tolist() == ["b", "a", "d"]
    assert extreme_focus(samples, 9)["sample_id"].tolist() == ["b", "e", "a", "d"]
    assert extreme_focus(samples.assign(focus_score=np.nan), 2)["sample_id"].tolist() == ["a", "b"]


def test_overlays_paint_the_mass_of_the_map_and_outline_the_boxes(pair):
    teacher, student = pair
    figure = overlay_figure(student, teacher, 3)
    chosen = most_divergent(student.samples, 3)
    panels = painted_axes(figure)
    assert len(panels) == 2 * len(chosen)
    for (_, row), left, right in zip(chosen.iterrows(), panels[::2], panels[1::2], strict=True):
        boxes = np.asarray(row["boxes"]).reshape(-1, 4)
        focus = []
        for ax, source, kind in ((left, teacher, "own"), (right, student, "shared")):
            drawn, weights = attention(ax), source.map(row["sample_id"], kind)
            cells = drawn.reshape(16, 21, 16, 21).mean(axis=(1, 3))  # 336 pixels over a grid of 16
            np.testing.assert_allclose(cells.ravel(), weights * 256, rtol=1e-4)
            geometry = source.geometry(row["sample_id"])
            focus.append(cells.ravel() @ geometry.overlap(boxes / 256) / 256)
            drawn_boxes = outlines(ax)
            assert len(drawn_boxes) == 8 + len(boxes)
            assert all(any(np.allclose(b, d, atol=1e-6) for d in drawn_boxes) for b in boxes)
        assert focus[0] > focus[1]  # the teacher's maps were made to lie on the boxes
        scales = [next(im for im in ax.images if im.get_gid() == "attention").get_clim() for ax in (left, right)]
        assert scales[0] == scales[1]


def test_words_beside_a_row_state_both_answers_focus_and_divergence(pair):
    teacher, student = pair
    row = most_divergent(student.samples, 1).iloc[0]
    text = shown(overlay_figure(student, teacher, 1))
    other = teacher.row(row["sample_id"])
    for name, one in (("teacher", other), ("student", row)):
        mark = "✓" if one["correct"] else "✗"
        assert f"{name} {mark} · focus {100 * one['focus_score']:.1f} %" in text
    assert f"KL(teacher ‖ student) = {row['kl']:.2f} nats" in text


@pytest.fixture(scope="module")
def two_pictures(tmp_path_factory):
    """(teacher, student) of two pictures a prompt: two grids, and tiles beside a grid."""
    folder = tmp_path_factory.mktemp("two")
    drawn = list(synthetic_run.scenes(n=14))
    grids = TokenGeometry.concatenate([TokenGeometry.grid(8, 8), TokenGeometry.grid(8, 8, image=1)])
    model = synthetic_run.Model("tiny:teacher", geometry=grids)
    teacher = synthetic_run.write_run(folder / "teacher", drawn, model, n_images=2)
    tiles = TokenGeometry.concatenate([TILES, TokenGeometry.grid(3, 3, image=1)])
    model = synthetic_run.Model("tiny:student", gain=3, geometry=tiles)
    return teacher, synthetic_run.write_run(folder / "student", drawn, model, teacher, n_images=2)


@pytest.fixture(scope="module")
def others(pair, tmp_path_factory):
    """Two more students of the pair's teacher, one of which failed on every sample but the first."""
    teacher, folder = pair[0], tmp_path_factory.mktemp("others")
    drawn = list(synthetic_run.scenes(n=28))
    models = [synthetic_run.Model(name, gain=gain) for name, gain in (("tiny:sft", 4), ("tiny:lavit", 9))]
    sft = synthetic_run.write_run(folder / "sft", drawn[:4], models[0], teacher)
    return sft, synthetic_run.write_run(folder / "lavit", drawn, models[1], teacher, failed=range(1, 28))


def test_several_pictures_lie_under_each_other_on_one_scale(two_pictures):
    teacher, student = two_pictures
    figure = overlay_figure(student, teacher, 2)
    assert titles(figure) == ["image", "teacher", "student"]
    above_left, above_right, below_left, below_right = painted_axes(figure)[:4]
    row = most_divergent(student.samples, 2).iloc[0]
    weights, own = student.map(row["sample_id"], "shared"), teacher.map(row["sample_id"])
    assert weights is not None
    assert own is not None
    on_second = weights[student.geometry(row["sample_id"]).image == 1].sum()
    # Density 1 is the mean over both pictures, so a picture's own mean is twice its share of the mass.
    assert attention(below_right).mean() == pytest.approx(2 * on_second, rel=1e-4)
    assert attention(above_right).mean() == pytest.approx(2 * (1 - on_second - weights[4]), rel=1e-4)
    for ax, mine in ((above_left, own[:64]), (below_left, own[64:])):
        np.testing.assert_allclose(attention(ax)[21::42, 21::42].ravel(), 128 * mine, rtol=1e-4)
    assert covers(above_left)[1] > covers(below_left)[3]
    assert covers(above_left)[0] == covers(below_left)[0]
    assert "image 1" in shown(figure)
    assert "image 2" in shown(figure)
    # The eight strongest of the prompt, not of each picture.
    white = [[p for p in ax.patches if p.get_edgecolor()[:3] == (1, 1, 1)] for ax in (above_left, below_left)]
    assert len(white[0]) + len(white[1]) == 8


def test_several_runs_have_a_panel_each_under_their_names(pair, others):
    teacher, student = pair
    figure = overlay_figure([student, *others], teacher, 2)
    assert titles(figure) == ["image", "tiny:teacher", "tiny:student", "tiny:sft", "tiny:lavit"]
    chosen = most_divergent(student.samples, 2)
    said = shown(figure)
    for _, row in chosen.iterrows():
        assert f"KL {row['kl']:.2f} nats" in said
        assert f"focus {100 * row['focus_score']:.1f} %" in said
    assert "KL(teacher" not in said


def test_a_run_that_lacks_a_sample_says_so_in_its_place(pair, others):
    teacher, student = pair
    ids = [student.samples["sample_id"].iloc[i] for i in (0, 2, 5)]  # in both; failed in the last; not in the second
    figure = overlay_figure([student, *others], teacher, samples=ids)
    said = shown(figure)
    assert said.count("failed: out of memory") == 2
    assert said.count("not in this run") == 1
    panels = painted_axes(figure)
    assert len(panels) == 3 * 4 - 3
    one = others[0].map(ids[0], "shared")
    assert one is not None
    drawn = attention(panels[2]).reshape(16, 21, 16, 21).mean(axis=(1, 3))
    np.testing.assert_allclose(drawn.ravel(), 256 * one, rtol=1e-4)
    limits = {next(im for im in ax.images if im.get_gid() == "attention").get_clim() for ax in panels[:4]}
    assert len(limits) == 1
    known = [attention(ax).max() for ax in panels[:4]]
    assert limits.pop() == (1, pytest.approx(max([*known, 4])))


def test_chosen_samples_come_in_their_order_and_an_unknown_one_is_an_error(pair):
    teacher, student = pair
    ids = list(student.samples["sample_id"].iloc[[7, 1]])
    said = shown(overlay_figure(student, teacher, samples=ids))
    first, second = (student.row(one)["question"] for one in ids)
    assert said.index(first) < said.index(second)
    assert "Samples:" not in said
    with pytest.raises(UsageError, match="sample 'nobody' is in none of these runs"):
        overlay_figure(student, teacher, samples=["nobody"])


def test_runs_of_different_texts_or_teachers_are_refused(pair, others):
    teacher, student = pair
    other = copy.copy(others[0])
    other.info = other.info | {"settings": other.info["settings"] | {"text": "reference"}}
    with pytest.raises(UsageError, match=r"different texts \(reference, teacher\)"):
        overlay_figure([student, other], teacher)
    other.info = others[0].info | {"teacher": others[0].info["teacher"] | {"revision": "another"}}
    with pytest.raises(UsageError, match="compared with another teacher"):
        overlay_figure([student, other], teacher)
    with pytest.raises(UsageError, match="no run to show"):
        overlay_figure([], teacher)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_panels_do_not_overlap_and_stay_on_a_page_6_9_inches_wide(pair, n):
    teacher, student = pair
    figure = overlay_figure([student] * n, teacher, 2)
    assert figure.get_size_inches()[0] == pytest.approx(6.9)
    panels = [covers(ax) for ax in figure.axes if ax.images or ax.get_ylabel()]  # of the bars, their label
    assert len(panels) == 2 * (n + 2) + 2
    for i, (x0, y0, x1, y1) in enumerate(panels):
        assert x0 >= 0.05
        assert x1 <= 6.85
        assert y0 > 0
        for a0, b0, a1, b1 in panels[i + 1 :]:
            assert min(x1, a1) <= max(x0, a0) or min(y1, b1) <= max(y0, b0)


@pytest.mark.parametrize("n", [1, 4])
def test_no_text_leaves_the_page_or_lies_over_another(pair, n):
    figure = overlay_figure([pair[1]] * n, pair[0], 2)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    width, height = canvas.get_width_height()
    assert len(boxes) > 20
    for i, one in enumerate(boxes):
        assert one.x0 >= 0
        assert one.y0 >= 0
        assert one.x1 <= width
        assert one.y1 <= height
        for other in boxes[i + 1 :]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            tall = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert wide <= 1 or tall <= 2  # pixels: lines of text touch


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2000, 9), (9, 2000)])
def test_pictures_of_any_shape_have_a_panel_to_be_seen(pair, width, height):
    student = pair[1]
    odd = copy.copy(student)
    one = student.samples["sample_id"].iloc[0]
    row = student.row(one).copy()
    row["heights"], row["widths"], row["boxes"] = [height], [width], [0.0, 0.0, float(width), float(height) / 2]
    odd._by_id = pd.DataFrame([row]).set_index("sample_id", drop=False)
    figure = overlay_figure(odd, None, samples=[one])
    FigureCanvasAgg(figure).draw()
    (ax,) = painted_axes(figure)
    x0, y0, x1, y1 = covers(ax)
    assert min(x1 - x0, y1 - y0) > 0.2
    weights = odd.map(one)
    assert weights is not None
    assert attention(ax).mean() == pytest.approx(1, rel=1e-3)
    box = next(p for p in ax.patches if p.get_edgecolor() == to_rgba(BOX))
    assert (box.get_width(), box.get_height()) == (width, height / 2)


def test_a_map_without_mass_is_said_to_be_undefined_and_has_no_strongest_tokens(pair):
    teacher, student = pair
    one = student.samples["sample_id"].iloc[0]
    empty = copy.copy(student)
    empty.map = lambda sample_id, kind="own": np.full(256, np.nan, np.float32)  # type: ignore[method-assign]
    figure = overlay_figure(empty, teacher, samples=[one])
    assert "undefined: no mass" in shown(figure)
    left, right = painted_axes(figure)
    boxes = len(student.row(one)["boxes"]) // 4
    assert len(outlines(right)) == boxes
    assert len(outlines(left)) == boxes + 8


def test_the_sheet_names_the_models_and_gives_each_its_colour(pair):
    teacher, student = pair
    one = most_divergent(student.samples, 1)["sample_id"].iloc[0]
    figure = sample_sheet(student, teacher, one)
    assert titles(figure) == ["image", "tiny:teacher", "tiny:student"]
    assert next(t.get_color() for t in figure.findobj(Text) if t.get_text() == "tiny:teacher") == TEACHER
    words = len(synthetic_run.WORDS)
    assert len(painted_axes(figure)) == 2 + 2 * words
    assert len(painted_axes(sample_sheet(student, teacher, one, words=False))) == 2


def test_a_figure_is_the_same_file_twice(pair, tmp_path):
    made = [save(overlay_figure(pair[1], pair[0], 1), tmp_path, str(i), ["png"])[0].read_bytes() for i in range(2)]
    assert made[0] == made[1]


def test_without_teacher_the_model_alone_is_shown(pair, no_boxes):
    figure = overlay_figure(pair[0], None, 2)
    assert len(painted_axes(figure)) == 2
    assert "Samples: lowest to highest focus." in shown(figure)
    assert "reference box" in shown(figure)
    said = shown(overlay_figure(no_boxes, None, 2))
    assert "The first samples." in said
    assert "No reference box: focus is undefined." in said
    assert "reference box " not in said
    assert "focus undefined" not in said  # once is enough


def test_a_picture_that_is_gone_and_dollar_signs_do_not_stop_the_figure(pair, tmp_path):
    moved = [copy.copy(run) for run in pair]
    for run in moved:
        run.path = tmp_path
        run._by_id = run._by_id.assign(question="Is $x_{1$ cheaper than $3?")
    teacher, student = moved
    figure = overlay_figure(student, teacher, 1)
    FigureCanvasAgg(figure).draw()
    assert "the picture cannot be read" in " ".join(shown(figure).split())
    assert "$x_{1$" in shown(figure)


def test_a_picture_is_taken_from_the_run_that_has_it(pair, tmp_path):
    teacher, student = copy.copy(pair[0]), pair[1]
    teacher.path = tmp_path
    assert "the picture cannot" not in shown(overlay_figure(student, teacher, 1))


def test_no_map_to_paint_is_said(all_failed):
    assert "undefined: no map to paint" in shown(overlay_figure(all_failed, None))
