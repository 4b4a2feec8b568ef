"""Which layers and heads carry the gaze: `gapcheck analyze --per-layer`, what is measured of one sample.

Of every layer and head the raw rows are averaged over the text's tokens while the forward runs; of every layer they
are averaged over its heads as well, raw, and normalised once, as maps are. Only measures are kept, never these maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_gap.measure.of_sample import region_of
from perception_gap.metrics.columns import measures
from perception_gap.metrics.measure import OfMap, OfPair
from perception_gap.runs.rows import answered

if TYPE_CHECKING:
    from perception_gap.geometry import TokenGeometry
    from perception_gap.metrics.region import Region
    from perception_gap.runs.run import Run
    from perception_gap.sample import Sample

FRAMES = ("native", "raster")


def layer_measures() -> list[str]:
    """What the arrays of a run hold of each layer and head, row by row: of one map, then of two."""
    return [measure.name for kind in (OfMap, OfPair) for measure in measures("layer", kind)]


def stored() -> list[str]:
    """What `heads` and `layers` of a part hold, row by row.

    Both frames: on which one a run compares maps is known when all of its samples are there.
    """
    of_pairs = [f"{measure.name}_{frame}" for frame in FRAMES for measure in measures("layer", OfPair)]
    return [measure.name for measure in measures("layer", OfMap)] + of_pairs


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
    attention = teacher.map(sample.id, "own" if text == "teacher" else "shared")
    return None if attention is None else Reference(attention, teacher.geometry(sample.id))


def with_head_measures(
    row: dict[str, Any], arrays: dict[str, np.ndarray], against: Reference | None, raster: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The arrays of a sample with `of_heads` of its head maps in their place, where it has any."""
    if "own_heads" not in arrays:
        return arrays
    kept = {name: array for name, array in arrays.items() if name not in ("own_heads", "shared_heads")}
    return kept | of_heads(arrays["own_heads"], arrays.get("shared_heads"), region_of(row), against, raster)


def of_heads(
    own: np.ndarray, shared: np.ndarray | None, region: Region, against: Reference | None, raster: tuple[int, int]
) -> dict[str, np.ndarray]:
    """`heads` float32 [S, L, H] and `layers` float32 [S, L]: `stored` of every head, and of every layer's mean map.

    own, shared: raw head maps [L, H, N] of the own answer (what is of one map) and of the shared text (of two).
    raster: that of the second frame. Undefined is NaN.
    """
    places = {name: place for place, name in enumerate(stored())}
    values = np.full((len(places), own.shape[0], own.shape[1] + 1), np.nan, np.float32)
    own_maps = with_mean(own)
    for measure in measures("layer", OfMap):
        values[places[measure.name]] = [[measure.function(head, region) for head in layer] for layer in own_maps]
    for frame, (project, target) in _frames(region.geometry, against, raster).items() if shared is not None else ():
        shared_maps = with_mean(np.asarray(shared))
        on_frame = shared_maps if project is None else shared_maps @ project
        for of_pair in measures("layer", OfPair):
            divergences = [[of_pair.function(target, head) for head in layer] for layer in on_frame]
            values[places[f"{of_pair.name}_{frame}"]] = divergences
    return {"heads": values[..., :-1].copy(), "layers": values[..., -1].copy()}


def with_mean(maps: np.ndarray) -> np.ndarray:
    """[L, H, N] → [L, H + 1, N]: behind the heads of a layer their mean."""
    return np.concatenate([maps, maps.mean(1, keepdims=True)], axis=1)


def _frames(
    geometry: TokenGeometry, reference: Reference | None, raster: tuple[int, int]
) -> dict[str, tuple[np.ndarray | None, np.ndarray]]:
    """Frame → (matrix from tokens to the frame, None for the tokens themselves; the teacher's map on it)."""
    if reference is None or not np.isfinite(reference.map).all():
        return {}
    frames: dict[str, tuple[np.ndarray | None, np.ndarray]] = {}
    if geometry == reference.geometry:
        frames["native"] = None, reference.map
    if geometry.n_images == reference.geometry.n_images:
        target = reference.geometry.rasterize(reference.map, *raster).ravel()
        frames["raster"] = _projection(geometry, raster), target
    return frames


def _projection(geometry: TokenGeometry, raster: tuple[int, int]) -> np.ndarray:
    """[N, images × cells]: `rasterize` as a matrix; a sample has hundreds of head maps."""
    shares = [np.zeros((len(geometry), 0))]
    cells = type(geometry).grid(*raster).boxes
    for image in range(max(geometry.n_images, 1)):
        shares.append(np.stack([geometry.overlap(cell, [image]) for cell in cells], axis=1))
    return np.concatenate(shares, axis=1)


def on_frame(values: np.ndarray, native: bool | None) -> np.ndarray:
    """`stored` [S, ..] → `layer_measures` [M, ..] on the frame of the run: native, the raster, or (None) on none."""
    of_maps, of_pairs = measures("layer", OfMap), measures("layer", OfPair)
    places = {name: place for place, name in enumerate(stored())}
    frame = FRAMES[0] if native else FRAMES[1]
    divergences = [values[places[f"{measure.name}_{frame}"]] for measure in of_pairs]
    if native is None:
        divergences = [np.full_like(divergence, np.nan) for divergence in divergences]
    return np.stack([*(values[places[measure.name]] for measure in of_maps), *divergences])
