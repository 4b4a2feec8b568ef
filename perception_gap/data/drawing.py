"""Primitives for the procedural scenes: coloured shapes, lettered markers, lit backgrounds.

Every function paints in place on a float32 canvas [SIDE, SIDE, 3] with values in [0, 1]; coordinates are
pixels (x right, y down) and boxes are xyxy pixels of the canvas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage import draw

SIDE = 256
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.15),
    "green": (0.13, 0.62, 0.22),
    "blue": (0.14, 0.30, 0.84),
    "yellow": (0.95, 0.85, 0.13),
    "purple": (0.56, 0.18, 0.66),
    "orange": (0.97, 0.52, 0.08),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
DIRECTIONS = ("up", "right", "down", "left")
Box = tuple[float, float, float, float]
Pixels = tuple[np.ndarray, np.ndarray]  # (rows, columns)
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


@dataclass(frozen=True)
class Thing:
    """One drawn object and everything true of it; `depth` (1 near .. 3 far) and `albedo` (level) where they exist."""

    shape: str
    box: Box
    color: str | None = None
    size: str | None = None
    hollow: bool = False
    direction: str | None = None
    depth: float | None = None
    albedo: int | None = None

    @property
    def center(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


def background(rng: np.random.Generator) -> np.ndarray:
    """A wall lit from the right, cool above and warm below: brightness tells x, tint tells y, as light does indoors."""
    light = np.float32(rng.uniform(0.42, 0.52)) + np.float32(rng.uniform(0.25, 0.35)) * X / (SIDE - 1)
    tint = np.float32(rng.uniform(0.10, 0.16)) * (Y / (SIDE - 1) - 0.5)
    return np.stack([light + tint, light, light - tint], axis=-1)


def surface(canvas: np.ndarray, painted: bool) -> np.ndarray:
    """Where a thing is painted: on the canvas, or on a copy that nobody sees; the Thing that it is stays the same."""
    return canvas if painted else canvas.copy()


def _outline(shape: str, x: float, y: float, radius: float, direction: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (xs, ys) of a polygonal shape that fits the square of half side `radius` around (x, y)."""
    if shape == "square":
        points = [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    elif shape == "triangle":
        points = [(0, -0.95), (0.95, 0.85), (-0.95, 0.85)]
    elif shape == "star":
        angles = np.arange(10) * np.pi / 5 - np.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        points = list(zip(radii * np.cos(angles), radii * np.sin(angles), strict=True))
    elif shape == "cross":
        a, b = 0.34, 0.95
        arm = [(-a, -b), (a, -b), (a, -a)]  # the upper one, clockwise; the others are its quarter turns
        points = [*arm, *((-py, px) for px, py in arm), *((-px, -py) for px, py in arm), *((py, -px) for px, py in arm)]
    elif shape == "arrow":
        points = [(0, -1), (0.85, 0.05), (0.35, 0.05), (0.35, 1), (-0.35, 1), (-0.35, 0.05), (-0.85, 0.05)]
        for _ in range(DIRECTIONS.index(direction or "up")):
            points = [(-py, px) for px, py in points]
    else:
        raise ValueError(f"unknown shape {shape!r}: expected circle, arrow or one of {SHAPES}")
    corners = np.asarray(points, dtype=np.float32)
    return x + radius * corners[:, 0], y + radius * corners[:, 1]


def disc(x: float, y: float, radius: float) -> Pixels:
    """The pixels of a disc, clipped to the canvas."""
    pixels: Pixels = draw.disk((y, x), radius, shape=(SIDE, SIDE))
    return pixels


def shadow(x: float, y: float, radius: float) -> Pixels:
    """The pixels of a flat ellipse around a thing's foot, clipped to the canvas."""
    pixels: Pixels = draw.ellipse(y, x, 0.22 * radius, 1.05 * radius, shape=(SIDE, SIDE))
    return pixels


def mask(shape: str, x: float, y: float, radius: float, direction: str | None = None) -> Pixels:
    """The pixels inside the shape, clipped to the canvas."""
    if shape == "circle":
        return disc(x, y, 0.95 * radius)
    xs, ys = _outline(shape, x, y, radius, direction)
    pixels: Pixels = draw.polygon(ys, xs, shape=(SIDE, SIDE))
    return pixels


def _around(x: float, y: float, radius: float) -> Box:
    return x - radius, y - radius, x + radius, y + radius


def paint(
    canvas: np.ndarray,
    shape: str,
    x: float,
    y: float,
    radius: float,
    color: str,
    *,
    size: str | None = None,
    hollow: bool = False,
    direction: str | None = None,
    depth: float | None = None,
) -> Thing:
    """Draw a shape with a thin dark rim and return the Thing it is; `hollow` shows what lay behind its middle."""
    rgb = np.asarray(COLORS[color], dtype=np.float32)
    behind = canvas.copy() if hollow else canvas
    canvas[mask(shape, x, y, radius, direction)] = 0.45 * rgb
    canvas[mask(shape, x, y, radius - 2, direction)] = rgb
    if hollow:
        hole = mask(shape, x, y, 0.58 * radius, direction)
        canvas[hole] = behind[hole]
    return Thing(shape, _around(x, y, radius), color, size, hollow, direction, depth)


_LETTERS = {
    "a": ("01110", "10001", "10001", "11111", "10001", "10001", "10001"),
    "b": ("11110", "10001", "10001", "11110", "10001", "10001", "11110"),
    "?": ("01110", "10001", "00001", "00110", "00100", "00000", "00100"),
}


def marker(
    canvas: np.ndarray,
    letter: str,
    x: float,
    y: float,
    radius: float,
    *,
    depth: float | None = None,
    albedo: int | None = None,
) -> Thing:
    """A lettered disc: a is dark on white, b white on dark, ? dark on grey."""
    paper, ink = {"a": (1.0, 0.05), "b": (0.05, 1.0), "?": (0.75, 0.1)}[letter]
    canvas[disc(x, y, radius)] = ink
    canvas[disc(x, y, radius - 1.5)] = paper
    scale = max(1, round(radius / 6))
    bitmap = np.kron(np.array([[int(c) for c in row] for row in _LETTERS[letter]]), np.ones((scale, scale)))
    rows, columns = np.nonzero(bitmap)
    rows = rows + round(y - bitmap.shape[0] / 2)
    columns = columns + round(x - bitmap.shape[1] / 2)
    inside = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
    canvas[rows[inside], columns[inside]] = ink
    return Thing(letter, _around(x, y, radius), depth=depth, albedo=albedo)


def scatter(
    rng: np.random.Generator, radii: list[float], margin: float = 6, gap: float = 4
) -> list[tuple[float, float]]:
    """Centres for discs of the given radii that neither touch one another nor leave the canvas."""
    while True:
        centers: list[tuple[float, float]] = []
        for radius in radii:
            for _ in range(60):
                x, y = rng.uniform(radius + margin, SIDE - radius - margin, 2)
                placed = zip(centers, radii, strict=False)
                if all(np.hypot(x - a, y - b) > 1.3 * (radius + r) + gap for (a, b), r in placed):
                    centers.append((float(x), float(y)))
                    break
        if len(centers) == len(radii):
            return centers


def finish(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise and rounding: uint8 [SIDE, SIDE, 3]."""
    noise = rng.standard_normal((SIDE, SIDE, 1), dtype=np.float32)
    image: np.ndarray = np.clip(255 * canvas + 3 * noise + 0.5, 0, 255).astype(np.uint8)
    return image
