"""Tables 1, 3 and A2: accuracies as the paper prints them, ours beside, and what lies between them in points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks import published
from perception_gap.errors import UsageError
from reports.sources import Matrix, Source
from reports.tables import gains, latent_tokens
from reports.tables.match import PAPER, chosen_rows, given_row, group, row_of, title
from reports.tables.model import Cell, Row, Table, estimate, n_in_heads
from reports.tables.own import Own, gathered
from reports.tables.places import Place, column_of, places_of
from reports.tables.published_cells import disagreements, figure, repeated, source_lines
from reports.tables.rank import ranked

ACCURACIES = ("table1", "table3", "tableA2")
UNMATCHED = "no published row"


def build(kind: str, sources: Sequence[Source], rows: Mapping[str, str], baseline: str | None) -> Table:
    """One of ACCURACIES. UsageError where no source has a figure for it."""
    paper = published.load(PAPER)
    printed = paper.table(kind)
    owns, absent = gathered(sources)
    if kind == "tableA2":
        owns, left_out = latent_tokens.chosen(owns)
        absent += left_out
    places = places_of(printed, owns)
    if not places or not owns:
        raise UsageError(_nothing(printed, owns, absent))
    rows_of = _matched(owns, rows, printed)
    checked = disagreements(paper, kind)
    columns = tuple(column_of(place, owns) for place in places)
    lines = _rows(printed, owns, places, rows_of, checked)
    lines += gains.published_rows(paper, printed, places)
    lines += gains.own_rows(printed, owns, places, rows_of, baseline)
    comparable, apart = _comparable(owns, places)
    columns = tuple(replace(c, notes=c.notes + apart.get(c.key, ())) for c in columns)
    heads, final = n_in_heads(columns, ranked(lines, columns, comparable))
    about = (*source_lines(paper, printed), *repeated(paper, kind), *absent, *_elsewhere(owns, places))
    return Table(kind, f"{printed.title}: accuracy in percent, differences in points", heads, final, about=about)


def _matched(owns: Sequence[Own], rows: Mapping[str, str], printed: published.Table) -> dict[str, str]:
    """Label of a model -> name of its row in this table; models without one are absent."""
    chosen = chosen_rows(rows, [own.names for own in owns], (*ACCURACIES, "table2")) if rows else {}
    names = {row.name for row in printed.rows}
    matched: dict[str, str | None] = {}
    for own in owns:
        of_latents = latent_tokens.row_of(own, printed) if printed.id == "tableA2" else None
        by_name = row_of(own.name, "mask" if own.hidden else own.latents, printed)
        matched[own.label] = given_row(own.names, chosen) or of_latents or by_name
    return {label: name for label, name in matched.items() if name in names}


def _rows(
    printed: published.Table,
    owns: Sequence[Own],
    places: Sequence[Place],
    rows_of: Mapping[str, str],
    checked: Mapping[tuple[str, str], str],
) -> list[Row]:
    """Under each published row's group: ours, the published one, the differences; then ours without a published row."""
    lines: list[Row] = []
    for row in printed.rows:
        mine = [own for own in owns if rows_of.get(own.label) == row.name]
        lines += [_own_row(own, places, group(row)) for own in mine]
        cells = {
            place.key: figure(row.cells[place.column.key], checked) for place in places if place.column.key in row.cells
        }
        lines.append(Row(title(row), "published", cells, group(row)))
        lines += [_difference(own, row, places) for own in mine if _same_tasks(own, places)]
    rest = [own for own in owns if own.label not in rows_of]
    lines += [_own_row(own, places, latent_tokens.group(own, printed) or UNMATCHED) for own in rest]
    groups = list(dict.fromkeys(row.group for row in lines))
    return sorted(lines, key=lambda row: groups.index(row.group))


def _own_row(own: Own, places: Sequence[Place], below: str) -> Row:
    cells = {
        place.key: estimate(own.figures[place.task].estimate, "percent", notes=own.figures[place.task].notes)
        for place in places
        if place.task in own.figures
    }
    return Row(own.label, "ours", cells, below, notes=own.notes)


def _same_tasks(own: Own, places: Sequence[Place]) -> bool:
    return any(place.same and place.task in own.figures for place in places)


def _difference(own: Own, row: published.Row, places: Sequence[Place]) -> Row:
    """Ours minus the published figure, undefined of other questions."""
    cells = {}
    for place in places:
        theirs = row.cells.get(place.column.key)
        if place.task not in own.figures or theirs is None:
            continue
        mine = estimate(own.figures[place.task].estimate, "points")
        cells[place.key] = mine.minus(theirs.value) if place.same else Cell(None)
    return Row(f"{own.label} − {title(row)}", "difference", cells, group(row))


def _comparable(owns: Sequence[Own], places: Sequence[Place]) -> tuple[dict[str, set[str]], dict[str, tuple[str, ...]]]:
    """Per column the labels of ours that answered the same questions (most of them), and a note where some did not."""
    labels: dict[str, set[str]] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for place in places:
        data = {own.label: own.figures[place.task].data for own in owns if place.task in own.figures}
        most = Counter(data.values()).most_common(1)[0][0] if data else ""
        labels[place.key] = {label for label, of in data.items() if of == most}
        if others := [label for label, of in data.items() if of != most]:
            notes[place.key] = (f"not ranked, for other questions than the rest of ours: {', '.join(others)}",)
    return labels, notes


def _elsewhere(owns: Sequence[Own], places: Sequence[Place]) -> tuple[str, ...]:
    tasks = dict.fromkeys(task for own in owns for task in own.figures)
    others = [task for task in tasks if task not in {place.task for place in places}]
    return (f"measured, but no column of this table: {', '.join(others)}",) if others else ()


def _nothing(printed: published.Table, owns: Sequence[Own], absent: Sequence[str]) -> str:
    tasks = dict.fromkeys(task for own in owns for task in own.figures)
    wanted = [column.task for column in printed.columns if column.task]
    reason = f"the runs have {', '.join(tasks)}" if tasks else "; ".join(absent) or "no model is finished"
    matrix = " or ablate" if any(isinstance(own.source, Matrix) for own in owns) or printed.id != "table1" else ""
    return (
        f"{printed.id}: none of its tasks was measured ({reason}); expected some of {', '.join(wanted)} or of the "
        f"drawn scenes: give a folder of gapcheck bench{matrix}"
    )
