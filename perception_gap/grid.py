"""Lines of cells as a table, for a terminal or in Markdown: what every command prints its tables with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

Layout = Literal["text", "markdown"]
_FORMATS = {"text": "simple", "markdown": "github"}
_PIPE = re.compile(r"(?<!\\)\|")  # one that would end a cell of Markdown


def grid(
    head: Sequence[str], lines: Iterable[Sequence[object]], layout: Layout = "text", right: Iterable[int] = ()
) -> str:
    """One line a row. Cells stay as they are written, numbers included, None blank; in Markdown `|` is escaped.

    A line that is shorter than the head has blanks behind it. right: the columns that are aligned to the right.
    """
    from tabulate import tabulate

    cells = [["" if cell is None else str(cell) for cell in line] + [""] * (len(head) - len(line)) for line in lines]
    names = list(head)
    if layout == "markdown":
        names, *cells = ([_PIPE.sub(r"\\|", cell) for cell in line] for line in (names, *cells))
    aligned = ["left"] * len(head) if cells else []
    for column in right if cells else ():
        aligned[column] = "right"
    as_written: dict[str, Any] = {"disable_numparse": True, "preserve_whitespace": True}
    return tabulate(cells, names, _FORMATS[layout], colalign=aligned or None, **as_written)
