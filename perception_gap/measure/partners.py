"""Who stands in for whom in a floor: another sample of the task, and its word of the same category."""

from __future__ import annotations

from typing import Any

import numpy as np


def partners(rows: list[dict[str, Any]], seed: int) -> dict[str, str]:
    """For each sample another one of the same task on another image (seeded); samples without one are left out."""
    partner: dict[str, str] = {}
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    for task in sorted(by_task):
        group = sorted(by_task[task], key=lambda r: r["sample_id"])
        order = np.random.default_rng([seed, len(group)]).permutation(len(group))
        for i, at in enumerate(order):
            for step in range(1, len(order)):
                other = group[order[(i + step) % len(order)]]
                if other["cluster"] != group[at]["cluster"]:
                    partner[group[at]["sample_id"]] = other["sample_id"]
                    break
    return partner


def match_words(mine: list[str], theirs: list[str]) -> list[int | None]:
    """For each word the other text's word of the same category and rank (cyclic); None if it has none."""
    places: dict[str, list[int]] = {}
    for i, category in enumerate(theirs):
        places.setdefault(category, []).append(i)
    seen: dict[str, int] = {}
    matched: list[int | None] = []
    for category in mine:
        rank = seen.get(category, 0)
        seen[category] = rank + 1
        options = places.get(category)
        matched.append(options[rank % len(options)] if options else None)
    return matched
