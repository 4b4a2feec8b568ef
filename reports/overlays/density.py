"""Attention as a density: mass per area relative to mass spread evenly over all pictures of the prompt (1 = uniform).

Unlike the weight of a token it does not depend on the grid, so one colour scale serves models with different grids.
"""

from __future__ import annotations

import numpy as np
from skimage.filters import gaussian
from skimage.transform import resize

from perception_gap.geometry import TokenGeometry

COARSE = 24  # raster that stands in for the grid when tokens overlap and the picture is smoothed


def density(
    weights: np.ndarray, geometry: TokenGeometry, rows: int, cols: int, n_images: int = 1, *, smooth: bool = False
) -> np.ndarray:
    """Attention density [n_images, rows, cols], 1 = uniform: the mean over all pictures is the mass that is on them.

    weights: [N], any positive scale. `smooth` blurs by 0.4 of a token, for display only: the mass of a picture stays,
    its place within the picture moves.
    NaN everywhere when the weights sum to 0 or are not finite.
    """
    total = float(np.sum(weights))
    if not np.isfinite(total) or total <= 0:
        return np.full((n_images, rows, cols), np.nan)
    coarse = (geometry.grid_shape or (COARSE, COARSE)) if smooth else (rows, cols)
    raster = geometry.rasterize(np.asarray(weights) / total, *coarse).reshape(-1, *coarse)
    raster = np.concatenate([raster, np.zeros((n_images - len(raster), *coarse))])  # pictures without tokens
    raster = raster * (coarse[0] * coarse[1] * n_images)
    if smooth:
        raster = np.stack([_smoothed(image, (rows, cols)) for image in raster])
    return raster


def _smoothed(raster: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """At `shape`, blurred by 0.4 of a cell, with the same mean. A spline would ring: spots where no attention is."""
    cells = np.divide(shape, raster.shape)  # pixels a cell
    fine = gaussian(resize(raster, shape, order=0, mode="edge", anti_aliasing=False), sigma=0.4 * cells, mode="reflect")
    return fine * (raster.mean() / fine.mean()) if fine.any() else fine


def top_tokens(weights: np.ndarray, geometry: TokenGeometry, k: int) -> np.ndarray:
    """Indices of the k heaviest tokens that cover a part of a picture, heaviest first; NaN weighs nothing."""
    visible = np.flatnonzero((geometry.areas > 0) & ~np.isnan(weights))
    return visible[np.argsort(-np.asarray(weights)[visible], kind="stable")][:k]
