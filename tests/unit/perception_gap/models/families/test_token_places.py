"""Geometry proved through the real image processors: repaint a rectangle and see which tokens notice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from perception_gap.models.loading import LoadedModel, load
from tests.models import KINDS, SPECS, Kind
from tests.proofs import SIZES, decoder_inputs, picture, stop_mixing

# Fractions of the image. Strips that grow from the left and from the top: an edge passes every token, so that a token
# placed wrongly by more than the reach of resampling is caught; then two rectangles off every grid.
RECTANGLES = (
    *((0.0, 0.0, edge, 1.0) for edge in np.linspace(0.06, 0.96, 16)),
    *((0.0, 0.0, 1.0, edge) for edge in np.linspace(0.06, 0.96, 16)),
    (0.22, 0.21, 0.81, 0.83),
    (0.52, 0.05, 0.99, 0.97),
)


def _unmixed(folder: Path, kind: Kind, padded: bool = False) -> LoadedModel:
    loaded = load(folder)
    stop_mixing(loaded.model, kind.attention_outputs)
    if padded:
        side = loaded.processor.image_processor.size["shortest_edge"]
        loaded.processor.image_processor = LlavaImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_pad=True
        )
    return loaded


def _repainted(original: Image.Image, rectangle: tuple[float, ...]) -> tuple[Image.Image, np.ndarray]:
    pixels = np.asarray(original).copy()
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = (np.array(rectangle) * [width, height, width, height]).round().astype(int)
    pixels[y0:y1, x0:x1] = 255 - pixels[y0:y1, x0:x1] // 2
    return Image.fromarray(pixels), np.array([x0 / width, y0 / height, x1 / width, y1 / height])


def _reach(kind: Kind, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[N, 2], fractions of the image: reach of antialiased resampling in pixels of the coarser raster, and `beyond`."""
    reach = np.zeros((len(boxes), 2))
    for same_scale in (slice(0, kind.thumbnail), slice(kind.thumbnail, None)):
        extents = boxes[same_scale, 2:] - boxes[same_scale, :2]
        if len(extents):
            # The largest of a raster: tokens at the border may be cut by the image's edge.
            extent = extents.max(axis=0) * size
            resampled = kind.resampling * np.maximum(1, extent / kind.token_pixels) + 1
            reach[same_scale] = (resampled + kind.beyond * extent) / size
    return reach


def _check(loaded: LoadedModel, kind: Kind, size: tuple[int, int]) -> None:
    original = picture(size)
    painted, regions = zip(*(_repainted(original, rectangle) for rectangle in RECTANGLES), strict=True)
    encoded = loaded.family.encode([[one] for one in (original, *painted)], ["What?"] * (1 + len(painted)))
    embedded = decoder_inputs(loaded.model, encoded.inputs)
    tokens = embedded[encoded.image].view(len(embedded), -1, embedded.shape[-1])
    changes = (tokens[1:] - tokens[:1]).abs().amax(-1).numpy()
    rounding = 1e-6 * max(1.0, float(tokens.abs().max()))  # float32, a batch of other contents
    geometry = encoded.geometry[0]
    somewhere = geometry.areas > 0
    reach = _reach(kind, geometry.boxes, size)
    n_inside = n_far = 0
    for region, changed in zip(regions, changes, strict=True):
        inside = somewhere & (geometry.overlap([region]) > 1 - 1e-9)
        far = (geometry.boxes[:, 2:] < region[:2] - reach).any(1) | (geometry.boxes[:, :2] > region[2:] + reach).any(1)
        assert (changed[inside] > 1e-3).all(), "a token inside the repainted rectangle did not notice"
        assert (changed[far | ~somewhere] <= rounding).all(), "a token far from the repainted rectangle changed"
        n_inside, n_far = n_inside + inside.sum(), n_far + (far & somewhere).sum()
    assert min(n_inside, n_far) > len(RECTANGLES) * somewhere.sum() / 4, "too few tokens were judged"


@pytest.mark.parametrize("kind", [*KINDS, "llava padded"])
def test_tokens_inside_a_repainted_rectangle_change_and_far_ones_do_not(tiny_checkpoint, kind):
    name = kind.split()[0]
    loaded = _unmixed(tiny_checkpoint(name), SPECS[name], padded="padded" in kind)
    for size in SIZES.values():
        _check(loaded, SPECS[name], size)


