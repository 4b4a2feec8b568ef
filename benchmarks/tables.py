"""A finished benchmark in words and Markdown: percent here, fractions everywhere else."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from tabulate import tabulate

from benchmarks import published
from benchmarks.power import worth
from benchmarks.results import Bench


def accuracies(bench: Bench) -> str:
    """Tasks by models: lmms-eval's accuracy with its interval, and the strict one where it differs."""
    rows = []
    for task in bench.models[0].summary["tasks"]:
        own = [m.summary["tasks"][task] for m in bench.models]
        rows.append([task, own[0]["n"], _percent(own[0]["chance"]), *(_cell(found) for found in own)])
        if "pair_accuracy" in own[0]:
            pairs = [found["pair_accuracy"] for found in own]
            rows.append(["  both of a pair", pairs[0]["n"], "", *(interval(pair) for pair in pairs)])
    return _table(rows, ["task", "n", "chance", *(m.name for m in bench.models)])


def costs(bench: Bench) -> str:
    """What each model saw and took: image tokens a question, tokens and seconds an answer, failures."""
    rows = []
    for m in bench.models:
        ok = m.samples[m.samples["status"] == "ok"]
        means = [ok[name].astype(float).mean() for name in ("n_image_tokens", "n_tokens", "seconds")]
        cut = sum(found["n_cut"] for found in m.summary["tasks"].values())
        empty = sum(found["n_empty"] for found in m.summary["tasks"].values())
        failed, unscored = len(m.samples) - len(ok), int(ok["correct"].isna().sum())
        shown = [_number(v, d) for v, d in zip(means, (1, 1, 3), strict=True)]
        rows.append([m.name, *shown, failed, unscored, empty, cut])
    head = ["model", "image tokens", "answer tokens", "seconds", "failed", "unscored", "empty", "cut off"]
    return _table(rows, head)


def comparisons(bench: Bench) -> str:
    """Every model against the baseline: difference in points, p after Holm, and what the suite could have shown."""
    names = [m.name for m in bench.models]
    order = [*bench.models[0].summary["tasks"], "all"]
    found = sorted(bench.comparisons.to_dict("records"), key=lambda row: order.index(row["task"]))
    rows = [
        [
            row["model"], row["task"], row["n"],
            _difference(row),
            f"{row['only_second']}:{row['only_first']}", _p(row["p"]), _p(row["p_holm"]),
            _number(100 * row["detectable"], 1),
        ]
        for row in sorted(found, key=lambda row: names.index(row["model"]))
    ]  # fmt: skip
    head = ["model", "task", "n", f"points over {bench.baseline}", "gained:lost", "p", "p (Holm)", "detectable points"]
    return _table(rows, head)


def gaze(bench: Bench) -> str:
    """Accuracy and where the model looked, in one table; mean ± standard deviation over the questions."""
    rows = []
    for m in bench.models:
        for task, found in m.summary["tasks"].items():
            if "gaze" not in found:
                continue
            g = found["gaze"]
            rows.append([
                m.name, task, _scored(found), interval(g["focus_score"]),
                _spread(g["entropy"], 2), _spread(g["salient_regions"], 1),
            ])  # fmt: skip
    head = ["model", "task", "accuracy %", "focus %", "entropy, nats", "salient regions"]
    return _table(rows, head) if rows else ""


def beside(bench: Bench) -> str:
    """Published figures of the same tasks, in percent as printed; a star: taken from elsewhere by that paper."""
    tasks = list(bench.models[0].summary["tasks"])
    found: dict[str, dict[str, str]] = {}
    for task in tasks:
        for value in published.for_task(task):
            label = " ".join(part for part in (value.model, value.params) if part)
            # A model's first figure is that of the main table; ablations of it come later.
            found.setdefault(label, {}).setdefault(task, f"{value.printed}{'*' if value.starred else ''}")
    shown = [task for task in tasks if any(task in row for row in found.values())]
    rows = [[label, *(row.get(task, "") for task in shown)] for label, row in found.items()]
    return _table(rows, ["published", *shown]) if rows else ""


def power(bench: Bench) -> list[str]:
    """What a difference of 5 points is worth on each suite, at the discordance seen with the last model compared.

    Suites with fewer than 5 % of discordant answers have no line: no such difference can be in them.
    """
    if bench.comparisons.empty:
        return []
    last = bench.comparisons[bench.comparisons["model"] == bench.comparisons["model"].iloc[-1]]
    paired = [task for task, found in bench.models[0].summary["tasks"].items() if "pair_accuracy" in found]
    return [
        f"{row['task']}: {worth(int(row['n']), 5, discordance=round(row['discordance'], 3))}"
        + (" (at best: as if the questions of a pair were independent)" if row["task"] in paired else "")
        for row in last.to_dict("records")
        if row["task"] != "all" and row["n"] and row["discordance"] >= 0.05
    ]


def interval(found: dict[str, Any]) -> str:
    """{mean, ci, n} as percent: "66.2 [60.3, 71.7]"."""
    if found["mean"] is None:
        return "–"
    text = f"{100 * found['mean']:.1f}"
    return text if found["ci"] is None else text + " [{:.1f}, {:.1f}]".format(*(100 * v for v in found["ci"]))


def _scored(found: dict[str, Any]) -> str:
    """The accuracy, and of how many questions where lmms-eval's scorer left some without a verdict."""
    accuracy, n = found["accuracy"], found["accuracy"]["n"]
    return interval(accuracy) + ("" if n == found["n"] else f" (n {n})")


def _cell(found: dict[str, Any]) -> str:
    text, strict = _scored(found), found["strict_accuracy"]["mean"]
    differs = strict is not None and strict != found["accuracy"]["mean"]
    return text + (f"; strict {100 * strict:.1f}" if differs else "")


def _difference(row: dict[Any, Any]) -> str:
    if pd.isna(row["difference"]):
        return "–"
    text, low, high = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
    return f"{text:+.1f}" + ("" if pd.isna(low) else f" [{low:.1f}, {high:.1f}]")


def _spread(found: dict[str, Any], digits: int) -> str:
    return "–" if found["mean"] is None else f"{found['mean']:.{digits}f} ± {found['std']:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
