"""Layers and heads apart: the rows of eager attention, the measures by their definitions, what frame they meet on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from perception_gap import metrics
from perception_gap.attention.capture import find_decoder
from perception_gap.gaze.answer import encode, encode_text, pad_id
from perception_gap.gaze.look import look
from perception_gap.geometry import TokenGeometry
from perception_gap.measure.per_layer import (
    Reference,
    layer_measures,
    of_heads,
    on_frame,
    reference,
    stored,
    with_head_measures,
)
from perception_gap.metrics.region import Region
from perception_gap.models.families.encoded import predicting
from perception_gap.models.loading import load
from perception_gap.runs.rows import geometry_fields
from perception_gap.sample import Sample

QUESTIONS = ("what colour is the small star", "where does the triangle lie, left or right of the blue ring?")
BOX = np.array([[0.1, 0.2, 0.6, 0.7]])


def looks(loaded, chosen, layers="all", **options):
    rng = np.random.default_rng(0)
    made = [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in ((84, 112), (112, 84))]
    batch = encode(loaded, [[made[i]] for i in chosen], [QUESTIONS[i] for i in chosen], None)
    answers = [encode_text(loaded, ("the star is red", "left")[i]) for i in chosen]
    return batch, answers, look(loaded, batch, answers, layers, per_head=True, **options)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
def test_head_maps_are_the_mean_rows_of_eager_attention(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    batch, answers, values = looks(loaded, [0, 1])
    whole, own = batch.with_answers(answers, pad_id(loaded))
    find_decoder(loaded.model)
    loaded.model.set_attn_implementation("eager")
    with torch.inference_mode():
        attentions = loaded.model.base_model(**whole.inputs, output_attentions=True, use_cache=False).attentions
    for b, gaze in enumerate(values):
        rows = torch.stack(attentions)[:, b][:, :, predicting(own)[b]][..., whole.image[b]]  # [L, H, T, N]
        assert gaze.heads.shape == (3, 4, len(batch.geometry[b]))
        np.testing.assert_allclose(gaze.heads, rows.mean(2).numpy(), atol=1e-5)
        np.testing.assert_allclose(gaze.heads.mean((0, 1)), gaze.map, atol=1e-6)  # float32, another order of sums
        assert gaze.heads.std() > 1e-3  # heads differ, or the comparison would say little


def test_a_batch_does_not_change_them_and_layers_are_those_asked_for(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    together, alone = looks(loaded, [0, 1])[2], [looks(loaded, [i])[2][0] for i in (0, 1)]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.heads, b.heads, atol=1e-5)
    last = looks(loaded, [0], "0,2")[2][0]
    np.testing.assert_allclose(last.heads, alone[0].heads[[0, 2]], atol=1e-6)
    assert last.heads.shape[0] == 2


def test_a_text_without_tokens_has_no_maps(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    batch, answers, _ = looks(loaded, [0, 1])
    values = look(loaded, batch, [answers[0], []], "all", per_head=True)
    assert values[1].heads.shape == (3, 4, len(batch.geometry[1]))
    assert np.isnan(values[1].heads).all()
    assert np.isfinite(values[0].heads).all()


# --- the measures -----------------------------------------------------------------------------------------------------


def raw(grid, seed, layers=2, heads=3):
    return np.random.default_rng(seed).gamma(0.5, 1, (layers, heads, grid[0] * grid[1])).astype(np.float32) / 100


@pytest.mark.parametrize("theirs", [(3, 4), (2, 2)])
def test_measures_are_those_of_each_map_alone(theirs):
    geometry, other = TokenGeometry.grid(3, 4), TokenGeometry.grid(*theirs)
    own, shared, target = raw((3, 4), 0), raw((3, 4), 1), raw(theirs, 2)[0, 0]
    values = of_heads(own, shared, Region(geometry, BOX), Reference(target, other), (5, 6))
    assert values["heads"].shape == (6, 2, 3)
    assert values["layers"].shape == (6, 2)
    maps = [(own[i, h], shared[i, h], values["heads"][:, i, h]) for i in range(2) for h in range(3)]
    maps += [(own[i].mean(0), shared[i].mean(0), values["layers"][:, i]) for i in range(2)]  # heads averaged raw, first
    for mine, read, values in maps:
        on_raster = other.rasterize(target, 5, 6).ravel(), geometry.rasterize(read, 5, 6).ravel()
        native = theirs == (3, 4)
        expected = (
            mine.sum(),
            metrics.focus_score(mine, geometry, BOX),
            metrics.kl_divergence(target, read) if native else np.nan,
            metrics.js_divergence(target, read) if native else np.nan,
            metrics.kl_divergence(*on_raster),
            metrics.js_divergence(*on_raster),
        )
        np.testing.assert_allclose(values, expected, rtol=2e-5)  # kept in float32


def test_the_mean_of_raw_heads_is_not_the_mean_of_their_measures():
    own = raw((3, 4), 0)
    own[:, 0] *= 50  # one head of much mass decides its layer's map
    values = of_heads(own, None, Region(TokenGeometry.grid(3, 4), BOX), None, (5, 6))
    np.testing.assert_allclose(values["layers"][0], values["heads"][0].mean(1), rtol=1e-5)  # mass is linear
    assert not np.allclose(values["layers"][1], values["heads"][1].mean(1), atol=1e-3)
    np.testing.assert_allclose(values["layers"][1], values["heads"][1][:, 0], atol=0.05)


def test_several_pictures_meet_on_one_raster_each():
    parts = [TokenGeometry.grid(2, 2), TokenGeometry.grid(2, 3, image=1)]
    geometry, shared = TokenGeometry.concatenate(parts), raw((1, 10), 4)
    target = raw((1, 10), 5)[0, 0]
    values = of_heads(shared, shared, Region(geometry, BOX, [1]), Reference(target, geometry), (4, 4))
    flat = [geometry.rasterize(values, 4, 4).ravel() for values in (target, shared[1, 2])]
    assert values["heads"][4, 1, 2] == pytest.approx(metrics.kl_divergence(*flat), rel=1e-5)
    assert values["heads"][1, 1, 2] == pytest.approx(metrics.focus_score(shared[1, 2], geometry, BOX, [1]), rel=1e-5)


def test_what_is_undefined_is_nan():
    own = raw((3, 4), 0)
    own[0, 1] = 0
    geometry = TokenGeometry.grid(3, 4)
    nowhere, undefined = Region(geometry, np.zeros((0, 4))), Reference(np.full(12, np.nan), geometry)
    values = of_heads(own, own, nowhere, undefined, (4, 4))
    assert np.isnan(values["heads"][1:]).all()  # no boxes, no map of the teacher
    assert values["heads"][0, 0, 1] == 0  # no attention to the image at all is a mass of 0
    boxed = of_heads(own, own, Region(geometry, BOX), Reference(own[1, 0], geometry), (4, 4))["heads"]
    assert np.isnan(boxed[1:, 0, 1]).all()
    assert np.isfinite(boxed[:, 0, [0, 2]]).all()


def test_the_run_chooses_the_frame_later():
    assert stored() == ["mass", "focus_score", "kl_native", "js_native", "kl_raster", "js_raster"]
    assert layer_measures() == ["mass", "focus_score", "kl", "js"]
    values = np.arange(12.0).reshape(6, 2)
    assert on_frame(values, True).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert on_frame(values, False).tolist() == [[0, 1], [2, 3], [8, 9], [10, 11]]
    assert np.isnan(on_frame(values, None)[2:]).all()
    assert on_frame(values, None)[:2].tolist() == [[0, 1], [2, 3]]


class StoredTeacher:
    """The part of a Run that a reference is taken from: one answered sample with its maps."""

    def __init__(self):
        self.maps = {"own": np.arange(4.0), "shared": np.ones(4)}

    def __contains__(self, sample_id):
        return sample_id == "s1"

    def row(self, sample_id):
        return {"status": "ok", "question": "q", "image_hash": "h", "options": []}

    def map(self, sample_id, kind):
        return self.maps[kind]

    def geometry(self, sample_id):
        return TokenGeometry.grid(2, 2)


def test_heads_are_held_against_the_teachers_map_of_the_common_text():
    teacher, sample = StoredTeacher(), Sample("s1", (), "q", "a")
    own, shared = reference(teacher, "teacher", sample, "h"), reference(teacher, "reference", sample, "h")
    assert own.map.tolist() == [0, 1, 2, 3]  # where the common text is the teacher's own answer
    assert shared.map.tolist() == [1, 1, 1, 1]
    assert own.geometry == TokenGeometry.grid(2, 2)
    teacher.maps["shared"] = None
    assert reference(teacher, "reference", sample, "h") is None


def test_without_a_teacher_that_answered_this_question_there_is_nothing_to_hold_heads_against():
    teacher, sample = StoredTeacher(), Sample("s1", (), "q", "a")
    assert reference(None, "teacher", sample, "h") is None
    assert reference(teacher, "teacher", Sample("s2", (), "q", "a"), "h") is None
    assert reference(teacher, "teacher", Sample("s1", (), "another", "a"), "h") is None
    assert reference(teacher, "teacher", sample, "another picture") is None


def test_measures_take_the_place_of_the_head_maps_and_the_rest_stays():
    geometry, own, shared = TokenGeometry.grid(3, 4), raw((3, 4), 0), raw((3, 4), 1)
    row = geometry_fields(geometry) | {
        "boxes": [10.0, 20, 60, 70],
        "box_images": [0],
        "heights": [100],
        "widths": [100],
    }
    against = Reference(raw((3, 4), 2)[0, 0], geometry)
    arrays = {"own": np.ones(12), "own_heads": own, "shared_heads": shared}
    values = with_head_measures(row, arrays, against, (5, 6))
    assert set(values) == {"own", "heads", "layers"}
    expected = of_heads(own, shared, Region(geometry, BOX), against, (5, 6))
    for name in ("heads", "layers"):
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-6)
    alone = with_head_measures(row, {"own_heads": own}, against, (5, 6))["heads"]
    assert np.isnan(alone[2:]).all()  # no shared text was read
    plain = {"own": np.ones(12)}
    assert with_head_measures(row, plain, against, (5, 6)) is plain
