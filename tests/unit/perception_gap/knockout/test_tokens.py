"""Which image tokens are cut: by hand, matched as promised, undefined rather than smaller."""

from __future__ import annotations

import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.knockout.tokens import TOLERANCE, same_mass, shares, token_sets

GRID = TokenGeometry.grid(4, 4)
BOX = np.array([[0.0, 0.0, 0.3, 0.25]])  # meets the two tokens at the top left, of which the second by a fifth


def sets(geometry=GRID, boxes=BOX, images=None, attention=None, k=3, seed=0, sample_id="a"):
    attention = np.ones(len(geometry)) if attention is None else attention
    return token_sets(geometry, boxes, images, attention, k, seed, sample_id)


def test_by_hand():
    attention = np.arange(16, 0, -1) * 0.01  # the first token has most
    found = sets(attention=attention)
    assert np.flatnonzero(found["inside"]).tolist() == [0, 1]
    assert np.flatnonzero(found["top_k"]).tolist() == [0, 1, 2]
    assert found["image"].all()
    assert found["outside_number"].sum() == 2
    assert not found["outside_number"][:2].any()
    assert shares(attention)[found["inside"]].sum() == pytest.approx(31 / 136)


def test_a_box_that_ends_on_a_tokens_edge_does_not_meet_the_next_one():
    seven = TokenGeometry.grid(7, 7)
    for i in range(1, 7):  # 1/7 has no exact binary form
        box = np.array([[0, 0, 16 * i / 112, 32 / 224]])
        assert np.flatnonzero(sets(seven, box)["inside"]).tolist() == list(range(i))


def test_tokens_that_cover_nothing_are_neither_inside_nor_outside():
    geometry = TokenGeometry.concatenate([GRID, TokenGeometry.nowhere(5)])
    attention = np.ones(21)
    attention[16:] = 50
    for sample in "abcdefgh":
        found = sets(geometry, attention=attention, sample_id=sample)
        for name in ("inside", "outside_number", "outside_mass"):
            assert not found[name][16:].any()
        assert np.flatnonzero(found["top_k"]).tolist() == [16, 17, 18]  # a map's largest weights may lie there
        assert found["image"].sum() == 21


def test_tiles_and_thumbnail_are_cut_together_and_boxes_belong_to_their_image():
    geometry = TokenGeometry.concatenate([GRID, TokenGeometry.grid(2, 2), TokenGeometry.grid(2, 2, image=1)])
    assert np.flatnonzero(sets(geometry)["inside"]).tolist() == [0, 1, 16]
    other = sets(geometry, np.array([[0.6, 0.6, 0.9, 0.9]]), np.array([1]))
    assert np.flatnonzero(other["inside"]).tolist() == [23]


def test_the_draw_depends_on_seed_and_sample_alone():
    attention = np.random.default_rng(0).gamma(1, size=16)
    first, again = sets(attention=attention), sets(attention=attention)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    draws = {(seed, name): sets(seed=seed, sample_id=name)["outside_number"].tobytes()
             for seed in range(4) for name in "abcd"}  # fmt: skip
    assert len(set(draws.values())) > 8


def test_every_token_outside_is_drawn_about_as_often():
    counts = sum(sets(sample_id=str(i))["outside_number"].astype(int) for i in range(2000))
    expected = 2000 * 2 / 14
    assert (counts[:2] == 0).all()
    assert np.abs(counts[2:] - expected).max() < 5 * np.sqrt(expected)


def test_the_matched_mass_is_within_the_tolerance_or_undefined():
    rng, matched = np.random.default_rng(3), 0
    for i in range(300):
        geometry = TokenGeometry.grid(8, 8)
        attention = rng.gamma(rng.uniform(0.2, 3), size=64)
        corner = rng.uniform(0, 0.8, 2)
        found = sets(geometry, np.array([[*corner, *(corner + rng.uniform(0.05, 0.7, 2))]]), attention=attention,
                     sample_id=str(i))  # fmt: skip
        share = shares(attention)
        wanted = share[found["inside"]].sum()
        if "outside_mass" not in found:
            continue
        matched += 1
        achieved = share[found["outside_mass"]].sum()
        assert abs(achieved - wanted) <= TOLERANCE * wanted
        assert not (found["outside_mass"] & found["inside"]).any()
    assert matched > 200


def test_same_mass_stops_where_the_share_is_nearest():
    class InOrder:
        def permutation(self, tokens):
            return tokens

    share = np.array([0.4, 0.1, 0.1, 0.19, 0.21])
    outside = np.arange(1, 5)
    assert same_mass(share, outside, 0.4, InOrder()).tolist() == [1, 2, 3]  # 0.39 is nearer than 0.60 and 0.20
    assert same_mass(share, outside, 0.2, InOrder()).tolist() == [1, 2]
    assert same_mass(share, outside, 0.3, InOrder()) is None  # 0.2 and 0.39 are both too far, in this order
    assert same_mass(share, outside, 0.7, InOrder()) is None  # more than lies outside
    assert same_mass(share, outside, 0.0, InOrder()) is None
    assert same_mass(share, outside, float("nan"), InOrder()) is None


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        ({"boxes": np.zeros((0, 4))}, {"inside", "outside_number", "outside_mass"}),
        ({"boxes": np.array([[0, 0, 1, 1.0]])}, {"outside_number", "outside_mass"}),
        ({"boxes": np.array([[0, 0, 1, 0.6]])}, {"outside_number", "outside_mass"}),  # 12 inside, 4 outside
        ({"attention": np.full(16, np.nan)}, {"outside_mass", "top_k"}),
        ({"attention": np.zeros(16)}, {"outside_mass", "top_k"}),
        ({"attention": np.r_[1.0, np.zeros(15)]}, {"outside_mass"}),
        ({"attention": np.r_[np.zeros(2), np.ones(14)]}, {"outside_mass"}),  # nothing inside to match
        ({"k": 17}, {"top_k"}),
        ({"geometry": TokenGeometry.nowhere(0)}, {"inside", "outside_number", "outside_mass", "top_k", "image"}),
    ],
)
def test_what_cannot_be_matched_is_absent(arguments, absent):
    assert {"inside", "outside_number", "outside_mass", "top_k", "image"} - sets(**arguments).keys() == absent
