"""Where image tokens lie: exact rectangles, exact overlaps, mass-preserving resampling.

One frame throughout: xyxy in fractions of the ORIGINAL image (x right, y down, 0..1), before any resizing,
cropping, padding or tiling by a processor. Boxes in pixels are brought here by `Sample.unit_boxes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


def _interval_overlap(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Length of [low_n, high_n] inside each [edges_k, edges_k+1]: [N, K]."""
    start = np.maximum(low[:, None], edges[None, :-1])
    stop = np.minimum(high[:, None], edges[None, 1:])
    overlap: np.ndarray = np.clip(stop - start, 0, None)
    return overlap


@dataclass(frozen=True, eq=False)
class TokenGeometry:
    """The rectangle that each of N image tokens covers.

    boxes: float64 [N, 4], xyxy fractions of the original image, clipped to it; a token that covers nothing
        (separator, padding) has an empty rectangle. Rectangles may overlap (tiles plus thumbnail).
    image: int64 [N], which image of the prompt the token belongs to (0, 1, ..).
    grid_shape: (rows, cols) when the tokens are exactly one raster of one image, else None.
    """

    boxes: np.ndarray
    image: np.ndarray
    grid_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        boxes = np.clip(np.asarray(self.boxes, dtype=np.float64), 0, 1)
        image = np.asarray(self.image, dtype=np.int64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or image.shape != boxes.shape[:1]:
            raise ValueError(f"geometry of shapes boxes {boxes.shape}, image {image.shape}: expected [N, 4] and [N]")
        if not (boxes[:, :2] <= boxes[:, 2:]).all():  # also False for NaN
            raise ValueError("token rectangles: expected xyxy with x0 <= x1 and y0 <= y1, all finite")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "image", image)

    def __len__(self) -> int:
        return len(self.boxes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenGeometry):
            return NotImplemented
        return np.array_equal(self.boxes, other.boxes) and np.array_equal(self.image, other.image)

    @classmethod
    def grid(
        cls, rows: int, cols: int, *, image: int = 0, within: Sequence[float] = (0.0, 0.0, 1.0, 1.0)
    ) -> TokenGeometry:
        """A raster of rows × cols equal rectangles over `within` (xyxy fractions; default the whole image)."""
        if rows < 1 or cols < 1:
            raise ValueError(f"a grid of {rows} × {cols} tokens: expected at least 1 × 1")
        x0, y0, x1, y1 = within
        xs, ys = np.linspace(x0, x1, cols + 1), np.linspace(y0, y1, rows + 1)
        left, top = np.tile(xs[:-1], rows), np.repeat(ys[:-1], cols)
        right, bottom = np.tile(xs[1:], rows), np.repeat(ys[1:], cols)
        whole = tuple(within) == (0.0, 0.0, 1.0, 1.0)
        return cls(
            np.stack([left, top, right, bottom], axis=1),
            np.full(rows * cols, image),
            (rows, cols) if whole else None,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[TokenGeometry]) -> TokenGeometry:
        """Tokens of several pieces in prompt order; one piece stays what it is."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([p.boxes for p in parts]), np.concatenate([p.image for p in parts]))

    @classmethod
    def nowhere(cls, n: int, *, image: int = 0) -> TokenGeometry:
        """n tokens that cover nothing, such as row separators."""
        return cls(np.zeros((n, 4)), np.full(n, image))

    @property
    def n_images(self) -> int:
        return int(self.image.max()) + 1 if len(self) else 0

    @property
    def areas(self) -> np.ndarray:
        """[N], fraction of the original image that each token covers; 0 for a token that covers nothing."""
        areas: np.ndarray = (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])
        return areas

    def _checked(self, values: ArrayLike) -> np.ndarray:
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (len(self),):
            raise ValueError(f"values of shape {array.shape} for {len(self)} image tokens: expected ({len(self)},)")
        return array

    def rasterize(self, values: ArrayLike, rows: int, cols: int) -> np.ndarray:
        """Spread each token's value evenly over its rectangle: [rows, cols], or [images, rows, cols] for several.

        Mass-preserving: sum of the raster + `lost_mass(values)` = sum of the values. No interpolation.
        """
        array = self._checked(values)
        raster = np.zeros((max(self.n_images, 1), rows, cols))
        covers = self.areas > 0
        x0, y0, x1, y1 = self.boxes[covers].T
        share_x = _interval_overlap(x0, x1, np.linspace(0, 1, cols + 1)) / (x1 - x0)[:, None]
        share_y = _interval_overlap(y0, y1, np.linspace(0, 1, rows + 1)) / (y1 - y0)[:, None]
        weighted = share_y * array[covers][:, None]
        for i in range(len(raster)):
            mine = self.image[covers] == i
            raster[i] = weighted[mine].T @ share_x[mine]
        return raster[0] if len(raster) == 1 else raster

    def lost_mass(self, values: ArrayLike) -> float:
        """Sum of the values of tokens that cover nothing, in the unit of the values."""
        return float(self._checked(values)[self.areas <= 0].sum())

    def overlap(self, boxes: ArrayLike, images: ArrayLike | None = None) -> np.ndarray:
        """[N] in 0..1: the fraction of each token's area inside the UNION of boxes (xyxy fractions) of its image.

        boxes: [M, 4]; images: [M], the image each box lies on (default 0). Tokens that cover nothing get 0.
        """
        regions = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        owners = np.zeros(len(regions), dtype=np.int64) if images is None else np.asarray(images, dtype=np.int64)
        inside = np.zeros(len(self))
        for i in np.unique(owners):
            mine, here = regions[owners == i], self.image == i
            xs, ys = np.unique(mine[:, [0, 2]]), np.unique(mine[:, [1, 3]])
            # The boxes' own edges cut the plane into cells that are each wholly inside or outside the union.
            mid_x, mid_y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
            in_x = (mine[:, [0]] < mid_x) & (mid_x < mine[:, [2]])
            in_y = (mine[:, [1]] < mid_y) & (mid_y < mine[:, [3]])
            covered = (in_x[:, :, None] & in_y[:, None, :]).any(axis=0)
            x0, y0, x1, y1 = self.boxes[here].T
            over_x, over_y = _interval_overlap(x0, x1, xs), _interval_overlap(y0, y1, ys)
            inside[here] = np.einsum("nx,xy,ny->n", over_x, covered.astype(np.float64), over_y)
        share = np.zeros(len(self))
        np.divide(inside, self.areas, out=share, where=self.areas > 0)
        return share
