"""CSV that spreadsheets open: a text that one would run as a formula has a ' in front, which the reader takes off."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

# What Excel, LibreOffice and Sheets take for a formula, also in full-width letters and behind spaces (OWASP, "CSV
# Injection"); a ' in front of one is doubled, so that reading gives back what was written.
_FORMULA = re.compile(r"[\s']*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escaped(value: Any) -> Any:
    """The value as a cell: of a text that begins like a formula, and is no number, 'TEXT; anything else as it is."""
    harmless = not isinstance(value, str) or _NUMBER.fullmatch(value) or not _FORMULA.match(value)
    return value if harmless else f"'{value}"


def unescaped(value: Any) -> Any:
    """What `escaped` was given."""
    begins = isinstance(value, str) and value[:1] == "'" and _FORMULA.match(value[1:])
    return value[1:] if begins else value


def csv_text(frame: pd.DataFrame, **options: Any) -> str:
    """The frame as CSV without its index, texts `escaped`; options: of `DataFrame.to_csv`."""
    return str(frame.map(escaped).to_csv(index=False, **options))
