"""Tiles by number: order, thumbnails, newlines, shrinking, strips that no patch covers, and the largest canvas."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageOps

from perception_gap.errors import GapcheckError, UnsupportedModelError
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.base import Family
from perception_gap.models.loading import load
from tests.models import SPECS
from tests.proofs import SIZES, decoder_inputs, picture, stop_mixing

TILED = [kind for kind in ("idefics3", "internvl", "llava_onevision", "ovis2", "smolvlm") if kind in SPECS]


def geometry(family: Family, *sizes: tuple[int, int]) -> TokenGeometry:
    """Of one prompt with pictures of these (width, height)."""
    return family.encode([[picture(size) for size in sizes]], ["What?"]).geometry[0]


def box(places: TokenGeometry, token: int) -> list[float]:
    return pytest.approx(places.boxes[token].tolist())


@pytest.mark.parametrize("kind", TILED)
def test_each_token_of_a_second_image_carries_its_number_and_place(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    stop_mixing(loaded.model, SPECS[kind].attention_outputs)
    first, second = picture(SIZES["landscape"]), picture(SIZES["square"], seed=1)
    before, after = (loaded.family.encode([[first, other]], ["What?"]) for other in (second, ImageOps.invert(second)))
    difference = decoder_inputs(loaded.model, after.inputs) - decoder_inputs(loaded.model, before.inputs)
    places, changed = before.geometry[0], difference[0][before.image[0]].abs().amax(-1).numpy() > 1e-6
    assert 0 < (places.image == 0).sum() < len(places)
    np.testing.assert_array_equal(changed, (places.image == 1) & (places.areas > 0))


def test_llava_onevision_by_hand(tiny_checkpoint):
    family = load(tiny_checkpoint("llava_onevision")).family
    # Tiles of 40 pixels, 5 × 5 patches of 7: the last 5 pixels of a tile have no token. 120 × 40 is three tiles.
    places = geometry(family, (120, 40))
    assert len(places) == 25 + 5 * (15 + 1)
    assert box(places, 6) == [7 / 40, 7 / 40, 14 / 40, 14 / 40]
    assert box(places, 24) == [28 / 40, 28 / 40, 35 / 40, 35 / 40]
    assert box(places, 25 + 16 + 4) == [28 / 120, 7 / 40, 35 / 120, 14 / 40]
    assert box(places, 25 + 16 + 5) == [40 / 120, 7 / 40, 47 / 120, 14 / 40]
    assert np.flatnonzero(places.areas == 0).tolist() == [25 + 16 * row + 15 for row in range(5)]


def test_llava_onevision_cuts_padding_by_hand(tiny_checkpoint):
    family = load(tiny_checkpoint("llava_onevision")).family
    # 80 × 50 lies from y = 15 to 65 on the canvas of 80 × 80; 6 of 10 rows are left, 2 cut on each side.
    places = geometry(family, (80, 50))
    assert len(places) == 25 + 6 * (10 + 1)
    assert box(places, 25) == [0, 0, 7 / 80, 6 / 50]
    assert box(places, 25 + 11 * 2) == [0, 13 / 50, 7 / 80, 20 / 50]
    assert box(places, 25 + 11 * 3) == [0, 25 / 50, 7 / 80, 32 / 50]
    assert box(places, 25 + 11 * 5 + 9) == [68 / 80, 39 / 50, 75 / 80, 46 / 50]


def test_llava_onevision_shrinks_a_large_raster_by_hand(tiny_checkpoint):
    family = load(tiny_checkpoint("llava_onevision")).family
    # 120 × 120: 15 × 15 tokens, allowed are 4 × 25; a ratio of 1.5 leaves 10 × 10, each one and a half patches wide.
    places = geometry(family, (120, 120))
    assert len(places) == 25 + 10 * (10 + 1)
    assert box(places, 25) == [0, 0, 10.5 / 120, 10.5 / 120]
    assert box(places, 26) == [10.5 / 120, 0, 21 / 120, 10.5 / 120]
    assert box(places, 25 + 3) == [31.5 / 120, 0, 47 / 120, 10.5 / 120]  # across the strip between two tiles


def test_several_images_of_llava_onevision_are_padded_to_one_tile_each(tiny_checkpoint):
    family = load(tiny_checkpoint("llava_onevision")).family
    places = geometry(family, (40, 20), (20, 20))
    assert places.image.tolist() == [0] * 26 + [1] * 26
    # 40 × 20 in the middle of 40 × 40: the first row of patches, 0 to 7, sees padding alone.
    assert np.flatnonzero(places.areas == 0).tolist() == [0, 1, 2, 3, 4, 25, 51]
    assert box(places, 5) == [0, 0, 7 / 40, 4 / 20]
    assert box(places, 10) == [0, 4 / 20, 7 / 40, 11 / 20]
    assert box(places, 26 + 6) == [7 / 20 / 2, 7 / 20 / 2, 14 / 20 / 2, 14 / 20 / 2]


@pytest.mark.parametrize(
    ("kind", "side", "strip", "cell", "tiles"),
    [
        ("llava_onevision", 80, (35, 40), (28, 35), slice(25, None)),
        ("smolvlm", 184, (42, 46), (21, 42), slice(0, -4)),
    ],
)
def test_the_strip_that_no_patch_covers_is_seen_by_no_token_of_a_tile(tiny_checkpoint, kind, side, strip, cell, tiles):
    """A picture of the canvas's own size is not resampled, so that pixels and tokens correspond exactly."""
    loaded = load(tiny_checkpoint(kind))
    stop_mixing(loaded.model, SPECS[kind].attention_outputs)
    original = picture((side, side))
    before = loaded.family.encode([[original]], ["What?"])
    for first, last in (strip, cell):
        painted = original.copy()
        painted.paste(ImageOps.invert(original.crop((first, 0, last, side))), (first, 0))
        after = loaded.family.encode([[painted]], ["What?"])
        difference = decoder_inputs(loaded.model, after.inputs) - decoder_inputs(loaded.model, before.inputs)
        changed = difference[0][before.image[0]].abs().amax(-1).numpy() > 1e-6
        expected = before.geometry[0].overlap([[first / side, 0, last / side, 1]]) > 1e-9
        np.testing.assert_array_equal(changed[tiles], expected[tiles])
        assert changed[tiles].any() == ((first, last) == cell)


