"""Which samples a figure shows."""

from __future__ import annotations

import pandas as pd


def most_divergent(samples: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k valid rows of largest KL, one of each task before a second of any, in falling order of KL."""
    ranked = samples[(samples["status"] == "ok") & samples["kl"].notna()].sort_values(
        "kl", ascending=False, kind="stable"
    )
    turn = ranked.groupby("task", sort=False).cumcount().rename("turn")
    chosen = ranked.assign(turn=turn).sort_values(["turn", "kl"], ascending=[True, False], kind="stable")[:k]
    return chosen.drop(columns="turn").sort_values("kl", ascending=False, kind="stable")


def extreme_focus(samples: pd.DataFrame, k: int) -> pd.DataFrame:
    """Up to k valid rows: the lowest and the highest focus, rising; the first k when focus is undefined."""
    valid = samples[samples["status"] == "ok"]
    ranked = valid.dropna(subset=["focus_score"]).sort_values("focus_score", kind="stable")
    if ranked.empty:
        return valid[:k]
    return ranked if len(ranked) <= k else pd.concat([ranked[: k // 2], ranked[-(k - k // 2) :]])
