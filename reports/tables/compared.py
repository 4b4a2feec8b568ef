"""A comparison in tables: models side by side, pairs of gazes, and whether gazes agree where answers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from perception_gap.metrics.columns import WITHOUT_SINKS, measure_of, measures
from perception_gap.metrics.measure import Measure
from perception_gap.stats.estimates import side
from reports.compared import CompareRun
from reports.names import frame
from reports.rows import COLUMN_UNITS
from reports.summary import Metric, defined
from reports.tables.model import Cell, Column, Row, Table, estimate, n_in_heads, n_in_rows

# Columns of the leaderboard: measures, or (title, unit, digits) of what is none or is called otherwise here. Those in
# which no model has a figure are left out.
LEADERBOARD: dict[str, tuple[str, str, int] | None] = {
    "accuracy": ("accuracy", "percent", 1),
    "accuracy_difference": ("accuracy − baseline", "points", 1),
    "focus_score": None,
    "focus_chance": None,
    "focus_lift": None,
    "focus_score_difference": ("focus − baseline", "points", 1),
    "auroc": ("AUROC", "", 2),
    "sink_share": None,
    "focus_score_without_sinks": None,
    "kl": ("KL from teacher", "nats", 3),
    "kl_floor": ("its floor", "nats", 3),
    "text_image_mass": None,
    "relative_entropy": None,
}
# What a terminal has room for.
BRIEF = ("accuracy", "accuracy_difference", "focus_score", "focus_lift", "auroc", "kl", "failed")
AGREEMENT = {
    "both_right": "both right",
    "only_first_right": "only the first right",
    "only_second_right": "only the second right",
    "both_wrong": "both wrong",
    "raw_difference": "both right − both wrong",
    "right_minus_wrong": "the same within task",
    "alike_minus_split": "verdicts equal − different, within task",
}
SIGNED = (
    "accuracy_difference",
    "focus_score_difference",
    "floor − JS",
    "raw_difference",
    "right_minus_wrong",
    "alike_minus_split",
)
NEARER = "nearer than the floor: floor − JS is above 0 (tested, Holm over pairs)"
FARTHER = "farther than the floor: floor − JS is below 0 (tested, Holm over pairs)"
OPEN = "not distinguishable from the floor"
TEXTS = {"teacher": "the teacher's answer", "reference": "the reference answer"}


def build(comparison: CompareRun) -> list[Table]:
    """Leaderboard, matrix of JS, pairs with every measure, agreement (without pairs none of these three), knockout."""
    tables = [matrix(comparison), pairs(comparison), agreement(comparison)] if comparison.summary["pairs"] else []
    return [leaderboard(comparison), *tables, *knockout(comparison)]


def leaderboard(comparison: CompareRun, *, brief: bool = False) -> Table:
    """A row a model, the most accurate first. brief: only the columns of BRIEF."""
    base = comparison.labels[comparison.summary["baseline"]]
    titles = {key: told_otherwise or of_column(key) for key, told_otherwise in LEADERBOARD.items()}
    rows = []
    for row in comparison.summary["models"]:
        cells = _cells(row, titles)
        cells["image_tokens"] = Cell(row["image_tokens"], decimals=0)
        if row["most_pixels"] is not None:
            cells["most_pixels"] = Cell(row["most_pixels"], decimals=0)
        cells["failed"] = Cell(row["n_failed"], decimals=0)
        roles = ["teacher"] * row["is_teacher"] + ["baseline"] * (row["name"] == comparison.summary["baseline"])
        rows.append(Row(comparison.labels[row["name"]] + (f" ({', '.join(roles)})" if roles else ""), "ours", cells))
    columns = [Column(key, title, unit) for key, (title, unit, _) in titles.items()]
    columns += [Column("image_tokens", "image tokens", ""), Column("most_pixels", "shrunk to", "pixels")]
    columns += [Column("failed", "failed", "")]
    shown = [
        column
        for column in columns
        if (column.key in BRIEF or not brief)
        and (column.key == "accuracy" or any(column.key in row.cells and row.cells[column.key].defined for row in rows))
    ]
    heads, lines = n_in_heads(shown, rows)
    spec = comparison.info["data"]["spec"]
    about = () if brief else _about(comparison, base)
    return Table("leaderboard", f"Models on {spec}: answers and gaze, in percent", heads, lines, "model", about)


def _cells(row: Mapping[str, Any], titles: Mapping[str, tuple[str, str, int]]) -> dict[str, Cell]:
    """Of what a row of the summary has."""
    return {
        key: estimate(row[key], unit, signed=key in SIGNED, decimals=digits)
        for key, (_, unit, digits) in titles.items()
        if key in row
    }


def of_column(column: str) -> tuple[str, str, int]:
    """(title, unit, digits) of a column of a measure; with its sinks taken out, or of a floor, it says so."""
    measure = measure_of(column)
    assert measure is not None, column
    title = measure.title.replace("teacher", "first").replace("student", "second")
    title += " without sinks" if column.endswith(WITHOUT_SINKS) else ""
    title = f"floor of {title}" if column == measure.floor else title
    return title, COLUMN_UNITS.get(measure.unit, measure.unit), {"%": 1, "×": 2}.get(measure.unit, 3)


def pair_titles() -> dict[str, tuple[str, str, int]]:
    """(title, unit, digits) of what is measured of pairs: JS beside its floor, KL both ways, then the others."""
    difference = {"js_floor": ("its floor", "nats", 3), "floor − JS": ("floor − JS", "nats", 3)}
    names = dict.fromkeys(["kl", "kl_reverse", "kl_floor", *(measure.name for measure in measures("pair", Measure))])
    return {"js": of_column("js")} | difference | {name: of_column(name) for name in names if name != "js"}


def _about(comparison: CompareRun, base: str) -> tuple[str, ...]:
    met = (
        [f"KL from teacher: on the {frame(comparison.info)}"]
        if any("kl" in row for row in comparison.summary["models"])
        else []
    )
    return (
        f"− baseline: minus {base}, points, paired by sample; focus: share of the own answer's map in the boxes; "
        "chance: that of a uniform map; lift: focus / chance; AUROC: right over wrong answers by focus, within task; "
        "image tokens: median",
        *met,
        comparison.info["budget"] + "; shrunk to: pictures above it",
        *comparison.absent,
    )


# What `--knockout` cut or drew again: column, title, where it stands in `knockout` of summary.json, unit, decimals.
KNOCKOUT = (
    ("inside", "boxed", ("text", "inside", "change"), "nats", 2),
    ("number", "− as many", ("contrasts", "text", "inside_minus_outside_number", "change"), "nats", 2),
    ("mass", "− same mass", ("contrasts", "text", "inside_minus_outside_mass", "change"), "nats", 2),
    ("accuracy", "accuracy", ("text", "inside", "accuracy", "difference"), "points", 1),
    ("redrawn", "redrawn", ("picture", "redrawn", "change"), "nats", 2),
    ("redrawn_accuracy", "accuracy there", ("picture", "redrawn", "accuracy", "difference"), "points", 1),
)


def knockout(comparison: CompareRun) -> list[Table]:
    """A row a model whose attention was cut, in the order of the comparison; [] where none was."""
    rows = []
    for name, run in comparison.members.items():
        if cuts := run.summary.get("knockout"):
            cells = {
                key: estimate(_at(cuts, where), unit, signed=True, decimals=digits)
                for key, _, where, unit, digits in KNOCKOUT
            }
            rows.append(Row(comparison.labels[name], "ours", cells))
    if not rows:
        return []
    columns = [Column(key, title, unit) for key, title, _, unit, _ in KNOCKOUT]
    heads, lines = n_in_heads([c for c in columns if any(row.cells[c.key].defined for row in rows)], rows)
    about = (
        "boxed: change of the own answer's log-probability when no text behind the picture sees the boxed tokens",
        "− as many, − same mass: minus the change for so many tokens, or tokens of that attention mass, elsewhere",
        "redrawn: the scene without the boxed things; accuracy: its change under each",
    )
    return [Table("knockout", "The boxed tokens cut off, or the boxed things not drawn", heads, lines, "model", about)]


def _at(cuts: Mapping[str, Any], where: Sequence[str]) -> Any:
    """The estimate at this place, None where a run lacks it."""
    node: Any = cuts
    for key in where:
        node = node.get(key) if node else None
    return node


def matrix(comparison: CompareRun) -> Table:
    """JS of every pair, symmetric, marked by what its interval says of the floor."""
    labels = [comparison.labels[name] for name in _names(comparison)]
    cells: dict[str, dict[str, Cell]] = {label: {} for label in labels}
    for row in comparison.summary["pairs"]:
        first, second = comparison.pair(row)
        note = against_floor(row["against_floor"]["difference"])
        cells[first][second] = cells[second][first] = estimate(js_of(row), "nats", notes=(note,) if note else ())
    columns = [Column(label, label, "") for label in labels]
    heads, rows = n_in_heads(columns, [Row(label, "ours", cells[label]) for label in labels])
    counts = {column.n for column in heads if column.n is not None}
    if len(counts) == 1:  # said once
        heads = tuple(replace(column, n=None) for column in heads)
    n = f", n {counts.pop():,}" if len(counts) == 1 else ""
    text = TEXTS.get(comparison.info["text"], "one text")
    caption = f"JS divergence of two models' maps of {text}, on the {frame(comparison.info)}, nats{n}"
    about = ("floor: the same against the first model's map of another sample of the task; JS is at most ln 2 = 0.693",)
    return Table("pairs matrix", caption, heads, rows, "model", about)


def _names(comparison: CompareRun) -> list[str]:
    """The models in the order of the pairs, which is that of the members."""
    named = [row[end] for row in comparison.summary["pairs"] for end in ("first", "second")]
    return [name for name in comparison.labels if name in named]


def js_of(row: Mapping[str, Any]) -> Metric:
    """JS of a pair on the samples that have a floor, so that it stands beside that; of all where none has."""
    pair = row["against_floor"]
    return pair["value"] if pair["value"]["n"] else row["js"]


def against_floor(difference: Metric) -> str:
    """NEARER, FARTHER or OPEN by floor − JS, corrected for the number of pairs; "" where there is no floor."""
    if not defined(difference):
        return ""
    return {1: NEARER, -1: FARTHER, 0: OPEN}[side(difference)]


def pairs(comparison: CompareRun) -> Table:
    """A row a pair, a column a measure with its floor beside it."""
    measured = [row | _beside_floor(row) for row in comparison.summary["pairs"]]
    titles = {key: title for key, title in pair_titles().items() if any(key in row for row in measured)}
    columns = [Column(key, title, unit) for key, (title, unit, _) in titles.items()]
    rows = [Row(pair_label(comparison, row), "ours", _cells(row, titles)) for row in measured]
    about = (
        f"Maps of {TEXTS.get(comparison.info['text'], 'one text')}, on the {frame(comparison.info)}; JS, its floor and "
        "their difference over the same samples. First: the model before the dash; "
        "KL(p ‖ q) is of p from q, floors are the first's map of another sample of the task",
    )
    return Table("pairs", "How far apart two models look", tuple(columns), n_in_rows(rows), "pair", about)


def _beside_floor(row: Mapping[str, Any]) -> dict[str, Metric]:
    """JS of a pair, its floor, and their difference, over the same samples."""
    pair = row["against_floor"]
    return {"js": js_of(row), "js_floor": pair["floor"], "floor − JS": pair["difference"]}


def agreement(comparison: CompareRun) -> Table:
    """JS of every pair by which of the two is right, and its differences."""
    columns = [Column(key, title, "") for key, title in AGREEMENT.items()]
    rows = []
    for row in comparison.summary["pairs"]:
        by_verdict = row["agreement"]["js"]
        cells = {key: estimate(by_verdict[key], "nats", signed=key in SIGNED) for key in AGREEMENT}
        rows.append(Row(pair_label(comparison, row), "ours", cells))
    about = ("within task: n counts the samples of the tasks that have both kinds; the first difference mixes tasks",)
    caption = f"JS of two models' maps (nats, {frame(comparison.info)}) by who is right"
    return Table("agreement", caption, tuple(columns), n_in_rows(rows), "pair", about)


def pair_label(comparison: CompareRun, row: Mapping[str, Any]) -> str:
    """`student – lavit`."""
    return " – ".join(comparison.pair(row))
