"""What came out, in one sentence with intervals (95 %), read from what the steps wrote."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
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
    each = [f"{row.name}: {_shown(row.cells[column])}" for row in rows for column in columns if column in row.cells]
    return f"The paper prints: {'; '.join(each)} ({name})."


def _shown(cell: Any) -> str:
    """The printed digits; a fraction as percent, which ours beside it is in."""
    return f"{Decimal(cell.printed).scaleb(2)} %" if cell.unit == "fraction" else cell.printed


def finding(plan: Plan, sources: Sequence[Any]) -> str:
    """One sentence; it says so where a number is undefined."""
    recipe = plan.wanted.recipe
    if recipe.gaze:
        return entropies(sources[0])
    if recipe.suite:
        return differences(plan, sources[0])
    if recipe.show == "focus_accuracy":
        return focus(sources[0].summary["focus_score"])
    if recipe.show == "divergence_by_category":
        return categories(sources[-1].summary)
    return nearness(plan, sources)


def estimate(value: dict[str, Any] | None, unit: str = "") -> str:
    """`4.10 nats [4.09, 4.12], n 480`; without an interval where there is none; `undefined, n 0`."""
    from reports.summary import interval_of, written

    return f"{written(value | {'ci': interval_of(value)}, unit)}, n {value['n']:,}" if value else "undefined"


def entropies(bench: Any) -> str:
    """Entropy of the maps of each model; such a bench has one task."""
    tasks = [(model.label, *model.summary["tasks"].values()) for model in bench.models]
    each = "; ".join(f"{label} {estimate(task['gaze']['entropy'], 'nats')}" for label, task in tasks)
    return f"Entropy of the maps: {each}."


def differences(plan: Plan, bench: Any) -> str:
    """Accuracy over all tasks of every model minus the baseline's, on the same questions."""
    from perception_gap.stats.estimates import Estimate

    if bench.comparisons.empty:
        return "Nothing to compare: one model."
    labels = {model.name: model.label for model in bench.models}
    each = []
    for row in bench.comparisons.to_dict("records"):
        if row["task"] == "all":
            of_row = Estimate(row["difference"], row["difference_low"], row["difference_high"], int(row["n"]))
            each.append(f"{labels.get(row['model'], row['model'])} {estimate(of_row.as_dict(), 'points')}")
    baseline = plan.names[plan.wanted.recipe.baseline or next(iter(plan.names))]
    return f"Accuracy over all questions minus that of {labels.get(baseline, baseline)}: {'; '.join(each)}."


def focus(score: dict[str, Any]) -> str:
    right, wrong, chance = (estimate(score[name], "%") for name in ("correct_mean", "incorrect_mean", "chance"))
    return (
        f"Focus of right answers {right}, of wrong ones {wrong}; right minus wrong within task "
        f"{estimate(score['difference'], 'points')} (uniform map {chance})."
    )


def categories(summary: dict[str, Any]) -> str:
    kl, distance = summary["kl"], summary["cosine_distance"]
    each = "; ".join(
        f"{name} {estimate(kl[name], 'nats')} (floor {estimate(kl[f'{name}_floor'], 'nats')}; hidden states "
        f"{estimate(distance[name])})"
        for name in ("functional", "object", "attribute")
        if name in kl
    )
    return f"KL(teacher ‖ student): {each}."


def nearness(plan: Plan, sources: Sequence[Any]) -> str:
    """KL from the teacher's map on its own answer, of every student."""
    students = [pair for pair in zip(plan.names, sources, strict=True) if pair[0] != "teacher"]
    each = [f"{name} {estimate(run.summary['kl']['sample'], 'nats')}" for name, run in students]
    return f"KL from the teacher's map of its answer: {'; '.join(each)}."
