"""Families whose image tokens are one raster of the whole picture: sizes and places worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from perception_gap.attention.capture import AttentionCapture
from perception_gap.errors import GapcheckError, UnsupportedModelError, UsageError
from perception_gap.gaze.answer import encode, generate
from perception_gap.models.families import family_for
from perception_gap.models.families.encoded import predicting
from perception_gap.models.families.gemma4 import Gemma4
from perception_gap.models.families.glm import Glm
from perception_gap.models.families.llava import Llava
from perception_gap.models.families.pixtral import Pixtral
from perception_gap.models.families.qwen import Qwen
from perception_gap.models.loading import LoadedModel, load
from tests.models import gemma4, glm, pixtral, qwen
from tests.proofs import QUESTIONS, SIZES, picture

KINDS = (*qwen.KINDS, *gemma4.KINDS, *glm.KINDS, *pixtral.KINDS)


def places(tiny_checkpoint, kind: str, size: tuple[int, int]):
    return load(tiny_checkpoint(kind)).family.encode([[picture(size)]], ["What?"]).geometry[0]


@pytest.mark.parametrize("kind", ["qwen3_5", "qwen3_5_moe", "qwen3_vl_moe"])
def test_qwen3_by_hand(tiny_checkpoint, kind):
    # 192 × 96 is 6 × 3 blocks of 2 × 2 patches of 16 pixels, within the limits.
    geometry = places(tiny_checkpoint, kind, (192, 96))
    assert geometry.grid_shape == (3, 6)
    assert geometry.boxes[8].tolist() == pytest.approx([2 / 6, 1 / 3, 3 / 6, 2 / 3])


@pytest.mark.parametrize("kind", glm.KINDS)
def test_glm_by_hand(tiny_checkpoint, kind):
    # 224 × 140 is 8 × 5 tokens of 28 pixels, all 40 that are allowed; one more column and the picture is shrunk by
    # sqrt(252 · 140 / 31360) = 1.0607, that is to 237.6 × 132.0, whole tokens of which are 8 × 4.
    geometry = places(tiny_checkpoint, kind, (224, 140))
    assert geometry.grid_shape == (5, 8)
    assert geometry.boxes[11].tolist() == [3 / 8, 1 / 5, 4 / 8, 2 / 5]
    assert places(tiny_checkpoint, kind, (252, 140)).grid_shape == (4, 8)


def test_glm_limits_count_a_picture_as_two_frames(tiny_checkpoint):
    family = load(tiny_checkpoint("glm4v")).family
    assert family.pixel_limits == (28 * 28, 40 * 28 * 28)
    family.set_pixel_limits(None, 6 * 28 * 28)
    assert family.processor.image_processor.size["longest_edge"] == 2 * 6 * 28 * 28
    assert family.largest_area() == 6 * 28 * 28
    assert family.encode([[picture((84, 56))]], ["What?"]).geometry[0].grid_shape == (2, 3)
    # sqrt(224 · 140 / 4704) = 2.58: 86.8 × 54.2, of which whole tokens are 3 × 1.
    assert family.encode([[picture((224, 140))]], ["What?"]).geometry[0].grid_shape == (1, 3)
    with pytest.raises(UsageError, match="min_pixels 784 and max_pixels 5: expected 0 < min_pixels <= max_pixels"):
        family.set_pixel_limits(None, 5)


def test_mistral3_by_hand(tiny_checkpoint):
    # 100 × 50 fills 4 × 2 tokens of 28 pixels (stretched to 112 × 56). 672 × 300 halved to 336 × 150: 12 × 6 tokens.
    loaded = load(tiny_checkpoint("mistral3"))
    encoded = loaded.family.encode([[picture((100, 50)), picture((672, 300))]], ["What?"])
    assert encoded.inputs["image_sizes"].tolist() == [[56, 112], [168, 336]]
    geometry = encoded.geometry[0]
    assert np.bincount(geometry.image).tolist() == [8, 72]
    assert geometry.boxes[5].tolist() == [0.25, 0.5, 0.5, 1.0]
    assert geometry.boxes[8 + 13].tolist() == pytest.approx([1 / 12, 1 / 6, 2 / 12, 2 / 6])
    # Rows are told apart by tokens of their own: 1 + 5 breaks and two ends.
    tokens = loaded.processor.tokenizer.convert_ids_to_tokens(encoded.inputs["input_ids"][0].tolist())
    assert (tokens.count("[IMG]"), tokens.count("[IMG_BREAK]"), tokens.count("[IMG_END]")) == (80, 6, 2)
    assert [tokens[i] for i in range(len(tokens)) if encoded.image[0, i]] == ["[IMG]"] * 80


def test_llava_with_a_pixtral_tower_by_hand(tiny_checkpoint):
    # 50 × 40 fills 4 × 3 patches of 16 pixels; 400 × 100 shrunk by 400 / 192 to 192 × 48: 12 × 3.
    loaded = load(tiny_checkpoint("llava_pixtral"))
    assert isinstance(loaded.family, Pixtral)
    encoded = loaded.family.encode([[picture((50, 40))], [picture((400, 100))]], ["What?", "What?"])
    assert [geometry.grid_shape for geometry in encoded.geometry] == [(3, 4), (3, 12)]
    assert encoded.geometry[0].boxes[6].tolist() == pytest.approx([2 / 4, 1 / 3, 3 / 4, 2 / 3])
    assert isinstance(load(tiny_checkpoint("llava")).family, Llava)


def test_a_pixtral_processor_of_another_model_is_refused(tiny_checkpoint):
    loaded = load(tiny_checkpoint("mistral3"))
    loaded.processor.spatial_merge_size = 1
    with pytest.raises(UnsupportedModelError, match="the processor's spatial_merge_size is 1, the model's 2"):
        family_for(loaded.model.config, loaded.processor)
    loaded = load(tiny_checkpoint("llava_pixtral"))
    loaded.model.config.vision_feature_select_strategy = "default"
    with pytest.raises(UnsupportedModelError, match=r"drops a token .*'default'.*expected .full"):
        family_for(loaded.model.config, loaded.processor)


@pytest.mark.parametrize("kind", gemma4.KINDS)
def test_gemma4_by_hand(tiny_checkpoint, kind):
    # 630 patches of 4 × 4 are 10080 pixels. 266 × 154 takes sqrt(10080 / 40964) = 0.496: 131.9 × 76.4, whole tokens of
    # 12 pixels are 10 × 6 (each side shrunk by its own factor). 20 × 10 is enlarged: 141.98 × 70.99, 11 × 5.
    geometry = places(tiny_checkpoint, kind, (266, 154))
    assert geometry.grid_shape == (6, 10)
    assert geometry.boxes[13].tolist() == pytest.approx([0.3, 1 / 6, 0.4, 2 / 6])
    assert places(tiny_checkpoint, kind, (20, 10)).grid_shape == (5, 11)
    # 120 × 84 is the budget itself.
    assert places(tiny_checkpoint, kind, (120, 84)).grid_shape == (7, 10)


@pytest.mark.parametrize(
    ("kind", "largest", "larger"),
    [
        ("qwen3_5", (256, 160), (256, 192)),
        ("qwen2_5_vl", (224, 140), (224, 168)),
        ("glm4v", (224, 140), (224, 168)),
        ("mistral3", (336, 336), (392, 336)),
        ("llava_pixtral", (192, 192), (224, 192)),
        ("gemma4", (120, 84), (144, 84)),
    ],
)
def test_a_picture_of_the_largest_area_is_not_shrunk_and_a_larger_one_is(tiny_checkpoint, kind, largest, larger):
    family = load(tiny_checkpoint(kind)).family
    assert family.largest_area() == largest[0] * largest[1]
    pixels = {"gemma4": 12, "llava_pixtral": 16, "qwen3_5": 32}.get(kind, 28)
    shapes = [family.encode([[picture(size)]], ["?"]).geometry[0].grid_shape for size in (largest, larger)]
    assert shapes[0] == (largest[1] // pixels, largest[0] // pixels)
    assert np.prod(shapes[1]) < larger[0] * larger[1] / pixels**2


def _placed(loaded: LoadedModel, size: tuple[int, int]) -> bool:
    """Whether the family takes the picture; what it takes must cover it and pass through the model."""
    try:
        encoded = loaded.family.encode([[picture(size)]], ["What?"])
    except GapcheckError as error:
        return "\n" in str(error)  # a refusal is one line
    assert encoded.geometry[0].areas.sum() == pytest.approx(1)
    with torch.no_grad():
        loaded.model(**encoded.inputs)  # raises if it makes another number of features
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_extreme_shape_are_placed_or_refused_in_one_line(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    refused = [size for size in ((1, 1), (3, 400), (400, 3), (1000, 2)) if not _placed(loaded, size)]
    # Qwen and GLM stop at an aspect ratio of 200, Pixtral where the short side shrinks to nothing.
    shapes = {"gemma4": [], "gemma4_large": [], "mistral3": [(1, 1), (1000, 2)]}
    assert refused == shapes.get(kind, [(1000, 2)])


def test_mistral3_refuses_a_picture_of_one_token(tiny_checkpoint):
    family = load(tiny_checkpoint("mistral3")).family
    with pytest.raises(GapcheckError, match=r"one image token, as this of \(width, height\) \(28, 20\) is: enlarge"):
        family.encode([[picture((28, 20))]], ["What?"])
    assert family.encode([[picture((29, 20))]], ["What?"]).geometry[0].grid_shape == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_features_seen_once_stand_for_the_pixels(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    pictures = [[picture(SIZES["landscape"])], [picture(SIZES["portrait"], 1), picture((64, 64), 2)]]
    encoded = encode(loaded, pictures, QUESTIONS, None)
    assert "pixel_values" not in encoded.inputs
    model: Any = loaded.model
    with torch.no_grad():
        plain = loaded.family.encode(pictures, QUESTIONS)
        torch.testing.assert_close(model(**encoded.inputs).logits, model(**plain.inputs).logits, atol=1e-5, rtol=0)
    assert generate(loaded, encoded, 3) == generate(loaded, plain, 3)


@pytest.mark.parametrize("kind", ["qwen3_5", "qwen3_5_moe"])
def test_only_the_full_attention_layers_of_a_hybrid_have_rows(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    encoded = loaded.family.encode([[picture((64, 64))]], ["What?"])
    for layers, expected in (("all", [1, 3]), ("last1", [3]), ("1", [1])):
        with torch.no_grad(), AttentionCapture(loaded.model, encoded.question, encoded.image, layers) as capture:
            loaded.model(**encoded.inputs)
        assert capture.layers == expected
        assert torch.isfinite(capture.attention[0]).all()
    with torch.no_grad(), AttentionCapture(loaded.model, encoded.question, encoded.image, "0,1") as capture:
        loaded.model(**encoded.inputs)
    with pytest.raises(UnsupportedModelError, match=r"layers \[0\] did not pass"):
        _ = capture.attention


def test_large_gemma4_lets_image_tokens_see_later_ones_of_their_own_image_and_text_does_not(tiny_checkpoint):
    """In its sliding layers alone, within the window; the small one sees nothing that comes later."""
    later = {}
    for kind in gemma4.KINDS:
        loaded = load(tiny_checkpoint(kind))
        encoded = loaded.family.encode([[picture((64, 64)), picture((48, 64), 1)]], ["What?"])
        everything = torch.ones_like(encoded.image)
        with torch.no_grad(), AttentionCapture(loaded.model, everything, everything, per_head=True) as capture:
            loaded.model(**encoded.inputs)
        rows = capture.attention[0].amax(1).triu(diagonal=1)  # [L, S, S], what is seen of later positions
        first, second = (encoded.image[0].nonzero().flatten()[encoded.geometry[0].image == i] for i in (0, 1))
        inside = torch.zeros(rows.shape[1:], dtype=torch.bool)
        for own in (first, second):
            inside[own[:, None], own] = True
        assert rows[:, ~inside].max() == 0
        later[kind] = (rows.amax(dim=(1, 2)) > 0).tolist()
    assert later == {"gemma4": [False] * 4, "gemma4_large": [True, True, False]}


def test_layers_that_share_keys_have_rows_of_their_own_queries(tiny_checkpoint):
    loaded = load(tiny_checkpoint("gemma4"))
    encoded = loaded.family.encode([[picture((64, 64))]], ["What?"])
    with torch.no_grad(), AttentionCapture(loaded.model, encoded.question, encoded.image, per_head=True) as capture:
        loaded.model(**encoded.inputs)
    rows = capture.attention[0].mean(1)  # [L, T, N]; layers 2 and 3 take the keys of 0 and 1
    assert capture.layers == [0, 1, 2, 3]
    assert (rows[2] - rows[0]).abs().max() > 1e-3
    assert (rows[3] - rows[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["qwen3_5", "glm4v_moe"])
def test_models_that_can_think_aloud_are_asked_for_the_answer_alone(tiny_checkpoint, kind):
    family = load(tiny_checkpoint(kind)).family
    opening = family.render(0, "Why?").split("Why?")[1]
    assert "</think>" in opening
    family.template_options = {}
    assert "</think>" not in family.render(0, "Why?")


@pytest.mark.parametrize("kind", [*gemma4.KINDS, *glm.KINDS, *pixtral.KINDS, "qwen3_5"])
def test_a_system_prompt_is_written_as_it_is(tiny_checkpoint, kind):
    prompt = load(tiny_checkpoint(kind)).family.render(1, "Why?", system="Be brief.")
    assert prompt.count("Be brief.") == 1
    assert "type" not in prompt


def test_pictures_of_two_sizes_are_padded_when_parts_are_joined(tiny_checkpoint):
    loaded = load(tiny_checkpoint("mistral3"))
    parts = [loaded.family.encode([[picture(size)]], ["What?"]) for size in ((100, 50), (50, 150))]
    joined = type(parts[0]).join(parts, loaded.processor.tokenizer.pad_token_id)
    assert joined.inputs["pixel_values"].shape == (2, 3, 168, 112)
    assert (joined.inputs["pixel_values"][0, :, 56:] == 0).all()
    whole, own = joined.with_answers([[5], [6]], 0)
    with torch.no_grad():
        logits = loaded.model(**whole.inputs).logits[predicting(own)]
        for part, answer, expected in zip(parts, (5, 6), logits, strict=True):
            alone, where = replace(part).with_answers([[answer]], 0)
            single = loaded.model(**alone.inputs).logits[predicting(where)][0]
            torch.testing.assert_close(expected, single, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_an_adapter_of_its_own(tiny_checkpoint, kind):
    families = {Qwen: qwen.KINDS, Gemma4: gemma4.KINDS, Glm: glm.KINDS, Pixtral: pixtral.KINDS}
    assert type(load(tiny_checkpoint(kind)).family) is next(f for f, kinds in families.items() if kind in kinds)
