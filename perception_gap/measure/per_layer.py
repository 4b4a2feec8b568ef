"""Which layers and heads carry the gaze: `gapcheck analyze --per-layer`, what is measured of one sample.

Of every layer and head the raw rows are averaged over the text's tokens while the forward runs; of every layer they
are averaged over its heads as well, raw, and normalised once, as maps are. Only measures are kept, never these maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perception_gap.measure.measures import unit_boxes
from perception_gap.metrics import js_divergence, kl_divergence
from perception_gap.runs.rows import answered, geometry_of

if TYPE_CHECKING:
    from perception_gap.geometry import TokenGeometry
    from perception_gap.runs.run import Run
    from perception_gap.sample import Sample

# Arrays of a part: on which frame a run compares maps is known when all of its samples are there.
STORED = ("mass", "focus_score", "kl_native", "js_native", "kl_raster", "js_raster")
MEASURES = ("mass", "focus_score", "kl", "js")
DIVERGENCES = {"kl": kl_divergence, "js": js_divergence}


@dataclass(frozen=True)
class Reference:
    """What the heads of one sample are held against: the teacher's map [N'] of the same text, and its geometry."""

    map: np.ndarray
    geometry: TokenGeometry


def reference(teacher: Run | None, text: str, sample: Sample, images: str) -> Reference | None:
    """The teacher's map of the text that both are read on; None without a teacher that answered this question.

    text: `Settings.text`. images: hash of the sample's pictures.
    """
    if teacher is None or sample.id not in teacher:
        return None
    if not answered(teacher.row(sample.id), sample.question, images, sample.options):
        return None
    found = teacher.map(sample.id, "own" if text == "teacher" else "shared")
    return None if found is None else Reference(found, teacher.geometry(sample.id))


def measured(
    row: dict, arrays: dict[str, np.ndarray], against: Reference | None, raster: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The arrays of a sample with `measure` of its head maps in their place, where it has any."""
    if "own_heads" not in arrays:
        return arrays
    kept = {name: array for name, array in arrays.items() if name not in ("own_heads", "shared_heads")}
    regions = unit_boxes(row), row["box_images"] or None
    own, shared = arrays["own_heads"], arrays.get("shared_heads")
    return kept | measure(own, shared, geometry_of(row), regions, against, raster)


def measure(
    own: np.ndarray,
    shared: np.ndarray | None,
    geometry: TokenGeometry,
    regions: tuple[np.ndarray, Sequence[int] | None],
    reference: Reference | None,
    raster: tuple[int, int],
) -> dict[str, np.ndarray]:
    """`heads` float32 [6, L, H] and `layers` float32 [6, L]: STORED of every head, and of every layer's mean map.

    own, shared: raw head maps [L, H, N] of the own answer (mass, focus) and of the shared text (divergence).
    regions: boxes [M, 4] in fractions and the image of each. raster: for `kl_raster`. Undefined is NaN.
    """
    values = np.full((len(STORED), own.shape[0], own.shape[1] + 1), np.nan, np.float32)
    mine = with_mean(own)
    values[0] = mine.sum(-1)
    if len(regions[0]):
        values[1] = _share(mine, geometry.overlap(*regions))
    for name, (project, target) in _frames(geometry, reference, raster).items() if shared is not None else ():
        read = with_mean(np.asarray(shared))
        on_frame = read if project is None else read @ project
        for divergence, function in DIVERGENCES.items():
            found = [[function(target, row) for row in layer] for layer in on_frame]
            values[STORED.index(f"{divergence}_{name}")] = found
    return {"heads": values[..., :-1].copy(), "layers": values[..., -1].copy()}


def with_mean(maps: np.ndarray) -> np.ndarray:
    """[L, H, N] → [L, H + 1, N]: behind the heads of a layer their mean."""
    return np.concatenate([maps, maps.mean(1, keepdims=True)], axis=1)


def _share(maps: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`metrics.focus_score` of raw maps [.., N]; NaN for one without mass. inside: [N], 0..1."""
    total = maps.sum(-1, dtype=np.float64)
    return np.divide(maps @ inside, total, out=np.full(total.shape, np.nan), where=total > 0)


def _frames(
    geometry: TokenGeometry, reference: Reference | None, raster: tuple[int, int]
) -> dict[str, tuple[np.ndarray | None, np.ndarray]]:
    """Frame → (matrix from tokens to the frame, None for the tokens themselves; the teacher's map on it)."""
    if reference is None or not np.isfinite(reference.map).all():
        return {}
    found: dict[str, tuple[np.ndarray | None, np.ndarray]] = {}
    if geometry == reference.geometry:
        found["native"] = None, reference.map
    if geometry.n_images == reference.geometry.n_images:
        target = reference.geometry.rasterize(reference.map, *raster).ravel()
        found["raster"] = _projection(geometry, raster), target
    return found


def _projection(geometry: TokenGeometry, raster: tuple[int, int]) -> np.ndarray:
    """[N, images × cells]: `rasterize` as a matrix; a sample has hundreds of head maps."""
    shares = [np.zeros((len(geometry), 0))]
    cells = type(geometry).grid(*raster).boxes
    for image in range(max(geometry.n_images, 1)):
        shares.append(np.stack([geometry.overlap(cell, [image]) for cell in cells], axis=1))
    return np.concatenate(shares, axis=1)


def on_frame(stored: np.ndarray, native: bool | None) -> np.ndarray:
    """STORED [6, ..] → MEASURES [4, ..] on the frame of the run: native, the raster, or (None) not comparable."""
    kept = [stored[0], stored[1]]
    for name in DIVERGENCES:
        frame = "native" if native else "raster"
        kept.append(np.full_like(stored[0], np.nan) if native is None else stored[STORED.index(f"{name}_{frame}")])
    return np.stack(kept)
