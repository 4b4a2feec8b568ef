"""One printed figure: its digits, its unit, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from benchmarks.published.entries import LayoutError, Printed

# unit -> (smallest, largest) value; None: unbounded. "setting" may also be text or true/false.
UNITS: dict[str, tuple[float | None, float | None]] = {
    "percent": (0, 100),
    "points": (-100, 100),
    "fraction": (0, 1),
    "cosine distance": (0, 2),
    **dict.fromkeys(("ratio", "nats", "count", "tokens", "words", "pixels"), (0, None)),
    "setting": (None, None),
}


class RowOf(NamedTuple):
    table: str
    row: str


class CellOf(NamedTuple):
    table: str
    row: str
    column: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """One figure as printed, with everything that says where it stands and what it is."""

    paper: str
    table: str
    row: str
    column: str
    printed: str
    unit: str
    starred: bool  # the paper itself took it from elsewhere
    model: str
    params: str
    variant: str
    group: str
    task: str | None
    split: str
    n: int | None

    @property
    def value(self) -> float:
        """The figure in its unit; NaN for text."""
        try:
            return float(self.exact)
        except ValueError:
            return float("nan")

    @property
    def exact(self) -> Fraction:
        """The printed digits without binary rounding. ValueError for text."""
        return Fraction(self.printed)

    @property
    def decimals(self) -> int:
        """Printed digits after the point, 6 for 5e-6."""
        mantissa, _, exponent = self.printed.lower().partition("e")
        return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))

    @property
    def half(self) -> Fraction:
        """Half a unit of the last printed digit: how far the value may lie from the print. A count is exact: 0."""
        return Fraction(0) if self.unit == "count" else Fraction(1, 2 * 10**self.decimals)


def digits_of(value: Any, unit: str) -> str:
    """A value of the file as printed; ValueError unless it is a number in the range of its unit, or a setting."""
    if unit == "setting" and type(value) in (str, bool):
        return value if isinstance(value, str) else str(value).lower()
    if type(value) not in (int, Printed):
        raise LayoutError(f"is {value!r}; expected a number ({unit}), without quotes; leave out what is not printed")
    text = (value.digits if isinstance(value, Printed) else str(value)).replace("_", "").removeprefix("+")
    low, high = UNITS[unit]
    number = float(text)
    # Infinities and NaN lie in no range, that of a setting included.
    inside = abs(number) < float("inf") and (low is None or number >= low) and (high is None or number <= high)
    if not inside or (unit == "count" and type(value) is not int):
        whole = "a whole number" if unit == "count" else "a number"
        bounds = f" from {low} to {high}" if high is not None else f" of at least {low}" if low is not None else ""
        raise LayoutError(f"is {text} {unit}; expected {whole}{bounds}")
    return text
