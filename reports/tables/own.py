"""What models of ours scored: accuracies of a benchmark or of an ablation matrix, by task, as one kind of entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from perception_gap.runs.run import Run
from perception_gap.stats.seeds import NO_INTERVAL, over_seeds
from reports.sources import BenchModel, BenchRun, CompareRun, Matrix, Source, Training, Unfinished

DRAWN = "scenes_"
# Tasks of drawn scenes as analyze and ablate name them.
SCENES = ("attribute", "relative_depth", "relative_reflectance", "spatial_relation", "pairs", "iq")


@dataclass(frozen=True)
class Measured:
    """An accuracy: {mean, ci, n} in fractions, `data` of which questions, and what to know about it."""

    estimate: Mapping[str, Any]
    data: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Own:
    """One model of ours: `names` are what one may call it, `name` what its source does; `hidden`: latents masked."""

    label: str
    name: str
    names: frozenset[str]
    figures: Mapping[str, Measured]
    source: BenchRun | Matrix
    hidden: bool = False
    latents: str = "force"
    notes: tuple[str, ...] = ()


def gathered(sources: Sequence[Source]) -> tuple[list[Own], list[str]]:
    """The models of all benchmarks and matrices, labels unique, and what is not among them, in words."""
    owns: list[Own] = []
    missing: list[str] = []
    for source in sources:
        if isinstance(source, BenchRun):
            owns += [_of_bench(source, model) for model in source.models]
        elif isinstance(source, Matrix):
            owns += _of_matrix(source)
        missing += absent(source)
        if isinstance(source, Run | Training):
            kind = "an analysis" if isinstance(source, Run) else "a training"
            missing.append(f"{source.path}: {kind}, which has no benchmark accuracies; not in this table")
    labels = [own.label for own in owns]
    twice = {label for label in labels if labels.count(label) > 1}
    return [_told_apart(own) if own.label in twice else own for own in owns], missing


def absent(source: Source) -> list[str]:
    """What a source names and does not have yet, in one line."""
    if isinstance(source, Unfinished):
        return [source.words]
    if isinstance(source, BenchRun) and source.missing:
        names = ", ".join(source.missing)
        return [f"{names}: named by {source.path} and not finished; the same bench command goes on with it"]
    if isinstance(source, CompareRun):
        return source.absent
    return []


def _told_apart(own: Own) -> Own:
    label = f"{own.label} ({own.source.path.name})"
    return replace(own, label=label, names=own.names | {label})


def _of_bench(bench: BenchRun, model: BenchModel) -> Own:
    figures = {
        task: Measured(of_task["accuracy"], of_task["data_hash"], tuple(losses(model.label, task, of_task)))
        for task, of_task in model.summary["tasks"].items()
    }
    latents = model.info["asked"]["latents"]
    return Own(
        model.label,
        model.name,
        names_of(model.label, model.name, latents),
        figures,
        bench,
        hidden=latents == "mask",
        latents=latents,
    )


def names_of(label: str, name: str, latents: str) -> frozenset[str]:
    """What one may call a model: a hub id means the model with its latent tokens as trained, not with them hidden."""
    return frozenset({label, name if latents == "force" else f"{name} (latents {latents})"})


def losses(label: str, task: str, of_task: Mapping[str, Any]) -> Iterator[str]:
    """Failed rows, which count as wrong, and those without a verdict, which do not count."""
    if failed := of_task.get("n_failed", 0):
        yield f"{label}, {task}: {failed} of {of_task['n']} failed and count as wrong"
    if unscored := of_task.get("n_unscored", 0):
        yield f"{label}, {task}: {unscored} of {of_task['n']} have no verdict and are not counted"


def _of_matrix(matrix: Matrix) -> list[Own]:
    """Every preset, averaged over its seeds; `paper` with its latents masked, where that was measured, behind it."""
    owns = []
    for preset in dict.fromkeys(matrix.results["preset"]):
        owns.append(_preset(matrix, preset, "accuracy"))
        if preset == "paper" and (matrix.results["metric"] == "accuracy_mask").any():
            owns.append(_preset(matrix, preset, "accuracy_mask"))
    return [own for own in owns if own.figures]


def _preset(matrix: Matrix, preset: str, metric: str) -> Own:
    rows = matrix.results
    chosen = rows[(rows["preset"] == preset) & (rows["rows"] == "answer") & (rows["metric"] == metric)]
    measured = set(chosen["seed"])  # the latents of one seed alone may have been masked
    hidden = metric != "accuracy"
    label = preset + (" (latents mask)" if hidden else "")
    figures = {}
    for key, part in chosen[chosen["task"] != "all"].groupby("task", sort=False):
        task = str(key)
        name = f"{DRAWN}{task}" if task in SCENES else task
        figures[name] = _averaged(matrix, part, measured)
    seeds = len(measured)
    note = f"mean of {seeds} seeds; the interval is that of the samples, not of training"
    return Own(label, preset, frozenset({label}), figures, matrix, hidden, notes=(note,) if seeds > 1 else ())


def _averaged(matrix: Matrix, part: pd.DataFrame, seeds: set[int]) -> Measured:
    """Mean over seeds, whose interval covers the samples and not the scatter of training."""
    mean = over_seeds(part, seeds)
    notes = (NO_INTERVAL,) if mean["mean"] is not None and mean["ci"] is None else ()
    return Measured(mean, f"{matrix.path}, n {mean['n']}", notes)
