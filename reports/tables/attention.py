"""Table 2: salient regions and entropy of the attention maps on relative depth, over samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks import published
from perception_gap.errors import UsageError
from perception_gap.statistics import Estimate, cluster_codes, mean_ci
from perception_gap.store import Run
from reports.sources import BenchRun, Matrix, Source, Training, short_name
from reports.tables.match import PAPER, chosen_rows, row_of, title
from reports.tables.model import Cell, Column, Row, Table, n_in_heads
from reports.tables.own import absent, names_of
from reports.tables.published_cells import disagreements, figure, said

TASKS = ("blink_relative_depth", "scenes_relative_depth", "relative_depth")
MEASURES = {"salient": "salient_regions", "entropy": "entropy"}  # prefix of the published columns -> ours
DRAWN = "on drawn scenes: other pictures and grids, so no difference from the published figure"
UNMATCHED = "no published row"
RESAMPLES = 2000


@dataclass(frozen=True)
class Looked:
    """The rows of one model on relative depth; `drawn`: they are scenes, not the paper's questions."""

    label: str
    name: str
    latents: str
    rows: pd.DataFrame
    drawn: bool
    names: frozenset[str]


def build(sources: Sequence[Source], rows: Mapping[str, str]) -> Table:
    """UsageError where no run has a map of a relative depth question."""
    paper = published.load(PAPER)
    printed = paper.table("table2")
    found, missing = _gathered(sources)
    if not found:
        raise UsageError(
            f"table2: no attention maps of relative depth questions ({'; '.join(missing) or 'no finished run'}); "
            "give a folder of gapcheck analyze, or of gapcheck bench --gaze, with that task"
        )
    told = chosen_rows(rows, [one.names for one in found], ("table1", "table2", "table3", "tableA2")) if rows else {}
    checked = disagreements(paper, "table2")
    made: list[Row] = []
    matched = {id(one): _row_of(one, told, printed) for one in found}
    for row in printed.rows:
        mine = [one for one in found if matched[id(one)] == row.name]
        made += [_own_row(one, printed, "") for one in mine]
        made.append(Row(title(row), "published", {key: figure(cell, checked) for key, cell in row.cells.items()}))
        made += [_difference(one, row, printed) for one in mine if not one.drawn]
    made += [_own_row(one, printed, UNMATCHED) for one in found if matched[id(one)] is None]
    columns, final = n_in_heads([Column(c.key, c.title, c.unit) for c in printed.columns], made)
    notes = [f"{column.title}: {column.note}" for column in printed.columns if column.note]
    about = (*said(paper, printed), "; ".join(notes), "standard deviations divide by the number of samples", *missing)
    return Table("table2", printed.title, columns, final, about=about)


def _gathered(sources: Sequence[Source]) -> tuple[list[Looked], list[str]]:
    """Runs, their teachers (each once) and the models of benchmarks that looked; what did not, in words."""
    found, missing = [], []
    opened: dict[str, Run] = {}
    for source in sources:
        missing += absent(source)
        if isinstance(source, Run):
            teacher = source.teacher()
            for run in (teacher, source) if teacher else (source,):
                opened[str(run.path.resolve())] = run
        elif isinstance(source, Matrix | Training):
            kind = "a matrix, whose runs are its PRESET-sSEED/eval" if isinstance(source, Matrix) else "a training"
            missing.append(f"{source.path}: {kind}; it has no samples of its own")
        elif isinstance(source, BenchRun):
            for model in source.models:
                one = _looked(model.label, model.name, model.info["asked"]["latents"], model.samples)
                missing += [] if one else [f"{source.path}, {model.label}: no maps of relative depth"]
                found += [one] if one else []
    for run in opened.values():
        model, latents = run.info["model"]["name"], run.info["settings"].get("latents", "force")
        one = _looked(short_name(model, latents), model, latents, run.samples, run.info["data"]["spec"])
        missing += [] if one else [f"{run.path}: no maps of relative depth"]
        found += [one] if one else []
    return _told_apart(found), missing


