"""Published figures as cells: as printed, starred as printed, with a footnote where one does not recompute."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import published
from benchmarks.published.figure import RowOf
from reports.tables.model import Cell


def disagreements(paper: published.Paper, table: str) -> dict[tuple[str, str], str]:
    """(row, column) -> footnote of every figure of the table that does not follow from the others."""
    notes: dict[tuple[str, str], str] = {}
    for check in published.checks(paper, [table]):
        if not check.agrees:
            remark = f", {check.remark}" if check.remark else ""
            text = f"printed {check.printed}; recomputed {check.shown} ({check.what}{remark})"
            at = (check.row, check.column)
            notes[at] = f"{notes[at]}; {text}" if at in notes else text
    return notes


def figure(cell: published.Published, checked: Mapping[tuple[str, str], str]) -> Cell:
    """The figure with its printed digits."""
    note = checked.get((cell.row, cell.column))
    return Cell(
        cell.value,
        n=cell.n,
        decimals=cell.decimals,
        printed=cell.printed,
        starred=cell.starred,
        notes=(note,) if note else (),
    )


def source_lines(paper: published.Paper, table: published.Table) -> tuple[str, ...]:
    """Where the published figures are from, in which setting, and the notes of the table."""
    about = f"published: {paper.title}, arXiv {paper.arxiv}, {table.id}" + (
        f" ({table.settings})" if table.settings else ""
    )
    digits = "digits are those of our copy, which may have lost trailing zeros"
    return tuple(text for text in (f"{about}; {digits}", table.note) if text)


def repeated(paper: published.Paper, table: str) -> tuple[str, ...]:
    """Rows of the table that print the figures of another row, which is not said to be the same."""

    def name(row: RowOf) -> str:
        return row.row if row.table == table else f"{row.row} of {row.table}"

    return tuple(
        f"published {name(equal.first)} and {name(equal.second)} are equal in all of {', '.join(equal.columns)}"
        for equal in published.coincidences(paper, [table])
    )
