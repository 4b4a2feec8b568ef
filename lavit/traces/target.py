"""The gaze target (paper eq. 3): what of a teacher's map is supervised, and its form on another model's tokens.

Frames as in `perception_gap.geometry`: rectangles are xyxy in fractions of the original image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from perception_gap.geometry import TokenGeometry

TOP_K = 8  # paper, section 4.1
_SAME = 1e-6  # rectangles are stored in float32, so equal ones differ by up to 6e-8


@dataclass(frozen=True, eq=False)
class Target:
    """k weighted rectangles on a teacher's tokens, largest weight first.

    index: int64 [k], place among the teacher's image tokens. weights: float64 [k], positive, summing to 1.
    boxes: float64 [k, 4], the rectangle each token covers (empty for a separator). images: int64 [k], which image of
    the prompt it lies on. n_tokens: how many image tokens the teacher had, None if unknown.
    """

    index: np.ndarray
    weights: np.ndarray
    boxes: np.ndarray
    images: np.ndarray
    n_tokens: int | None = None


def target(attention: ArrayLike, geometry: TokenGeometry, k: int = TOP_K) -> Target | None:
    """Min–max over ALL image tokens, the k largest (ties: the lower index first), renormalised to sum 1.

    attention: [N], a raw or normalised map, non-negative. Only positive entries are kept, so there may be fewer than
    k. None for a constant map (and for fewer than two tokens): its min–max is 0/0, it points nowhere.
    ValueError for another shape, a negative or non-finite weight, and k < 1.
    """
    weights = np.asarray(attention, dtype=np.float64)
    if weights.shape != (len(geometry),):
        raise ValueError(f"a map of shape {weights.shape} for {len(geometry)} image tokens: expected [N]")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("a map with negative or non-finite weights: expected finite weights of at least 0")
    if k < 1:
        raise ValueError(f"top {k}: expected at least 1")
    span = np.ptp(weights) if len(weights) else 0.0
    if span == 0:
        return None
    scaled = (weights - weights.min()) / span
    index = np.argsort(-scaled, kind="stable")[:k]
    index = index[scaled[index] > 0]
    return Target(
        index, scaled[index] / scaled[index].sum(), geometry.boxes[index], geometry.image[index], len(geometry)
    )


def resample(target: Target, geometry: TokenGeometry) -> np.ndarray:
    """The target on a student's N tokens: float64 [N], by overlap of rectangles, mass-preserving.

    Each rectangle hands its weight to the student's tokens of the same image, by their share of its area. Where these
    cover one place twice (tiles and thumbnail), the shares are scaled down to the part that is covered at all. What
    no token covers (the student's processor crops it away, or the rectangle is empty) is lost, so that the sum may be
    below 1. On the teacher's own geometry: exactly the weights, at their indices.

    ValueError when the target lies on an image that the geometry does not have; all zeros when no mass is left.
    """
    if len(target.images) and (target.images.max() >= geometry.n_images or target.images.min() < 0):
        raise ValueError(
            f"a target on images {sorted(set(target.images.tolist()))}: the student's prompt has {geometry.n_images}; "
            "give it the images that the teacher saw"
        )
    result = np.zeros(len(geometry))
    if _same_tokens(target, geometry):
        result[target.index] = target.weights
        return result
    for weight, box, image in zip(target.weights, target.boxes, target.images, strict=True):
        result += weight * _shares(box, int(image), geometry)
    return result


def _same_tokens(target: Target, geometry: TokenGeometry) -> bool:
    """Whether the student's tokens at the target's places are the teacher's own."""
    index = target.index
    if target.n_tokens not in (None, len(geometry)) or not len(index):
        return False
    if index.min() < 0 or index.max() >= len(geometry) or (geometry.image[index] != target.images).any():
        return False
    return bool(np.abs(geometry.boxes[index] - target.boxes).max() <= _SAME)


def _shares(box: np.ndarray, image: int, geometry: TokenGeometry) -> np.ndarray:
    """[N]: the share of one rectangle's area that goes to each token; sums to the part that is covered at all."""
    low = np.maximum(geometry.boxes[:, :2], box[:2])
    high = np.minimum(geometry.boxes[:, 2:], box[2:])
    common = np.clip(high - low, 0, None).prod(1) * (geometry.image == image)
    area = (box[2] - box[0]) * (box[3] - box[1])
    if area <= 0 or not common.any():
        return np.zeros(len(geometry))
    shares = common / area
    if geometry.grid_shape is None:  # tokens may lie upon each other
        touching = common > 0
        covered = TokenGeometry(box[None], np.zeros(1)).overlap(geometry.boxes[touching])[0]
        return shares * min(1.0, covered / shares.sum())
    return shares / max(1.0, shares.sum())