def _looked(label: str, name: str, latents: str, samples: pd.DataFrame, spec: str = "") -> Looked | None:
    if not {"entropy", "salient_regions"} <= set(samples.columns):
        return None
    rows = samples[samples["task"].isin(TASKS)]
    if rows["entropy"].isna().all():
        return None
    drawn = bool((rows["task"] == "scenes_relative_depth").any()) or spec.split(":")[0] == "scenes"
    return Looked(label, name, latents, rows, drawn, names_of(label, name, latents))


def _told_apart(found: Sequence[Looked]) -> list[Looked]:
    """Labels that would stand twice get a number."""
    made: list[Looked] = []
    for one in found:
        before = sum(other.name == one.name and other.latents == one.latents for other in made)
        label = one.label if not before else f"{one.label} ({before + 1})"
        made.append(Looked(label, one.name, one.latents, one.rows, one.drawn, one.names | {label}))
    return made


def _row_of(one: Looked, told: Mapping[str, str], printed: published.Table) -> str | None:
    given = next((told[name] for name in sorted(one.names) if name in told), None)
    found = given or row_of(one.name, one.latents, printed)
    return found if found in {row.name for row in printed.rows} else None


def _own_row(one: Looked, printed: published.Table, group: str) -> Row:
    decimals = {
        column.key: max(row.cells[column.key].decimals for row in printed.rows if column.key in row.cells)
        for column in printed.columns
    }
    cells = {}
    for prefix, column in MEASURES.items():
        values = one.rows[column].to_numpy(float)
        clusters = one.rows["cluster"].to_numpy()
        for name, found in statistics_of(values, clusters).items():
            key = f"{prefix}_{name}"
            if key in decimals:
                cells[key] = Cell(found.mean, found.low, found.high, found.n, decimals[key])
    failed = int((one.rows["status"] != "ok").sum())
    notes = (f"{one.label}: {failed} of {len(one.rows)} failed and have no map",) if failed else ()
    return Row(one.label, "ours", cells, group, notes=(*notes, *((DRAWN,) if one.drawn else ())))


def statistics_of(values: np.ndarray, clusters: np.ndarray, seed: int = 0) -> dict[str, Estimate]:
    """mean, std (ddof 0), min, max, cv (std / mean) of values [n], NaN left out, with cluster bootstrap intervals.

    Smallest and largest have none: no resample goes beyond them.
    """
    known = ~np.isnan(values)
    values, (codes, n_clusters) = values[known], cluster_codes(clusters[known])
    n = len(values)
    if not n:
        return {name: Estimate(np.nan, np.nan, np.nan, 0) for name in ("mean", "std", "min", "max", "cv")}

    def of(statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        sums = np.stack([np.bincount(codes, weights, n_clusters) for weights in (np.ones(n), values, values**2)], 1)
        low = high = np.nan
        if n_clusters > 1:
            drawn = np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), RESAMPLES)
            low, high = np.nanquantile(statistic(drawn @ sums), [0.025, 0.975])
        return Estimate(float(statistic(sums.sum(0, keepdims=True))[0]), float(low), float(high), n)

    bound = {name: Estimate(float(end(values)), np.nan, np.nan, n) for name, end in (("min", np.min), ("max", np.max))}
    return {"mean": mean_ci(values, codes, seed=seed), "std": of(_std), "cv": of(_cv)} | bound


def _std(sums: np.ndarray) -> np.ndarray:
    """Standard deviation from [.., (n, Σx, Σx²)]."""
    n, first, second = sums.T
    return np.sqrt(np.maximum(second / n - (first / n) ** 2, 0))


def _cv(sums: np.ndarray) -> np.ndarray:
    """NaN where the mean is 0."""
    mean = sums[:, 1] / sums[:, 0]
    return np.divide(_std(sums), mean, out=np.full(len(mean), np.nan), where=mean != 0)


def _difference(one: Looked, row: published.Row, printed: published.Table) -> Row:
    """Ours minus the published figure; the interval is ours, moved."""
    cells = {}
    for key, mine in _own_row(one, printed, "").cells.items():
        if key not in row.cells or mine.value is None:
            continue
        theirs = row.cells[key].value
        low, high = (None if end is None else end - theirs for end in (mine.low, mine.high))
        cells[key] = Cell(mine.value - theirs, low, high, mine.n, mine.decimals, signed=True)
    return Row(f"{one.label} − {title(row)}", "difference", cells)