@pytest.mark.parametrize("size", ["landscape", "portrait"])
def test_padded_images_of_llava_onevision_lie_where_their_pixels_are_seen(tiny_checkpoint, size):
    loaded = load(tiny_checkpoint("llava_onevision"))
    stop_mixing(loaded.model)
    first, second = picture(SIZES["square"]), picture(SIZES[size], seed=1)
    width, height = second.size
    reach = (2 * max(second.size) / 40 + 1) / np.array([width, height])  # bicubic: 2 pixels of the tile
    before = loaded.family.encode([[first, second]], ["What?"])
    places = before.geometry[0]
    for x, y in ((0.35, 1), (0.5, 1), (1, 0.35), (1, 0.5)):
        edge = round(x * width), round(y * height)
        painted = second.copy()
        painted.paste(ImageOps.invert(second.crop((0, 0, *edge))), (0, 0))
        after = loaded.family.encode([[first, painted]], ["What?"])
        difference = decoder_inputs(loaded.model, after.inputs) - decoder_inputs(loaded.model, before.inputs)
        changed = difference[0][before.image[0]].abs().amax(-1).numpy() > 1e-6
        limit = np.array(edge) / (width, height)
        own = (places.image == 1) & (places.areas > 0)
        inside = own & (places.boxes[:, 2:] <= limit).all(1)
        outside = own & (places.boxes[:, :2] > limit + reach).any(1)
        assert min(inside.sum(), outside.sum()) >= 3
        assert changed[inside].all()
        assert not changed[outside].any()


def test_llava_onevision_with_a_token_more_than_patches_is_refused(tiny_checkpoint):
    family = load(tiny_checkpoint("llava_onevision")).family
    family.processor.num_image_tokens = 26
    with pytest.raises(UnsupportedModelError, match="26 tokens a tile has no raster: expected 25"):
        geometry(family, (120, 40))
    family.processor.vision_feature_select_strategy = "default"  # a CLS token that is dropped
    assert len(geometry(family, (120, 40), (40, 40))) == 52


