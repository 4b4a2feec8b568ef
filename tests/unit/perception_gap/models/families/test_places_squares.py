"""Gemma 3, PaliGemma, Aya Vision, Command A Vision and LFM2-VL: places by hand, and what only these families do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perception_gap.attention.capture import AttentionCapture, choose_layers, find_decoder
from perception_gap.errors import GapcheckError
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel, load
from tests.proofs import QUESTIONS, SIZES, picture


def _places(loaded: LoadedModel, size: tuple[int, int]) -> TokenGeometry:
    return loaded.family.encode([[picture(size)]], ["What?"]).geometry[0]


def test_gemma3_by_hand(tiny_checkpoint):
    # Squeezed into 84 × 84: 12 × 12 patches of 7, a token is the mean of 2 × 2 of them.
    loaded = load(tiny_checkpoint("gemma3"))
    geometry = _places(loaded, (266, 154))
    assert geometry.grid_shape == (6, 6)
    assert geometry.boxes[8].tolist() == pytest.approx([2 / 6, 1 / 6, 3 / 6, 2 / 6])
    assert loaded.family.largest_area() == 84 * 84


def test_gemma3_pan_and_scan_by_hand(tiny_checkpoint):
    loaded = load(tiny_checkpoint("gemma3_pan_and_scan"))
    # 301 × 100 is nearest to three squares: crops of ceil(301 / 3) = 101 columns, the last one of 99.
    geometry = _places(loaded, (301, 100))
    assert len(geometry) == 4 * 36
    assert geometry.boxes[0].tolist() == pytest.approx([0, 0, 1 / 6, 1 / 6])
    for crop, (left, width) in enumerate(((0, 101), (101, 101), (202, 99))):
        mine = geometry.boxes[36 * (1 + crop) : 36 * (2 + crop)]
        assert mine[0].tolist() == pytest.approx([left / 301, 0, (left + width / 6) / 301, 1 / 6])
        assert mine[-1].tolist() == pytest.approx([(left + width * 5 / 6) / 301, 5 / 6, (left + width) / 301, 1])
    # 100 × 130 is long enough (ratio 1.3 of 1.2) for two crops, one above the other; 100 × 110 is not.
    upright = _places(loaded, (100, 130)).boxes
    assert len(upright) == 3 * 36
    assert upright[72].tolist() == pytest.approx([0, 1 / 2, 1 / 6, 1 / 2 + 1 / 12])
    assert len(_places(loaded, (100, 110))) == 36
    # Crops of 31 rows would be smaller than 32 × 32.
    assert len(_places(loaded, (93, 31))) == 36
    assert loaded.family.largest_area() == 3 * 84 * 84


def test_gemma3_squares_of_pan_and_scan_see_themselves_and_the_past(tiny_checkpoint):
    loaded = load(tiny_checkpoint("gemma3_pan_and_scan"))
    encoded = loaded.family.encode([[picture(SIZES["landscape"])]], ["What?"])
    with torch.no_grad(), AttentionCapture(loaded.model, encoded.image, encoded.image, layers=[1]) as capture:
        loaded.model(**encoded.inputs)
    seen = capture.attention[0].view(3, 36, 3, 36).amax((1, 3)) > 0  # square by square
    assert seen.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    within = capture.attention[0][:36, :36]
    assert (within > 0).all()


def test_paligemma_by_hand(tiny_checkpoint):
    loaded = load(tiny_checkpoint("paligemma"))
    geometry = _places(loaded, (123, 210))
    assert geometry.grid_shape == (6, 6)
    assert geometry.boxes[13].tolist() == pytest.approx([1 / 6, 2 / 6, 2 / 6, 3 / 6])
    assert loaded.family.largest_area() == 84 * 84


def test_paligemma_prompts_are_what_its_processor_makes_of_them(tiny_checkpoint):
    loaded = load(tiny_checkpoint("paligemma"))
    family, processor = loaded.family, loaded.processor
    assert family.render(2, "Why?") == "<image><image><bos>Why?\n"
    assert family.render(0, "Why?", "Look.") == "<bos>Look. Why?\n"
    pictures = [[picture(SIZES["landscape"])], [picture(SIZES["portrait"]), picture(SIZES["square"])]]
    mine = family.encode(pictures, list(QUESTIONS)).inputs
    texts = ["<image>" * len(own) + text for own, text in zip(pictures, QUESTIONS, strict=True)]
    theirs = processor(
        images=[p for own in pictures for p in own], text=texts, padding=True, padding_side="left", return_tensors="pt"
    )
    assert mine.keys() == theirs.keys() - {"labels"}
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name
    alone = family.encode([[]], ["Why?"]).inputs  # its processor refuses a text without an image
    assert family.tokenizer.decode(alone["input_ids"][0]) == "<bos>Why?\n"
    with pytest.raises(GapcheckError, match=r"holds <image>, which paligemma reads as an image"):
        family.encode([[picture((64, 64))]], ["What is <image>?"])


def _answered(loaded: LoadedModel) -> tuple[Encoded, torch.Tensor]:
    encoded = loaded.family.encode([[picture(SIZES["landscape"])], [picture(SIZES["portrait"])]], list(QUESTIONS))
    return encoded.with_answers([[9, 8, 7], [6, 5]], pad_id=0)


def test_paligemma_reads_prompts_both_ways_and_what_follows_causally(tiny_checkpoint):
    loaded = load(tiny_checkpoint("paligemma"))
    whole, own = _answered(loaded)
    length = whole.image.shape[1] - 3
    assert (whole.inputs["token_type_ids"][:, :length] == 0).all()
    assert (whole.inputs["token_type_ids"][:, length:] == 1).all()
    visible = whole.inputs["attention_mask"].bool()
    with torch.no_grad(), AttentionCapture(loaded.model, visible, visible) as capture:
        loaded.model(**whole.inputs)
    for b, seen in enumerate(capture.attention):
        answer = own[b][visible[b]]
        n = int((~answer).sum())
        expected = torch.ones_like(seen).tril().bool()
        expected[:n, :n] = True
        assert torch.equal(seen > 0, expected)
    latents = whole.until(length).with_latents([5, 6], [9])
    assert latents.appended_type == 1
    assert latents.inputs["token_type_ids"][:, length:].tolist() == [[1, 1, 1]] * 2


def test_aya_vision_by_hand(tiny_checkpoint):
    # Tiles of 56 pixels: 8 × 8 patches, 4 × 4 tokens. 170 × 100 (ratio 1.7) is nearest to 3 × 2 tiles (1.5).
    loaded = load(tiny_checkpoint("aya_vision"))
    geometry = _places(loaded, (170, 100))
    assert len(geometry) == (6 + 1) * 16
    assert geometry.boxes[5].tolist() == pytest.approx([1 / 12, 1 / 8, 2 / 12, 2 / 8])
    fifth = geometry.boxes[4 * 16]  # second row, second tile
    assert fifth.tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 3 + 1 / 12, 1 / 2 + 1 / 8])
    assert geometry.boxes[6 * 16 + 5].tolist() == pytest.approx([1 / 4, 1 / 4, 2 / 4, 2 / 4])
    assert _places(loaded, (60, 60)).grid_shape == (4, 4)  # more tiles would be more than twice the picture
    assert loaded.family.largest_area() == 6 * 56 * 56


def test_command_a_vision_by_hand(tiny_checkpoint):
    # What must be enlarged least: 50 × 50 fits one tile; 60 × 60 two by two; 300 × 50 no row of up to six: 6 × 1.
    loaded = load(tiny_checkpoint("cohere2_vision"))
    assert _places(loaded, (50, 50)).grid_shape == (4, 4)
    assert len(_places(loaded, (60, 60))) == (4 + 1) * 16
    long = _places(loaded, (300, 50))
    assert len(long) == (6 + 1) * 16
    assert long.boxes[16].tolist() == pytest.approx([1 / 6, 0, 1 / 6 + 1 / 24, 1 / 4])
    assert loaded.family.largest_area() == 6 * 56 * 56


def test_lfm2_vl_by_hand(tiny_checkpoint):
    loaded = load(tiny_checkpoint("lfm2_vl"))
    # A token is 16 × 16 pixels. 90 × 60 rounds to 96 × 64 = 24 tokens, more than 16: shrunk to 64 × 48 pixels, not
    # split, since that takes twice the pixels of 16 tokens.
    small = _places(loaded, (90, 60))
    assert small.grid_shape == (3, 4)
    assert small.boxes[5].tolist() == pytest.approx([1 / 4, 1 / 3, 2 / 4, 2 / 3])
    # 266 × 154 is split: 3 × 2 tiles of 64 pixels (4 × 4 tokens), then 80 × 48 pixels of the whole.
    large = _places(loaded, (266, 154))
    assert len(large) == 6 * 16 + 15
    assert large.boxes[16].tolist() == pytest.approx([1 / 3, 0, 1 / 3 + 1 / 12, 1 / 8])
    assert large.boxes[3 * 16].tolist() == pytest.approx([0, 1 / 2, 1 / 12, 1 / 2 + 1 / 8])
    assert large.boxes[6 * 16 + 6].tolist() == pytest.approx([1 / 5, 1 / 3, 2 / 5, 2 / 3])
    assert loaded.family.largest_area() == 6 * 64 * 64
    loaded.processor.image_processor.do_image_splitting = False
    assert _places(loaded, (266, 154)).grid_shape == (3, 5)
    assert loaded.family.largest_area() == 16 * 16 * 16
    loaded.processor.image_processor.do_image_splitting = True
    loaded.processor.image_processor.use_thumbnail = False
    assert len(_places(loaded, (266, 154))) == 6 * 16


def test_lfm2_vl_has_maps_of_its_attention_layers_only(tiny_checkpoint):
    loaded = load(tiny_checkpoint("lfm2_vl"))
    decoder = find_decoder(loaded.model)
    assert choose_layers("all", decoder) == [1, 3]
    assert choose_layers("last1", decoder) == [3]
    encoded = loaded.family.encode([[picture(SIZES["square"])]], ["What?"])
    with torch.no_grad(), AttentionCapture(loaded.model, encoded.question, encoded.image, per_head=True) as capture:
        loaded.model(**encoded.inputs)
    assert capture.attention[0].shape[:2] == (2, 4)
    assert np.isfinite(capture.attention[0]).all()


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("gemma3", "<start_of_image>"), ("gemma3", "<image_soft_token>"),
        ("aya_vision", "<image>"), ("aya_vision", "<|IMG_PATCH|>"), ("lfm2_vl", "<image>"),
    ],
)  # fmt: skip
def test_a_question_must_not_hold_what_becomes_an_image(tiny_checkpoint, kind, mark):
    family = load(tiny_checkpoint(kind)).family
    with pytest.raises(GapcheckError, match=r"holds <.*>, which .* reads as an image: remove it"):
        family.encode([[picture((64, 64))]], [f"What is {mark}?"])
