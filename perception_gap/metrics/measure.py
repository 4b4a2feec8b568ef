"""What a measure is: the contract of every entry of `table.TABLE`.

A measure of one map is a function (map [N], `Region`) → float; one of two maps is a function (p, q) → float of the
teacher's map and the student's on one frame. Both give NaN where they are undefined. Maps come raw or scaled: a
function scales them itself. Where maps come from (attention, gradients, ..) no measure knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from perception_gap.metrics.region import Region

# Of what a measure is taken, each a set of columns (`columns`) or of arrays:
#   sample         a sample's whole map               samples.parquet
#   word           the map of each word of a text     words.parquet
#   without sinks  the whole map without its sinks    samples.parquet, NAME_without_sinks
#   latent         the maps of latent tokens          samples.parquet, latent_NAME and last_latent_NAME
#   layer          the maps of each layer and head    maps.safetensors, `layers` and `heads`
#   pair           two models' maps                   pairs.parquet of a comparison
#   model          a model of a comparison            summary.json of a comparison
#   bench          a benchmark's sample               samples.parquet of `gapcheck bench --gaze`
Scope = Literal["sample", "word", "without sinks", "latent", "layer", "pair", "model", "bench"]
# As it stands behind a figure: "%" is a share, kept as a fraction and shown times 100; "×" a ratio, "" a bare number.
Unit = Literal["", "%", "×", "nats", "tokens", "of a side"]
# Of words whose category is one of these a summary has means of their own.
CATEGORIES = ("functional", "object", "attribute")
# Rows of the terminal's table: the mean over samples, over words, and over the words of each category.
Shown = Literal["sample", "words", "categories"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure, told once; what files, tables, pages and figures hold of it follows.

    name: its column. heading: of its row and axis. short: of a column of a table, its heading by default. doc: its
    line in docs/measures.md. range: least and largest value, where the interval of a mean ends. nearer: which values
    say that two maps agree, "" where none does. floor: the column of the same number against another sample's map, ""
    without one. path: its place in summary.json with dots, its name by default. spread: whether that place also has
    the standard deviation and the coefficient of variation, by task (the paper's table 2).
    """

    name: str
    heading: str
    unit: Unit
    doc: str
    scopes: tuple[Scope, ...]
    range: tuple[float, float] = (-math.inf, math.inf)
    short: str = ""
    nearer: Literal["", "lower", "higher"] = ""
    floor: str = ""
    path: str = ""
    spread: bool = False
    shown: tuple[Shown, ...] = ("sample",)

    @property
    def title(self) -> str:
        return self.short or self.heading

    @property
    def place(self) -> str:
        return self.path or self.name

    @property
    def label(self) -> str:
        """`entropy (nats)`: of an axis or a column."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


@dataclass(frozen=True, kw_only=True)
class OfMap(Measure):
    """Of one map: function(map [N], where its tokens and the sample's boxes lie)."""

    function: Callable[[np.ndarray, Region], float]


@dataclass(frozen=True, kw_only=True)
class OfPair(Measure):
    """Of two maps: function(teacher's, student's), both [cells] of one frame.

    raster: both are [rows, cols] rasters of one picture instead, for what has to know where a cell lies; undefined
    for prompts of several pictures.
    """

    function: Callable[[np.ndarray, np.ndarray], float]
    raster: bool = False

    def __post_init__(self) -> None:
        if self.raster and not {"sample", "without sinks", "pair"}.issuperset(self.scopes):
            raise ValueError(
                f"measure {self.name!r} of {', '.join(self.scopes)}: a raster is had of whole samples only"
            )


@dataclass(frozen=True, kw_only=True)
class Given(Measure):
    """Of something other than a map: its values come with the row, from sinks or from hidden states."""
