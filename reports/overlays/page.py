"""A figure that is filled from the top like a page, in inches: its height follows from what it holds."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.overlays.text import Line, block_height, write
from reports.style import DPI, PAGE

MARGIN = 0.08  # inches on every side


class Page:
    """x counts from the left edge, y from the top, in inches; `y` is where the next thing begins."""

    def __init__(self, width: float = PAGE) -> None:
        self.figure = Figure(figsize=(width, 1), dpi=DPI)
        self.width, self.y = width, MARGIN
        self._placed: list[tuple[Axes, tuple[float, float, float, float]]] = []

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        ax = self.figure.add_axes((0.0, 0.0, 1.0, 1.0), label=str(len(self._placed)))
        self._placed.append((ax, (x, y, width, height)))
        return ax

    def write(self, x: float, y: float, width: float, lines: list[Line], *, center: bool = False) -> float:
        """Put the lines there; returns their height."""
        if lines:
            write(self.axes(x, y, width, block_height(lines)), lines, center=center)
        return block_height(lines)

    def finish(self) -> Figure:
        """Gives the figure its height, and everything its place."""
        height = self.y + MARGIN
        self.figure.set_size_inches(self.width, height)
        for ax, (x, y, w, h) in self._placed:
            ax.set_position((x / self.width, 1 - (y + h) / height, w / self.width, h / height))
        return self.figure
