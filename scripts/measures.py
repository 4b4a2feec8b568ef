"""The list of measures in docs/measures.md, from the table: `python -m scripts.measures` writes it."""

from __future__ import annotations

import math
from pathlib import Path

from perception_gap.metrics.measure import Measure
from perception_gap.metrics.table import TABLE

DOCS = Path(__file__).parents[1] / "docs" / "measures.md"
BEGIN, END = "<!-- measures -->\n", "<!-- /measures -->\n"


def lines() -> str:
    """A Markdown table, a row a measure."""
    rows = [
        f"| `{m.name}` | {m.unit} | {ends(m)} | {m.nearer} | {', '.join(m.scopes)} | {m.doc} |\n"
        for m in TABLE.values()
    ]
    return "| measure | unit | range | nearer | of | meaning |\n|---|---|---|---|---|---|\n" + "".join(rows)


def ends(measure: Measure) -> str:
    """`0..1`, `0..` where nothing bounds it above."""
    low, high = ("" if math.isinf(end) else f"{end:.3g}".replace("-", "−") for end in measure.range)
    return f"{low}..{high}"


def with_list(text: str) -> str:
    """The text of the page with the list between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{lines()}{END}{after}"


if __name__ == "__main__":
    DOCS.write_text(with_list(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
