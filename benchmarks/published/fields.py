"""Checks of one value at a place in a file; the error says where, what was found and what was expected."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from benchmarks.published.model import UNITS
from perception_gap.errors import UsageError

NAMES = {
    str: "text",
    list: "a list",
    dict: "a table",
    int: "a whole number",
    datetime.date: "a date such as 2026-01-15",
}


class Printed(str):
    """A number as its digits stand in the file."""


@dataclass(frozen=True)
class Place:
    """Where in a file: the path, then what is inside of what."""

    where: str

    def at(self, part: str) -> Place:
        return Place(f"{self.where}: {part}" if ": " not in self.where else f"{self.where}, {part}")

    def wrong(self, what: str) -> UsageError:
        return UsageError(f"{self.where}: {what}")

    def fields(self, entry: Any, required: Mapping[str, Any], optional: Mapping[str, Any]) -> None:
        """Every required key is there, no other than these is, and each has its type."""
        if not isinstance(entry, dict):
            raise self.wrong(f"is {entry!r}; expected a table with {', '.join(required)}")
        known = {**required, **optional}
        for key in entry:
            self.one_of(key, known, "key")
        for key in required:
            if key not in entry:
                raise self.wrong(f"lacks {key!r}; expected {', '.join(required)}")
        for key, value in entry.items():
            kinds = known[key] if isinstance(known[key], tuple) else (known[key],)
            # bool is an int, a datetime is a date and Printed is a str: none of them is meant.
            if type(value) not in kinds:
                raise self.wrong(f"{key} is {value!r}; expected {' or '.join(NAMES[kind] for kind in kinds)}")

    def one_of(self, value: Any, known: Iterable[str], what: str, remedy: str = "") -> str:
        """The value, one of those known."""
        known = list(known)
        if value not in known:
            near = get_close_matches(str(value), known, n=1)
            like = f" (did you mean {near[0]!r}?)" if near else ""
            raise self.wrong(f"unknown {what} {value!r}{like}; expected one of {', '.join(known) or 'none'}{remedy}")
        return str(value)

    def texts(self, value: list, what: str) -> list[str]:
        """A list of different texts."""
        for item in value:
            if type(item) is not str or value.count(item) > 1:
                raise self.wrong(f"{what} has {item!r}; expected a list of different texts")
        return value


def figure_text(value: Any, unit: str, place: Place) -> str:
    """The figure as printed, once it is a number in the range of its unit; a setting may also be text or true/false."""
    if unit == "setting" and type(value) in (str, bool):
        return value if isinstance(value, str) else str(value).lower()
    if type(value) not in (int, Printed):
        raise place.wrong(f"is {value!r}; expected a number ({unit}), without quotes; leave out what is not printed")
    text = str(value).replace("_", "").removeprefix("+")
    low, high = UNITS[unit]
    number = float(text)
    # Infinities and NaN lie in no range, that of a setting included.
    inside = abs(number) < float("inf") and (low is None or number >= low) and (high is None or number <= high)
    if not inside or (unit == "count" and type(value) is not int):
        whole = "a whole number" if unit == "count" else "a number"
        bounds = f" from {low} to {high}" if high is not None else f" of at least {low}" if low is not None else ""
        raise place.wrong(f"is {text} {unit}; expected {whole}{bounds}")
    return text
