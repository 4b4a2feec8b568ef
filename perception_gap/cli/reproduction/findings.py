"""What came out, in one sentence with intervals (95 %), read from what the steps wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perception_gap.cli.reproduction.plan import Plan

# Target -> published table and columns that its figure shows; a table has its published figures in itself.
PRINTED = {
    "figure2": ("fig2", ("focus",)),
    "figure3": ("fig3", ("kl", "cosine_distance")),
    "figure4": ("table2", ("entropy_mean",)),
}


def printed_beside(target: str) -> str:
    """A sentence with the paper's figures for a figure, "" where it prints none or the table has them."""
    from benchmarks.published import load

    if target not in PRINTED:
        return ""
    name, columns = PRINTED[target]
    rows = load("lavit").table(name).rows
    each = [f"{row.name}: {row.cells[column].printed}" for row in rows for column in columns if column in row.cells]
    return f"The paper prints: {'; '.join(each)} ({name})."


def finding(plan: Plan, sources: Sequence[Any]) -> str:
    """One sentence; it says so where a number is undefined."""
    recipe = plan.wanted.recipe
    if recipe.gaze:
        return entropies(plan, sources[0])
    if recipe.suite:
        return differences(plan, sources[0])
    if recipe.show == "focus_accuracy":
        return focus(sources[0].summary)
    if recipe.show == "divergence_by_category":
        return categories(sources[-1].summary)
    return nearness(plan, sources)


def estimate(found: dict | None, scale: float = 1, digits: int = 2, sign: str = "") -> str:
    """`4.10 [4.09, 4.12]`, or `undefined`."""
    if not found or found.get("mean") is None or not found.get("ci"):
        return "undefined"
    mean, low, high = (f"{scale * value:{sign}.{digits}f}" for value in (found["mean"], *found["ci"]))
    return f"{mean} [{low}, {high}]"


def entropies(plan: Plan, bench: Any) -> str:
    """Entropy of the maps, nats, of each model."""
    each = []
    for model in bench.models:
        (task,) = model.summary["tasks"].values()
        each.append(f"{model.label} {estimate(task['gaze']['entropy'])}, n {task['gaze']['entropy']['n']:,}")
    return f"Entropy of the maps in nats: {'; '.join(each)}."


def differences(plan: Plan, bench: Any) -> str:
    """Accuracy over all tasks of every model minus the baseline's, on the same questions, points."""
    rows = bench.comparisons
    if rows.empty:
        return "Nothing to compare: one model."
    each = [
        f"{_label(bench, row.model)} {100 * row.difference:+.1f} [{100 * row.difference_low:+.1f}, "
        f"{100 * row.difference_high:+.1f}]"
        for row in rows[rows["task"] == "all"].itertuples()
    ]
    n = int(rows.loc[rows["task"] == "all", "n"].max())
    baseline = _label(bench, plan.names[plan.wanted.recipe.baseline or next(iter(plan.names))])
    return f"Accuracy over all {n:,} questions against {baseline}, in points: {'; '.join(each)}."


def _label(bench: Any, name: str) -> str:
    return next((model.label for model in bench.models if model.name == name), name)


def focus(summary: dict) -> str:
    found = summary["focus_score"]
    return (
        f"Focus of right answers {estimate(found['correct_mean'], 100)} %, of wrong ones "
        f"{estimate(found['incorrect_mean'], 100)} %; within task {estimate(found['difference'], 100, sign='+')} "
        f"points (uniform map {estimate(found['chance'], 100)} %)."
    )


def categories(summary: dict) -> str:
    kl, distance = summary["kl"], summary["cosine_distance"]
    each = "; ".join(
        f"{name} {estimate(kl[name])} (floor {estimate(kl[f'{name}_floor'])}, hidden states {estimate(distance[name])})"
        for name in ("functional", "object", "attribute")
        if name in kl
    )
    return f"KL(teacher ‖ student) in nats: {each}."


def nearness(plan: Plan, sources: Sequence[Any]) -> str:
    """KL from the teacher's map on its own answer, of every student."""
    each = [f"{name} {estimate(run.summary['kl']['sample'])}" for name, run in zip(plan.names, sources, strict=True)
            if name != "teacher"]  # fmt: skip
    return f"KL from the teacher's map of its answer, nats: {'; '.join(each)}."
