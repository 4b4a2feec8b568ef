"""The image tokens of one sample that are cut, and those outside its boxes that they are held against."""

from __future__ import annotations

import hashlib

import numpy as np

from perception_gap.geometry import TokenGeometry

TOLERANCE = 0.05  # of the mass inside: how far the matched mass outside may be from it
ORDERS = 100  # random orders that are tried for a mass within TOLERANCE
_TOUCHES = 1e-9  # of a token's area: less is the rounding of a common edge


def token_sets(
    geometry: TokenGeometry,
    boxes: np.ndarray,
    images: np.ndarray | None,
    attention: np.ndarray,
    k: int,
    seed: int,
    sample_id: str,
) -> dict[str, np.ndarray]:
    """Name → bool [N] of every set that is defined for the sample; never a smaller one than was asked for.

    boxes: [M, 4], fractions of their images; images: [M]. attention: raw map [N], NaN where the sample has none.

    inside: tokens whose rectangle meets a box. outside_number: as many of those that do not meet one. outside_mass:
    tokens outside whose share of the map is that of `inside`, within TOLERANCE of it. top_k: the k of largest weight.
    image: all. A token that covers nothing (a separator) is neither inside nor outside. Undefined, so absent: `inside`
    without boxes; `outside_number` where fewer tokens lie outside; `outside_mass` where no order of the tokens outside
    comes near enough, or there is no map; `top_k` where there is no map or N < k.
    """
    sets: dict[str, np.ndarray] = {}
    share = shares(attention)
    meets = geometry.overlap(boxes, images) > _TOUCHES
    outside = np.flatnonzero((geometry.areas > 0) & ~meets)
    if meets.any():
        sets["inside"] = meets
        if len(outside) >= meets.sum():
            drawn = _generator(seed, sample_id, "outside_number").permutation(outside)[: meets.sum()]
            sets["outside_number"] = _mask(drawn, len(geometry))
        matched = same_mass(share, outside, share[meets].sum(), _generator(seed, sample_id, "outside_mass"))
        if matched is not None:
            sets["outside_mass"] = _mask(matched, len(geometry))
    if len(share) >= k and np.isfinite(share).all():
        sets["top_k"] = _mask(np.argsort(-share, kind="stable")[:k], len(geometry))
    if len(geometry):
        sets["image"] = np.ones(len(geometry), dtype=bool)
    return sets


def same_mass(share: np.ndarray, outside: np.ndarray, wanted: float, rng: np.random.Generator) -> np.ndarray | None:
    """Indices of tokens outside, taken in random order until their share is nearest to `wanted`.

    The first of ORDERS orders that comes within TOLERANCE · wanted; None if none does, if nothing is wanted, and where
    more is wanted than lies outside.
    """
    if not len(outside) or not wanted > 0:  # NaN too
        return None
    for _ in range(ORDERS):
        order = rng.permutation(outside)
        error = np.abs(np.cumsum(share[order]) - wanted)
        nearest = int(error.argmin())
        if error[nearest] <= TOLERANCE * wanted:
            return order[: nearest + 1]
    return None


def shares(attention: np.ndarray) -> np.ndarray:
    """float64 [N], the map normalised to sum 1; NaN where it has no mass."""
    values = np.asarray(attention, dtype=np.float64)
    total = values.sum()
    return values / total if total > 0 else np.full(values.shape, np.nan)


def _generator(seed: int, sample_id: str, name: str) -> np.random.Generator:
    """Of seed, sample and set alone: neither the batch nor the order of samples plays a part."""
    return np.random.default_rng([seed, *hashlib.sha256(f"{name}\0{sample_id}".encode()).digest()[:8]])


def _mask(index: np.ndarray, length: int) -> np.ndarray:
    mask = np.zeros(length, dtype=bool)
    mask[index] = True
    return mask
