"""Metrics of one attention map.

A map is one non-negative weight per image token, [N], raw or normalised: each function scales it to sum 1.
All return a Python float, NaN where the quantity is undefined: a map without mass or with a negative, NaN or
infinite weight; no box with an area inside the image. Shapes that do not fit raise ValueError.

Boxes are [M, 4], xyxy in fractions of the original image; `images` [M] says which image of the prompt each
lies on (default: all on image 0). Boxes are clipped to the image; overlapping boxes count once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

from perception_gap.metrics._arrays import as_distribution, to_array
from perception_gap.metrics.region import Region

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from perception_gap.geometry import TokenGeometry
    from perception_gap.metrics._arrays import Values


def focus_score(attention: Values, geometry: TokenGeometry, boxes: Values, images: ArrayLike | None = None) -> float:
    """Share of the map inside the boxes, 0..1: Σ_j a_j overlap_j / Σ_j a_j (paper eq. 1).

    overlap_j is the fraction of token j's area inside the union of the boxes. Tokens that cover nothing
    (separators) have overlap 0 and keep their mass in the denominator.
    """
    return Region(geometry, boxes, images).share(attention)


def focus_chance(geometry: TokenGeometry, boxes: Values, images: ArrayLike | None = None) -> float:
    """Focus score of the uniform map, 0..1: what a model that looks everywhere alike would get."""
    return Region(geometry, boxes, images).chance


def focus_lift(attention: Values, geometry: TokenGeometry, boxes: Values, images: ArrayLike | None = None) -> float:
    """Focus score / chance, so that box sizes compare: 1 is a uniform gaze. NaN where chance is 0."""
    return Region(geometry, boxes, images).lift(attention)


def pointing_game(attention: Values, geometry: TokenGeometry, boxes: Values, images: ArrayLike | None = None) -> float:
    """1 if the centre of the token with the largest weight lies in a box (edges included), else 0.

    Several tokens with the same largest weight: the mean over them. A peak that covers nothing is a miss.
    """
    return Region(geometry, boxes, images).peak_inside(attention)


def entropy(attention: Values) -> float:
    """H = −Σ p_j ln p_j in nats, 0..ln N (paper eq. 10)."""
    p = as_distribution(attention)
    return math.nan if p is None else float(entr(p).sum())


def relative_entropy(attention: Values) -> float:
    """Entropy / ln N, 0..1: comparable over grids of different size. NaN for fewer than two tokens."""
    p = as_distribution(attention)
    return math.nan if p is None or len(p) < 2 else float(entr(p).sum() / math.log(len(p)))


def salient_region_count(attention: Values, factor: float = 1.5) -> float:
    """Number of tokens whose weight exceeds factor × the mean weight (paper table 2: 1.5)."""
    p = as_distribution(attention)
    return math.nan if p is None else float((p > factor * p.mean()).sum())


def salient_region_fraction(attention: Values, factor: float = 1.5) -> float:
    """`salient_region_count` / N, 0..1."""
    p = as_distribution(attention)
    return math.nan if p is None else float((p > factor * p.mean()).mean())


def text_image_mass(rows: Values) -> float:
    """How much of the text's attention goes to the image at all, 0..1: mean over rows of the row sum.

    rows: [T, N], RAW attention of T text tokens over N image tokens; the one metric that does not normalise.
    NaN without rows or image tokens, or with a negative or non-finite weight.
    """
    weights = to_array(rows)
    if weights.ndim != 2:
        raise ValueError(f"rows of shape {weights.shape}: expected [text tokens, image tokens]")
    if not weights.size or not np.isfinite(weights).all() or weights.min() < 0:
        return math.nan
    return float(weights.sum(axis=1).mean())


def coefficient_of_variation(values: Values) -> float:
    """Population σ / µ of a metric over samples (paper table 2), over the finite values.

    values: any shape, one per sample. NaN for fewer than two finite values or µ = 0.
    """
    array = to_array(values)
    finite = array[np.isfinite(array)]
    if len(finite) < 2 or finite.mean() == 0:
        return math.nan
    return float(finite.std() / finite.mean())