def test_internvl_by_hand(tiny_checkpoint):
    family = load(tiny_checkpoint("internvl")).family
    # 168 × 84: two tiles of 84 side by side, 3 × 3 tokens each, then the thumbnail.
    places = geometry(family, (168, 84))
    assert len(places) == 27
    assert box(places, 1) == [1 / 6, 0, 2 / 6, 1 / 3]
    assert box(places, 9) == [3 / 6, 0, 4 / 6, 1 / 3]
    assert box(places, 18 + 4) == [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert box(geometry(family, (84, 168)), 9) == [0, 3 / 6, 1 / 3, 4 / 6]
    assert geometry(family, (20, 20)).grid_shape == (3, 3)  # one tile has no thumbnail
    both = geometry(family, (20, 20), (168, 84))
    assert both.image.tolist() == [0] * 9 + [1] * 27


def test_idefics3_by_hand(tiny_checkpoint):
    family = load(tiny_checkpoint("idefics3")).family
    # 100 × 60 becomes 168 × 100, then 168 × 112: 2 rows of 3 tiles of 56, 2 × 2 tokens each; the whole image last.
    places = geometry(family, (100, 60))
    assert len(places) == 28
    assert box(places, 3) == [1 / 6, 1 / 4, 2 / 6, 2 / 4]
    assert box(places, 4) == [2 / 6, 0, 3 / 6, 1 / 4]
    assert box(places, 12) == [0, 2 / 4, 1 / 6, 3 / 4]
    assert box(places, 24) == [0, 0, 1 / 2, 1 / 2]


def test_idefics3_whose_longest_edge_is_no_multiple_of_a_tile(tiny_checkpoint):
    family = load(tiny_checkpoint("idefics3")).family
    # 100 × 78 becomes 140 × 110; 3 tiles wide it is 132 high, that is 3 rows (110 alone would make 2).
    family.processor.image_processor.size = {"longest_edge": 140}
    assert len(geometry(family, (100, 78))) == 40
    family.processor.image_processor.do_image_splitting = False
    assert geometry(family, (100, 78)).grid_shape == (2, 2)


def test_smolvlm_by_hand(tiny_checkpoint):
    family = load(tiny_checkpoint("smolvlm")).family
    # 92 × 46 becomes 184 × 92: 2 rows of 4 tiles of 46, whose 2 × 2 tokens of 21 leave 4 pixels out.
    places = geometry(family, (92, 46))
    assert len(places) == 36
    assert box(places, 1) == [21 / 184, 0, 42 / 184, 21 / 92]
    assert box(places, 4) == [46 / 184, 0, 67 / 184, 21 / 92]
    assert box(places, 16) == [0, 46 / 92, 21 / 184, 67 / 92]
    assert box(places, 35) == [21 / 46, 21 / 46, 42 / 46, 42 / 46]


def test_ovis2_by_hand(tiny_checkpoint):
    family = load(tiny_checkpoint("ovis2")).family
    # 168 × 168: the thumbnail first, then 2 × 2 tiles of 84, 3 × 3 tokens each.
    places = geometry(family, (168, 168))
    assert len(places) == 9 + 36
    assert box(places, 4) == [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert box(places, 9 + 5) == [2 / 6, 1 / 6, 3 / 6, 2 / 6]
    assert box(places, 9 + 9) == [3 / 6, 0, 4 / 6, 1 / 6]
    assert box(places, 9 + 18) == [0, 3 / 6, 1 / 6, 4 / 6]
    assert geometry(family, (60, 60)).grid_shape == (3, 3)


def test_ovis2_follows_the_grid_that_the_processor_wrote(tiny_checkpoint):
    family = load(tiny_checkpoint("ovis2")).family
    encoded = family.encode([[picture((168, 84))]], ["What?"])
    below = "<IMG_ROW>" in family.tokenizer.decode(encoded.inputs["input_ids"][0])
    # Two tiles, one below the other in transformers 5.23 although the picture is wide.
    expected = [0, 1 / 2, 1 / 3, 4 / 6] if below else [1 / 2, 0, 4 / 6, 1 / 3]
    assert len(encoded.geometry[0]) == 27
    assert box(encoded.geometry[0], 18) == expected


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("llava", 84 * 84), ("llava_next", 112 * 112), ("llava_onevision", 120 * 120), ("internvl", 6 * 84 * 84),
        ("idefics3", 168 * 168), ("ovis2", 6 * 84 * 84),
    ],
)  # fmt: skip
def test_the_largest_area_is_that_of_the_largest_canvas(tiny_checkpoint, kind, area):
    assert load(tiny_checkpoint(kind)).family.largest_area() == area


@pytest.mark.parametrize(
    ("kind", "setting", "value", "area"),
    [
        ("llava", "do_center_crop", False, 84 * 84), ("internvl", "max_patches", 2, 2 * 84 * 84),
        ("idefics3", "do_image_splitting", False, 56 * 56), ("idefics3", "size", {"longest_edge": 5000}, 4096 * 4096),
        ("ovis2", "crop_to_patches", False, 84 * 84), ("llava_next", "image_grid_pinpoints", [[56, 112]], 56 * 112),
    ],
)  # fmt: skip
def test_the_largest_area_follows_the_processor(tiny_checkpoint, kind, setting, value, area):
    family = load(tiny_checkpoint(kind)).family
    setattr(family.processor.image_processor, setting, value)
    assert family.largest_area() == area


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("internvl", "<video>"), ("internvl", "<img>"), ("internvl", "</img>"), ("internvl", "<IMG_CONTEXT>"),
        ("ovis2", "<image>"), ("ovis2", "<IMG_ROW>"), ("ovis2", "<IMG_ATOM>"), ("idefics3", "<image>"),
        ("llava_onevision", "<image>"),
    ],
)  # fmt: skip
def test_a_question_that_holds_a_token_of_the_image_is_refused(tiny_checkpoint, kind, written):
    family = load(tiny_checkpoint(kind)).family
    with pytest.raises(GapcheckError, match=f"holds {written}, which {kind} reads as an image: remove it"):
        family.encode([[picture((84, 84))]], [f"What is {written}?"])
