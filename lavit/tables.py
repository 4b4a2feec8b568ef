"""The tables of a matrix, in Markdown: each preset and seed, the tasks, the manipulation check, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

# (heading, rows, metric, percent)
Column = tuple[str, str, str, bool]
MAIN: tuple[Column, ...] = (
    ("accuracy", "answer", "accuracy", True),
    ("answer KL", "answer", "kl", False),
    ("its floor", "answer", "kl_floor", False),
    ("focus", "answer", "focus", True),
    ("lift", "answer", "focus_lift", False),
    ("entropy", "answer", "entropy", False),
)
LATENT: tuple[Column, ...] = (
    ("last latent: KL to the map", "last latent", "kl", False),
    ("KL to the target", "last latent", "target_kl", False),
    ("focus", "last latent", "focus", True),
    ("entropy", "last latent", "entropy", False),
    ("all latents: KL to the map", "latents", "kl", False),
)
HIDDEN: tuple[Column, ...] = tuple(
    (f"{what}, {mode}", "answer", f"{metric}_{mode}", True)
    for mode in ("none", "mask", "template", "blind")
    for what, metric in (("cost", "cost"), ("changed", "changed"))
)


def number(value: float, percent: bool, sign: str = "") -> str:
    return "–" if pd.isna(value) else f"{100 * value:{sign}.1f}" if percent else f"{value:{sign}.2f}"


def interval(row: pd.Series, percent: bool, sign: str = "") -> str:
    """`72.8 [68.3, 77.1]`; without brackets where the interval is undefined."""
    mean = number(row["mean" if "mean" in row else "value"], percent, sign)
    if pd.isna(row["low"]):
        return mean
    return f"{mean} [{number(row['low'], percent, sign)}, {number(row['high'], percent, sign)}]"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def by_run(results: pd.DataFrame, columns: Sequence[Column], task: str = "all") -> str:
    """One line a preset and seed: value and 95 % interval of each column; runs that have none of them are left out."""
    some: Any = results[results["task"] == task].set_index(["preset", "seed", "rows", "metric"])
    lines = []
    for preset, seed in dict.fromkeys(zip(results["preset"], results["seed"], strict=True)):
        cells = [
            interval(some.loc[preset, seed, rows, metric], percent)
            if (preset, seed, rows, metric) in some.index
            else "–"
            for _, rows, metric, percent in columns
        ]
        if set(cells) != {"–"}:
            lines.append([f"{preset}, {seed}", *cells])
    return markdown(["preset, seed", *(heading for heading, *_ in columns)], lines)


def by_task(results: pd.DataFrame, rows: str = "answer", metric: str = "accuracy", percent: bool = True) -> str:
    """One line a preset, one column a task: the mean over seeds, each seed behind it where there are several."""
    some = results[(results["rows"] == rows) & (results["metric"] == metric)]
    tasks = sorted(t for t in some["task"].unique() if t != "all")
    lines = []
    for preset in dict.fromkeys(some["preset"]):
        cells = []
        for task in ("all", *tasks):
            values = some[(some["preset"] == preset) & (some["task"] == task)].sort_values("seed")["value"]
            each = f" ({', '.join(number(v, percent) for v in values)})" if len(values) > 1 else ""
            cells.append(number(values.mean(), percent) + each)
        lines.append([preset, *cells])
    return markdown(["preset", "all", *tasks], lines)


def differences(compared: pd.DataFrame, against: str, columns: Sequence[Column], task: str = "all") -> str:
    """One line a preset: paired difference from a baseline, its 95 % interval, and the difference of each seed."""
    chosen = compared[(compared["against"] == against) & (compared["task"] == task)]
    some: Any = chosen.set_index(["preset", "rows", "metric"])
    lines = []
    for preset in dict.fromkeys(key[0] for key in some.index):
        cells = []
        for _, rows, metric, percent in columns:
            if (preset, rows, metric) not in some.index:
                cells.append("–")
                continue
            row = some.loc[preset, rows, metric]
            seeds = [float(v) for v in row["of_each_seed"].split()]
            each = f" ({', '.join(number(v, percent, '+') for v in seeds)})" if len(seeds) > 1 else ""
            cells.append(interval(row, percent, "+") + each)
        lines.append([preset, *cells])
    return markdown([f"minus {against}", *(heading for heading, *_ in columns)], lines)


def tables(results: pd.DataFrame, compared: pd.DataFrame, baselines: Sequence[str]) -> str:
    """All tables of a matrix. Percent where the name says accuracy, changed or focus; nats for KL and entropy."""
    parts = [
        "## Held-out samples, each preset and seed (95 % intervals)", by_run(results, MAIN),
        "## Accuracy by task, % (mean over seeds; each seed)", by_task(results),
        "## Answer KL by task, nats", by_task(results, metric="kl", percent=False),
        "## Latent rows against the teacher's map and against the trained target", by_run(results, LATENT),
        "## Latents hidden from the answer: accuracy lost, paired, and answers changed; %", by_run(results, HIDDEN),
    ]  # fmt: skip
    tasks = [t for t in dict.fromkeys(results["task"]) if t != "all"]
    for base in baselines:
        if not compared.empty and (compared["against"] == base).any():
            parts += [f"## Paired differences from {base}: mean [95 %] (each seed)", differences(compared, base, MAIN)]
            for task in tasks:
                parts += [f"### {task}", differences(compared, base, MAIN[:2], task)]
    return "\n\n".join(parts) + "\n"
