"""Earth mover's distance: how far the student's attention would have to travel to become the teacher's.

KL and its kin compare token with token: a gaze one cell beside the teacher's is as wrong as one in the far corner. The
earth mover's distance (Rubner et al. 2000) knows where cells lie.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from perception_gap.geometry import TokenGeometry
from perception_gap.metrics._arrays import as_distribution, to_array

if TYPE_CHECKING:
    from perception_gap.metrics._arrays import Values

# Cells of a side: the exact solver takes 2 ms for 16 × 16 and 48 ms for 32 × 32, and a run has thousands of maps.
FINEST = 16


def earth_movers_distance(p: Values, q: Values, shape: tuple[int, int]) -> float:
    """min over transport plans π from p to q of Σ_ij π_ij d_ij, 0..√2 (1-Wasserstein), exact, by POT's network simplex.

    p, q: maps [rows × cols], one raster of one picture, flattened row by row; each is scaled to sum 1. d_ij: Euclidean
    distance between the centres of the cells in fractions of the picture's sides, so that 0.1 is a tenth of its width
    or of its height, whatever the picture's shape. Symmetric; 0 only for equal maps. NaN where either map is undefined
    (no mass; a negative, NaN or infinite weight). ValueError for maps of another shape.

    Mass that both maps have in a cell stays there: under a metric no plan is cheaper for moving it (triangle
    inequality), so only the differences go to the solver, which then has a quarter of the arcs.
    """
    raw = to_array(p).ravel(), to_array(q).ravel()
    rows, cols = shape
    if any(weights.shape != (rows * cols,) for weights in raw):
        raise ValueError(f"maps of {raw[0].size} and {raw[1].size} cells: expected {rows} × {cols} in both")
    first, second = as_distribution(raw[0]), as_distribution(raw[1])
    if first is None or second is None:
        return math.nan
    surplus = first - second
    sources, targets = np.flatnonzero(surplus > 0), np.flatnonzero(surplus < 0)
    moved = min(surplus[sources].sum(), -surplus[targets].sum())
    if moved <= 0:
        return 0.0
    from ot.lp import emd2  # seconds to import, and only a comparison with a teacher needs it

    away, to = surplus[sources] / surplus[sources].sum(), surplus[targets] / surplus[targets].sum()
    cost = emd2(away, to, np.ascontiguousarray(distances(rows, cols)[np.ix_(sources, targets)]), check_marginals=False)
    return float(np.clip(moved * cost, 0.0, math.sqrt(2)))


def coarse_earth_movers_distance(p: np.ndarray, q: np.ndarray) -> float:
    """`earth_movers_distance` from q to p, rasters [rows, cols] of one picture, each first summed into FINEST cells."""
    (to, shape), (source, _) = (coarsened(raster, raster.shape) for raster in (p, q))
    return earth_movers_distance(source, to, shape)


@lru_cache(maxsize=8)
def distances(rows: int, cols: int) -> np.ndarray:
    """[rows × cols, rows × cols]: between the centres of the cells of a raster, in fractions of the picture's sides."""
    y, x = np.divmod(np.arange(rows * cols), cols)
    corners = np.stack([x / cols, y / rows], axis=1)  # as far apart as the centres
    apart: np.ndarray = np.linalg.norm(corners[:, None] - corners, axis=-1)
    apart.setflags(write=False)
    return apart


def coarsened(values: Values, shape: tuple[int, int], finest: int = FINEST) -> tuple[np.ndarray, tuple[int, int]]:
    """A raster [rows × cols] summed into at most finest × finest equal cells, and its new shape; mass is kept.

    Cells that do not divide evenly are split by area. A raster that is coarse enough comes back as it is.
    """
    weights = to_array(values).ravel()
    coarse = min(shape[0], finest), min(shape[1], finest)
    if coarse == shape:
        return weights, coarse
    return TokenGeometry.grid(*shape).rasterize(weights, *coarse).ravel(), coarse
