"""What a finished benchmark could have shown: the lines of power below its tables, which `reports.tables` makes."""

from __future__ import annotations

from benchmarks.power import worth
from benchmarks.results import Bench


def power(bench: Bench) -> list[str]:
    """What a difference of 5 points is worth on each suite, at the discordance seen with the last model compared.

    Suites with fewer than 5 % of discordant answers have no line: no such difference can be in them.
    """
    if bench.comparisons.empty:
        return []
    last = bench.comparisons[bench.comparisons["model"] == bench.comparisons["model"].iloc[-1]]
    paired = [task for task, summary in bench.models[0].summary["tasks"].items() if "pair_accuracy" in summary]
    return [
        f"{row['task']}: {worth(int(row['n']), 5, discordance=round(row['discordance'], 3))}"
        + (" (at best: as if the questions of a pair were independent)" if row["task"] in paired else "")
        for row in last.to_dict("records")
        if row["task"] != "all" and row["n"] and row["discordance"] >= 0.05
    ]
