"""Where a map's tokens and a sample's boxes lie, and what a map has inside the boxes.

Boxes are [M, 4], xyxy in fractions of the original image; `images` [M] says which image of the prompt each lies on
(default: all on image 0). Boxes are clipped to the image; overlapping boxes count once.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from perception_gap.metrics._arrays import as_distribution, to_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from perception_gap.geometry import TokenGeometry
    from perception_gap.metrics._arrays import Values


class Region:
    """The boxes of a sample over the image tokens of a model; everything is NaN where no box has an area.

    geometry: of the N tokens. ValueError for boxes that are no [M, 4], or lie on an image that the prompt lacks.
    """

    def __init__(self, geometry: TokenGeometry, boxes: Values, images: ArrayLike | None = None) -> None:
        corners = to_array(boxes)
        if corners.size and (corners.ndim != 2 or corners.shape[1] != 4):
            raise ValueError(f"boxes of shape {corners.shape}: expected [boxes, 4], xyxy fractions of the image")
        corners = np.clip(corners.reshape(-1, 4), 0, 1)
        owners = np.zeros(len(corners), dtype=np.int64) if images is None else np.asarray(images, dtype=np.int64)
        if owners.shape != corners.shape[:1]:
            raise ValueError(f"images of shape {owners.shape} for {len(corners)} boxes: expected one image per box")
        if len(geometry) and np.any((owners < 0) | (owners >= geometry.n_images)):
            raise ValueError(f"boxes on images {owners.tolist()}: the prompt has images 0..{geometry.n_images - 1}")
        valid = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
        self.geometry, self.boxes, self.images = geometry, corners[valid], owners[valid]

    @cached_property
    def inside(self) -> np.ndarray:
        """[N], 0..1: the fraction of each token's area inside the union of the boxes."""
        return self.geometry.overlap(self.boxes, self.images)

    @cached_property
    def chance(self) -> float:
        """Share of the uniform map inside the boxes, 0..1."""
        return self.share(np.ones(len(self.geometry)))

    def share(self, attention: Values) -> float:
        """Share of a map [N] inside the boxes, 0..1; NaN also for a map without mass."""
        p = self._distribution(attention)
        # A map wholly inside may sum to 1 + 2e-16.
        return math.nan if p is None or not len(self.boxes) else min(1.0, float(p @ self.inside))

    def lift(self, attention: Values) -> float:
        """Share / chance; NaN where chance is 0."""
        return self.share(attention) / self.chance if self.chance > 0 else math.nan

    def peak_inside(self, attention: Values) -> float:
        """1 if the centre of the token with the largest weight lies in a box (edges included), else 0.

        Several tokens with the same largest weight: the mean over them. A peak that covers nothing is a miss.
        """
        p = self._distribution(attention)
        if p is None or not len(self.boxes):
            return math.nan
        peaks = np.flatnonzero(p == p.max())
        x, y = ((self.geometry.boxes[peaks, :2] + self.geometry.boxes[peaks, 2:]) / 2).T[:, :, None]
        x0, y0, x1, y1 = self.boxes.T
        within = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (self.images == self.geometry.image[peaks, None])
        return float((within.any(axis=1) & (self.geometry.areas[peaks] > 0)).mean())

    def _distribution(self, attention: Values) -> np.ndarray | None:
        """The normalised map, checked against the tokens that it belongs to."""
        weights, n = to_array(attention), len(self.geometry)
        if weights.shape != (n,):
            raise ValueError(f"a map of shape {weights.shape} for {n} image tokens: expected ({n},)")
        return as_distribution(weights)
