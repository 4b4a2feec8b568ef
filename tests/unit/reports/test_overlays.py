import copy

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from perception_gap.geometry import TokenGeometry
from reports.overlays import density, extreme_focus, most_divergent, overlay_figure, top_tokens
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
    return "\n".join(text.get_text() for text in figure.findobj(Text))


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
        assert f"{name} {mark}  focus {100 * one['focus_score']:.1f} %" in text
    assert f"KL(teacher ‖ student) = {row['kl']:.2f} nats" in text


def test_several_pictures_and_overlapping_tokens_have_a_column_group_each(tmp_path):
    drawn = list(synthetic_run.scenes(n=14))
    grids = TokenGeometry.concatenate([TokenGeometry.grid(8, 8), TokenGeometry.grid(8, 8, image=1)])
    model = synthetic_run.Model("tiny:teacher", geometry=grids)
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn, model, n_images=2)
    tiles = TokenGeometry.concatenate([TILES, TokenGeometry.grid(3, 3, image=1)])
    model = synthetic_run.Model("tiny:student", gain=3, geometry=tiles)
    student = synthetic_run.write_run(tmp_path / "student", drawn, model, teacher, n_images=2)
    figure = overlay_figure(student, teacher, 2)
    assert [ax.get_title(loc="center") for ax in figure.axes[:6]] == [
        "image 1", "teacher 1", "student 1", "image 2", "teacher 2", "student 2",
    ]  # fmt: skip
    first_row = painted_axes(figure)[:4]  # teacher and student on picture 1, then on picture 2
    row = most_divergent(student.samples, 2).iloc[0]
    weights, own = student.map(row["sample_id"], "shared"), teacher.map(row["sample_id"])
    assert weights is not None
    assert own is not None
    on_second = weights[tiles.image == 1].sum()
    # Density 1 is the mean over both pictures, so a picture's own mean is twice its share of the mass.
    assert attention(first_row[3]).mean() == pytest.approx(2 * on_second, rel=1e-4)
    assert attention(first_row[1]).mean() == pytest.approx(2 * (1 - on_second - weights[4]), rel=1e-4)
    for ax, mine in ((first_row[0], own[:64]), (first_row[2], own[64:])):
        np.testing.assert_allclose(attention(ax)[21::42, 21::42].ravel(), 128 * mine, rtol=1e-4)


def test_without_teacher_the_model_alone_is_shown(pair, no_boxes):
    figure = overlay_figure(pair[0], None, 2)
    assert len(painted_axes(figure)) == 2
    assert "Lowest to highest focus" in shown(figure)
    figure = overlay_figure(no_boxes, None, 2)
    assert "focus undefined" in shown(figure)
    assert "The first samples" in [legend.get_title().get_text() for legend in figure.legends]
    assert "reference box (none here)" in [h.get_label() for h in figure.legends[0].get_patches()]
    assert any(isinstance(h, Rectangle) for h in figure.legends[0].get_patches())


def test_a_picture_that_is_gone_and_dollar_signs_do_not_stop_the_figure(pair, tmp_path):
    teacher, student = pair
    moved = copy.copy(student)
    moved.path = tmp_path
    moved.samples = student.samples.assign(question="Is $x_{1$ cheaper than $3?")
    figure = overlay_figure(moved, teacher, 1)
    figure.canvas.draw()
    assert "picture not found" in shown(figure)
    assert "$x_{1$" in shown(figure)


def test_no_map_to_paint_is_said(all_failed):
    assert "undefined: no map to paint" in shown(overlay_figure(all_failed, None))