def test_each_token_of_a_second_image_carries_its_number_and_place(tiny_checkpoint):
    loaded = _unmixed(tiny_checkpoint("llava_next"), SPECS["llava_next"])
    first, second = picture(SIZES["landscape"]), picture(SIZES["portrait"], seed=1)
    encoded = loaded.family.encode([[first, second]], ["What?"])
    alone = [loaded.family.encode([[one]], ["What?"]).geometry[0] for one in (first, second)]
    geometry = encoded.geometry[0]
    assert geometry.image.tolist() == [0] * len(alone[0]) + [1] * len(alone[1])
    np.testing.assert_array_equal(geometry.boxes, np.concatenate([one.boxes for one in alone]))
    painted, _ = _repainted(second, (0, 0, 1, 1))
    after = loaded.family.encode([[first, painted]], ["What?"])
    difference = decoder_inputs(loaded.model, after.inputs) - decoder_inputs(loaded.model, encoded.inputs)
    changed = difference[0][encoded.image[0]].abs().amax(-1).numpy() > 1e-6
    np.testing.assert_array_equal(changed, (geometry.image == 1) & (geometry.areas > 0))


@pytest.mark.parametrize("kind", [name for name, kind in SPECS.items() if not kind.crops])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_tokens_cover_the_whole_image_where_nothing_is_cropped(tiny_checkpoint, kind, size):
    geometry = load(tiny_checkpoint(kind)).family.encode([[picture(size)]], ["What?"]).geometry[0]
    assert (geometry.rasterize(np.ones(len(geometry)), 64, 64) > 0).all()


def test_llava_covers_the_centre_that_it_crops_and_nothing_else(tiny_checkpoint):
    family = load(tiny_checkpoint("llava")).family
    # 210 × 120 resized to 147 × 84 by the shortest edge, cropped to 84 from column 31: 31/147 .. 115/147.
    boxes = family.encode([[picture((210, 120))]], ["What?"]).geometry[0].boxes
    assert boxes[0, :2].tolist() == pytest.approx([31 / 147, 0])
    assert boxes[-1, 2:].tolist() == pytest.approx([115 / 147, 1])
    assert (boxes[:, 2] - boxes[:, 0]).tolist() == pytest.approx([14 / 147] * 36)
    square = family.encode([[picture((128, 128))]], ["What?"]).geometry[0]
    assert square.areas.sum() == pytest.approx(1)


def test_llava_that_pads_gives_tokens_of_pure_padding_no_place(tiny_checkpoint):
    family = _unmixed(tiny_checkpoint("llava"), SPECS["llava"], padded=True).family
    # 240 × 80 in a square of 240: the image takes the third from 80 to 160, that is token rows 2 and 3 of 6.
    geometry = family.encode([[picture((240, 80))]], ["What?"]).geometry[0]
    assert (geometry.areas.reshape(6, 6) > 0).all(1).tolist() == [False, False, True, True, False, False]
    assert geometry.areas.sum() == pytest.approx(1)


def test_llava_next_by_hand(tiny_checkpoint):
    # 168 × 84 on the canvas 112 × 56 (two tiles): a base tile of 4 × 4, a raster of 4 rows × 8 columns, 4 newlines.
    geometry = load(tiny_checkpoint("llava_next")).family.encode([[picture((168, 84))]], ["What?"]).geometry[0]
    assert len(geometry) == 16 + 4 * (8 + 1)
    assert geometry.boxes[5].tolist() == [0.25, 0.25, 0.5, 0.5]
    assert geometry.boxes[16 + 9 + 2].tolist() == [0.25, 0.25, 0.375, 0.5]
    assert np.flatnonzero(geometry.areas == 0).tolist() == [24, 33, 42, 51]


def test_a_kept_class_token_covers_nothing(tiny_checkpoint):
    loaded = load(tiny_checkpoint("llava"))
    loaded.model.config.vision_feature_select_strategy = loaded.processor.vision_feature_select_strategy = "full"
    encoded = loaded.family.encode([[picture((128, 128))]], ["What?"])
    geometry = encoded.geometry[0]
    assert len(geometry) == 37
    assert np.flatnonzero(geometry.areas == 0).tolist() == [0]
    with torch.no_grad():
        loaded.model(**encoded.inputs)  # raises if it makes another number of features


def test_qwen_token_covers_a_block_of_merged_patches(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    encoded = loaded.family.encode([[picture((112, 56))]], ["What?"])
    assert encoded.inputs["image_grid_thw"].tolist() == [[1, 4, 8]]
    assert encoded.geometry[0].grid_shape == (2, 4)
    assert encoded.geometry[0].boxes[5].tolist() == [0.25, 0.5, 0.5, 1.0]
