"""Encoded: latent tokens behind the prompts, prefixes, and several prompts as one batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import load
from tests.models import KINDS
from tests.proofs import QUESTIONS, SIZES, picture

IMAGE, PAD = 40, 7


def prompt(ids: list[int], pictures: int = 1) -> Encoded:
    """A batch of one, by hand: image tokens are 40, question tokens above 40; one row of pixels a picture."""
    tokens = torch.tensor([ids])
    inputs = {
        "input_ids": tokens, "attention_mask": torch.ones_like(tokens), "mm_token_type_ids": (tokens == IMAGE).long(),
        "pixel_values": torch.full((pictures, 3), float(len(ids))),
    }  # fmt: skip
    geometry = TokenGeometry.nowhere(int((tokens == IMAGE).sum()))
    return Encoded(inputs, tokens == IMAGE, tokens > IMAGE, [geometry])


def places(mask: torch.Tensor | None) -> list[list[int]]:
    assert mask is not None
    return [row.nonzero().flatten().tolist() for row in mask]


def assert_same(one: Encoded, other: Encoded) -> None:
    assert one.inputs.keys() == other.inputs.keys()
    for name, value in one.inputs.items():
        assert value.dtype == other.inputs[name].dtype, name
        assert torch.equal(value, other.inputs[name]), name
    for name in ("image", "question", "latent"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine, theirs), name
    assert one.geometry == other.geometry


def two() -> Encoded:
    return Encoded.join([prompt([1, IMAGE, IMAGE, 50, 51]), prompt([1, IMAGE, 52])], PAD)


def test_join_pads_on_the_left_by_hand():
    joined = two()
    assert joined.inputs["input_ids"].tolist() == [[1, 40, 40, 50, 51], [PAD, PAD, 1, 40, 52]]
    assert joined.inputs["attention_mask"].tolist() == [[1] * 5, [0, 0, 1, 1, 1]]
    assert joined.inputs["mm_token_type_ids"].tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 0]]
    assert joined.inputs["pixel_values"][:, 0].tolist() == [5, 3]
    assert places(joined.image) == [[1, 2], [3]]
    assert places(joined.question) == [[3, 4], [4]]
    assert joined.latent is None
    assert [len(g) for g in joined.geometry] == [2, 1]


def test_latents_and_what_closes_them_follow_every_prompt():
    extended = two().with_latents([60, 61], [62])
    assert extended.inputs["input_ids"][:, 5:].tolist() == [[60, 61, 62]] * 2
    assert extended.inputs["attention_mask"][:, 5:].tolist() == [[1, 1, 1]] * 2
    assert extended.inputs["mm_token_type_ids"][:, 5:].sum() == 0
    assert places(extended.latent) == [[5, 6]] * 2
    assert places(extended.after_latents) == [[7]] * 2
    assert places(extended.image) == [[1, 2], [3]]
    assert places(extended.question) == [[3, 4], [4]]
    unclosed = two().with_latents([60, 61])
    assert places(unclosed.latent) == [[5, 6]] * 2
    assert places(unclosed.after_latents) == [[], []]


def test_answers_stand_behind_the_latents():
    whole, own = two().with_latents([60], [62]).with_answers([[70, 71], [72]], PAD)
    assert whole.inputs["input_ids"][:, 5:].tolist() == [[60, 62, 70, 71], [60, 62, 72, PAD]]
    assert places(whole.latent) == [[5]] * 2
    assert places(own) == [[7, 8], [7]]
    assert places(whole.after_latents) == [[6, 7, 8]] * 2  # padding behind an answer included
    assert not two().after_latents.any()


def test_a_prefix_keeps_images_and_cuts_every_position():
    whole, _ = two().with_latents([60, 61], [62]).with_answers([[70, 71], [72]], PAD)
    short = whole.until(6)
    assert_same(short, two().with_latents([60]))
    assert short.inputs["pixel_values"] is whole.inputs["pixel_values"]
    assert_same(replace(whole.until(5), latent=None), two())
    assert_same(whole.until(99), whole)


def test_parts_of_different_kinds_are_refused():
    one = prompt([1, IMAGE, 50])
    without = replace(one, inputs={n: v for n, v in one.inputs.items() if n != "pixel_values"})
    with pytest.raises(ValueError, match="expected the same names in all parts"):
        Encoded.join([one, without], PAD)
    with pytest.raises(ValueError, match="latent tokens in some parts only"):
        Encoded.join([one.with_latents([60]), one], PAD)


def test_tiles_are_padded_to_the_image_that_has_most():
    parts = [prompt([1, IMAGE]), prompt([1, IMAGE, 50])]
    for part, tiles in zip(parts, (2, 3), strict=True):
        part.inputs["pixel_values"] = torch.ones(1, tiles, 3, 4, 4)
    pixels = Encoded.join(parts, PAD).inputs["pixel_values"]
    assert pixels.shape == (2, 3, 3, 4, 4)
    assert (pixels[0, :2] == 1).all()
    assert (pixels[0, 2] == 0).all()
    assert (pixels[1] == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_joined_prompts_are_what_the_family_encodes_together(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    pictures = [[picture(SIZES["landscape"])], [picture(SIZES["portrait"], 1), picture(SIZES["square"], 2)], []]
    texts = [*QUESTIONS, "Why?"]
    pad = loaded.processor.tokenizer.pad_token_id
    with_images = loaded.family.encode(pictures[:2], texts[:2])
    alone = [loaded.family.encode([own], [text]) for own, text in zip(pictures[:2], texts[:2], strict=True)]
    assert_same(Encoded.join(alone, pad), with_images)
    assert_same(Encoded.join([with_images], pad), with_images)
    extended = Encoded.join([part.with_latents([5, 6], [9]) for part in alone], pad)
    assert_same(extended, with_images.with_latents([5, 6], [9]))
    again = Encoded.join([with_images, alone[0]], pad)  # parts of several prompts
    assert_same(again, loaded.family.encode([*pictures[:2], pictures[0]], [*texts[:2], texts[0]]))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_prefixes_and_joined_batches_are_read_alike(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    model: Any = loaded.model
    alone = [loaded.family.encode([[picture(SIZES["square"], i)]], [QUESTIONS[i]]) for i in range(2)]
    joined = Encoded.join(alone, loaded.processor.tokenizer.pad_token_id).with_latents([5, 6], [9])
    length = alone[1].image.shape[1] + 3
    logits = model(**joined.inputs).logits
    single = model(**alone[1].with_latents([5, 6], [9]).inputs).logits
    # float32, positions counted from another start where there is padding.
    torch.testing.assert_close(logits[1, -length:], single[0], atol=5e-4, rtol=0)
    short = joined.until(joined.image.shape[1] - 2)
    torch.testing.assert_close(model(**short.inputs).logits, logits[:, :-2], atol=1e-4, rtol=0)
