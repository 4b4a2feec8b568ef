"""Tables as LaTeX with booktabs: a table* each; intervals in a smaller line below the figures."""

from __future__ import annotations

from collections.abc import Sequence

from reports.tables.model import Cell, Column, Row, Table, plain

RANKS = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
SPECIAL = {
    **{letter: f"\\{letter}" for letter in "{}_&%#$"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "‖": r"$\Vert$",
    "…": r"\dots{}",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",
    "’": "'",
    "“": "``",
    "”": "''",
}
WIDTH = 13  # letters of a column's head before it goes on in the next line


def render(tables: Sequence[Table]) -> str:
    """Needs \\usepackage{booktabs}, as the first line says."""
    return "% \\usepackage{booktabs}\n" + "\n\n".join(_rendered(table) for table in tables) + "\n"


def _rendered(table: Table) -> str:
    stubs = ["$n$" if stub == "n" else escaped(stub) for stub in table.stubs]
    align = "".join("r" if stub == "$n$" else "l" for stub in stubs) + "r" * len(table.columns)
    lines = [
        r"\begin{table*}[t]",
        r"\centering\scriptsize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escaped(table.caption)}}}",
        rf"\label{{tab:{''.join(c if c.isalnum() else '-' for c in table.id)}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join([*stubs, *(_head(table, column) for column in table.columns)]) + r" \\",
        *_body(table, len(align)),
        r"\bottomrule",
        r"\end{tabular}",
        *_notes(table),
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _body(table: Table, width: int) -> list[str]:
    lines = []
    for title, rows in table.groups():
        lines.append(r"\midrule")
        lines += [rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escaped(title)}}}}} \\"] if title else []
        lines += [line for row in rows for line in _lines(table, row)]
    return lines


def _lines(table: Table, row: Row) -> list[str]:
    """The figures, and below them their intervals and n where there are any."""
    first = table.before(row, escaped(row.label) + _marks(table.marked(row.notes)))
    cells = [(column, row.cells.get(column.key)) for column in table.columns]
    below = ["" if cell is None else _below(cell) for _, cell in cells]
    figures = ["" if cell is None else _figure(table, column, cell) for column, cell in cells]
    lines = [" & ".join([*first, *figures]) + r" \\"]
    if any(below):
        lines.append(" & ".join([*[""] * len(first), *below]) + r" \\")
    return lines


def _head(table: Table, column: Column) -> str:
    """Right-aligned over as many lines as its words need, n in the last."""
    lines = [""]
    for word in column.head.split():
        fits = len(lines[-1]) + len(word) < WIDTH
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if fits or not lines[-1] else [lines[-1], word]
    shown = [escaped(line) for line in lines]
    shown[-1] += _marks(table.marked(column.notes))
    shown += [rf"$n$ {column.n:,}"] if column.n is not None else []
    stacked = r"\\".join(shown)
    return rf"\shortstack[r]{{{stacked}}}" if len(shown) > 1 else shown[0]


def _figure(table: Table, column: Column, cell: Cell) -> str:
    """The figure with its points below those of the column; star and marks hang out of the column."""
    digits = table.padding(column)[1]
    _, point, part = cell.figure.partition(".")
    behind = "0" * (digits - len(part))
    behind = behind if point or not digits else f".{behind}"
    hanging = ("*" if cell.starred else "") + _marks(table.marked(cell.notes))
    text = RANKS[cell.rank].format(escaped(cell.figure)) + (rf"\rlap{{{hanging}}}" if hanging else "")
    return text + (rf"\phantom{{{behind}}}" if behind and cell.defined else "")


def _below(cell: Cell) -> str:
    more = " ".join(text for text in (cell.interval, cell.count) if text)
    return rf"{{\tiny {escaped(more)}}}" if more else ""


def _marks(marks: str) -> str:
    return rf"\textsuperscript{{{marks}}}" if marks else ""


def _notes(table: Table) -> list[str]:
    notes = "\n".join(f"{note}." for note in table.footnotes(r"\textsuperscript{{{}}}\,", escaped))
    return [r"\par\smallskip", r"\parbox{\textwidth}{\raggedright " + notes + "}"] if notes else []


def escaped(text: str) -> str:
    """Text as LaTeX; a character that LaTeX's own fonts may not have becomes a question mark."""
    return "".join(SPECIAL.get(c, c if c.isascii() or (c.isalpha() and ord(c) < 384) else "?") for c in plain(text))
