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
        return entropies(plan, sources[0])
    if recipe.suite:
        return differences(plan, sources[0])
    if recipe.show == "focus_accuracy":
        return focus(sources[0].summary)
    if recipe.show == "divergence_by_category":
        return categories(sources[-1].summary)
    return nearness(plan, sources)


def estimate(found: dict | None, unit: str = "") -> str:
    """`4.10 nats [4.09, 4.12], n 480`; without an interval where there is none; `undefined, n 0`."""
    from reports.summary import interval_of, written

    if not found:
        return "undefined"
    return f"{written(found | {'ci': interval_of(found)}, unit)}, n {found['n']:,}"


def entropies(plan: Plan, bench: Any) -> str:
    """Entropy of the maps of each model."""
    each = []
    for model in bench.models:
        (task,) = model.summary["tasks"].values()
        each.append(f"{model.label} {estimate(task['gaze']['entropy'], 'nats')}")
    return f"Entropy of the maps: {'; '.join(each)}."


def differences(plan: Plan, bench: Any) -> str:
    """Accuracy over all tasks of every model minus the baseline's, on the same questions."""
    rows = bench.comparisons
    if rows.empty:
        return "Nothing to compare: one model."
    each = [
        f"{_label(bench, row['model'])} {estimate(_of_row(row), 'points')}"
        for row in rows[rows["task"] == "all"].to_dict("records")
    ]
    baseline = _label(bench, plan.names[plan.wanted.recipe.baseline or next(iter(plan.names))])
    return f"Accuracy over all questions minus that of {baseline}: {'; '.join(each)}."


def _of_row(row: dict) -> dict:
    """{mean, ci, n} of a row of comparisons.csv, undefined as None."""
    from perception_gap.stats.statistics import Estimate

    return Estimate(row["difference"], row["difference_low"], row["difference_high"], int(row["n"])).as_dict()


def _label(bench: Any, name: str) -> str:
    return next((model.label for model in bench.models if model.name == name), name)


def focus(summary: dict) -> str:
    found = summary["focus_score"]
    return (
        f"Focus of right answers {estimate(found['correct_mean'], '%')}, of wrong ones "
        f"{estimate(found['incorrect_mean'], '%')}; right minus wrong within task "
        f"{estimate(found['difference'], 'points')} (uniform map {estimate(found['chance'], '%')})."
    )


def categories(summary: dict) -> str:
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
    each = [f"{name} {estimate(run.summary['kl']['sample'], 'nats')}"
            for name, run in zip(plan.names, sources, strict=True) if name != "teacher"]  # fmt: skip
    return f"KL from the teacher's map of its answer: {'; '.join(each)}."
