"""Published tables, recomputations and gains as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.published.declared import Check
from benchmarks.published.model import Paper, Row, Table
from benchmarks.published.recompute import Coincidence, Fit, Gain, checks, coincidences, fits, gains
from perception_gap.grid import grid

STAR = "*"


def report(paper: Paper, tables: Iterable[str] | None = None, *, everything: bool = False) -> str:
    """Tables and what does not recompute; with `everything` each recomputation and gain instead of the tables."""
    chosen = paper.chosen(tables)
    names = [table.id for table in chosen]
    checked = checks(paper, names)
    parts = [head(paper)]
    if not everything:
        parts += [table_text(table) for table in chosen]
    parts += [checks_text(checked, everything=everything) if checked else ""]
    parts += [coincidences_text(coincidences(paper, names))]
    if everything:
        fitting = fits(paper, names)
        parts += [fits_text(fitting) if fitting else "", gains_text(gains(paper, names))]
    return "\n\n".join(filter(None, parts))


def head(paper: Paper) -> str:
    """Title, source, date, notes and the tables that there are."""
    about = f"{paper.source}, {paper.date.isoformat()}{f' (arXiv {paper.arxiv})' if paper.arxiv else ''}"
    figures = [sum(len(row.cells) for row in table.rows) for table in paper.tables]
    lines = [(table.id, table.title, len(table.rows), n) for table, n in zip(paper.tables, figures, strict=True)]
    tables = grid(("table", "what", "rows", "figures"), lines, "markdown")
    return "\n\n".join(filter(None, (f"# {paper.id}: {paper.title}", about, paper.note, tables)))


def table_text(table: Table) -> str:
    """Title, the table as printed (a star on starred figures, blank where nothing is printed), settings and notes."""
    cells = [(cell.unit, table.column(key).unit) for row in table.rows for key, cell in row.cells.items()]
    own_units = any(unit != usual for unit, usual in cells)
    labels = [name for name in ("group", "name") if any(getattr(row, name) for row in table.rows)]
    lines = [
        [getattr(row, name) for name in labels]
        + ([" ".join(dict.fromkeys(cell.unit for cell in row.cells.values()))] if own_units else [])
        + [_cell(row, column.key) for column in table.columns]
        for row in table.rows
    ]
    units = {column.unit for column in table.columns} - {"setting"}
    headers = [column.title if len(units) < 2 else f"{column.title} ({column.unit})" for column in table.columns]
    headers = [*("row" if name == "name" else name for name in labels), *(["unit"] if own_units else []), *headers]
    title = f"## {table.id}: {table.title}{f' ({units.pop()})' if len(units) == 1 and not own_units else ''}"
    notes = [f"{column.title}: {column.note}" for column in table.columns if column.note]
    about = "\n".join(f"- {text}" for text in (table.settings, table.note, *notes) if text)
    return "\n\n".join(filter(None, (title, grid(headers, lines, "markdown"), about)))


def _cell(row: Row, key: str) -> str:
    figure = row.cells.get(key)
    return "" if figure is None else figure.printed + STAR * figure.starred


def checks_text(checks: Sequence[Check], *, everything: bool) -> str:
    """The recomputations that disagree, or all of them, and how many agree."""
    chosen = [check for check in checks if everything or not check.agrees]
    columns: dict[str, list[str]] = {
        "table": [check.table for check in chosen],
        "row": [check.row for check in chosen],
        "column": [check.column for check in chosen],
        "printed": [check.printed + STAR * check.starred for check in chosen],
        "recomputed": [check.shown for check in chosen],
        "from": [check.what for check in chosen],
        "agrees": [_verdict(check) for check in chosen] if everything else [],
        "remark": [check.remark for check in chosen],
    }
    kept = {title: column for title, column in columns.items() if any(column)}
    lines = list(zip(*kept.values(), strict=True))
    agree = f"{sum(check.agrees for check in checks)} of {len(checks)} recomputations agree with the print."
    return "\n\n".join(filter(None, ("## Recomputed", grid(list(kept), lines, "markdown") if lines else "", agree)))


def _verdict(check: Check) -> str:
    if not check.agrees:
        return "no"
    return "yes" if check.kind == "k of n" or check.shown == check.printed else "yes, by rounding"


def fits_text(fits: Sequence[Fit]) -> str:
    """Which denominators the figures of each column allow."""
    lines = [(fit.column, f"{fit.n} {fit.what}", f"{fit.fitting} of {fit.figures}") for fit in fits]
    head = ("column", "n", "figures that are k of n")
    return f"## Shares of a whole number of questions\n\n{grid(head, lines, 'markdown')}"


def coincidences_text(coincidences: Sequence[Coincidence]) -> str:
    """One line for each pair of rows that print the same figures."""
    return "\n".join(
        f"Equal in all of {', '.join(pair.columns)}: {pair.first.table}, {pair.first.row!r} and {pair.second.table}, "
        f"{pair.second.row!r}, which are not said to be the same."
        for pair in coincidences
    )


def gains_text(gains: Sequence[Gain]) -> str:
    """Differences in points, a table for each row that others are compared with."""
    parts = []
    for table, over in dict.fromkeys((gain.table, gain.over) for gain in gains):
        group = [gain for gain in gains if (gain.table, gain.over) == (table, over)]
        columns = list(dict.fromkeys(gain.column for gain in group))
        shown = {(g.row, g.column): f"{g.points:+.{g.decimals}f}{STAR * g.starred}" for g in group}
        rows = dict.fromkeys(gain.row for gain in group)
        lines = [[row, *(shown.get((row, column), "") for column in columns)] for row in rows]
        parts.append(f"## {table}: points over {over} (not printed)\n\n{grid(['row', *columns], lines, 'markdown')}")
    return "\n\n".join(parts)
