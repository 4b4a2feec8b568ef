"""One recomputation beside its print.

A printed figure stands for an interval: half a unit of its last digit to either side. A recomputation takes the
intervals of its inputs, in fractions, and agrees when its own interval meets that of the print: it disagrees only
where no rounding of the inputs explains the print.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from benchmarks.published.model import Published


@dataclass(frozen=True)
class Check:
    """`recomputed` follows from the digits as printed; `agrees` also allows for their rounding."""

    paper: str
    table: str
    row: str
    column: str
    kind: str
    what: str
    printed: str
    unit: str
    recomputed: float
    decimals: int  # printed after the point
    agrees: bool
    starred: bool = False
    remark: str = ""

    @property
    def shown(self) -> str:
        """`recomputed` to the printed digits, and one more where it would look the same as a print it is not."""
        text = f"{self.recomputed:.{self.decimals}f}"
        return text if self.agrees or text != self.printed else f"{self.recomputed:.{self.decimals + 1}f}"


def meets(figure: Published, low: Fraction, high: Fraction) -> bool:
    """Whether the interval of a print and low..high have a value in common."""
    return low <= figure.exact + figure.half and high >= figure.exact - figure.half


def check_of(figure: Published, kind: str, what: str, recomputed: Fraction, agrees: bool, remark: str = "") -> Check:
    """The check of one cell."""
    return Check(
        figure.paper, figure.table, figure.row, figure.column, kind, what, figure.printed, figure.unit,
        float(recomputed), figure.decimals, agrees, figure.starred, remark,
    )  # fmt: skip
