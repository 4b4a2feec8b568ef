"""A picture cut into equal square tiles, each read by a vision tower of fixed size: where the tokens of a tile lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_gap.geometry import TokenGeometry


@dataclass(frozen=True)
class Tile:
    """side × side tokens of one tile, from its top left corner; one token spans `cell` of the tile's side.

    side × cell < 1 where the tile is no whole number of patches: no token sees the strip at its right and bottom.
    """

    side: int
    cell: float

    @classmethod
    def of_patches(cls, pixels: int, patch: int, merge: int = 1) -> Tile:
        """A tile of `pixels` × `pixels` in whole patches, merge × merge of them a token (models refuse a remainder)."""
        return cls(pixels // patch // merge, merge * patch / pixels)

    def spans(self, n: int) -> np.ndarray:
        """[n × side, 2], start and end of each token along a line of n tiles, in tiles."""
        starts = np.arange(n)[:, None] + np.arange(self.side) * self.cell
        return np.stack([starts, starts + self.cell], axis=-1).reshape(-1, 2)

    def grid(self, rows: int, cols: int, *, image: int = 0) -> TokenGeometry:
        """An image stretched over rows × cols tiles: tile after tile in raster order, each a raster of its own."""
        if rows == cols == 1:
            seen = min(1.0, round(self.side * self.cell, 12))
            return TokenGeometry.grid(self.side, self.side, image=image, within=(0.0, 0.0, seen, seen))
        xs, ys = self.spans(cols) / cols, self.spans(rows) / rows
        pieces = [(x, y) for y in ys.reshape(rows, self.side, 2) for x in xs.reshape(cols, self.side, 2)]
        return TokenGeometry.concatenate([raster(x, y, image=image) for x, y in pieces])

    def grid_and_whole(self, rows: int, cols: int, *, image: int = 0) -> TokenGeometry:
        """`grid`, then the image once more as one tile (thumbnail); a single tile is the image already."""
        whole = self.grid(1, 1, image=image)
        return whole if rows == cols == 1 else TokenGeometry.concatenate([self.grid(rows, cols, image=image), whole])


def raster(xs: np.ndarray, ys: np.ndarray, *, image: int = 0) -> TokenGeometry:
    """Tokens row by row from the spans of the columns [C, 2] and of the rows [R, 2], fractions of the image."""
    x, y = np.tile(xs, (len(ys), 1)), np.repeat(ys, len(xs), axis=0)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    return TokenGeometry(boxes, np.full(len(boxes), image))
