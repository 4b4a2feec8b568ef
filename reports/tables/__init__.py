"""Tables as the paper prints them, ours beside the published figures, and tables of everything that runs say.

build(kind, sources, rows=.., baseline=..) -> [Table]      table1, table2, table3, tableA2; None: everything
render(tables, layout) -> str                              md, latex, csv, html, text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from perception_gap.errors import UsageError
from reports.sources import Source, with_members
from reports.tables import accuracy, as_csv, as_html, as_latex, as_markdown, as_text, attention, overview
from reports.tables.model import Cell, Column, Row, Table

KINDS = ("table1", "table2", "table3", "tableA2")
LAYOUTS = {
    "md": as_markdown.render,
    "latex": as_latex.render,
    "csv": as_csv.render,
    "html": as_html.render,
    "text": as_text.render,
}
NONE: Mapping[str, str] = MappingProxyType({})

__all__ = ["KINDS", "LAYOUTS", "Cell", "Column", "Row", "Table", "build", "render"]


def build(
    kind: str | None, sources: Sequence[Source], *, rows: Mapping[str, str] = NONE, baseline: str | None = None
) -> list[Table]:
    """One of KINDS, ours beside the published figures; None: every table that the sources have something for.

    rows: a model of ours (label, name, preset) -> the published row that it stands for; hub ids and presets that
    repeat a row find it themselves. baseline: the model that gains of ours are over. UsageError for unknown names
    (with near ones), and where the sources have nothing for the table.
    """
    sources = with_members(sources)
    if kind is None:
        return overview.build(sources)
    if kind not in KINDS:
        raise UsageError(f"table {kind!r}: expected one of {', '.join(KINDS)}")
    if kind == "table2":
        return [attention.build(sources, rows)]
    return [accuracy.build(kind, sources, rows, baseline)]


def render(tables: Sequence[Table], layout: str) -> str:
    """The tables in one of LAYOUTS."""
    if layout not in LAYOUTS:
        raise UsageError(f"format {layout!r}: expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[layout](tables)
