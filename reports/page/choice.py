"""Which samples a reader should see first, and the facts by which the page sorts and filters them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.page.albums import Album, Member

WRONG, RIGHT, UNSCORED, FAILED = 0, 1, 2, 3


def facts(album: Album) -> pd.DataFrame:
    """A row a sample of the album: `task`, and of member m `verdict_m`, `kl_m`, `focus_m`; NaN where undefined.

    `disagree`: the members' verdicts differ. `kl`: the largest of the members. `word`: the category of the word on
    which the maps of the first student differ most, "" where no word was compared.
    """
    ids = album.ids
    first = album.first.samples.loc[ids]
    columns: dict[str, object] = {"task": first["task"].to_numpy()}
    verdicts, divergences = [], []
    for m, member in enumerate(album.members):
        rows = member.samples.loc[ids]
        verdicts.append(verdict(rows))
        kl = rows["kl"].to_numpy(float) if "kl" in rows else np.full(len(rows), np.nan)
        divergences.append(kl)
        focus = rows["focus_score"].to_numpy(float) if "focus_score" in rows else np.full(len(rows), np.nan)
        columns |= {f"verdict_{m}": verdicts[-1], f"kl_{m}": kl, f"focus_{m}": focus}
    known = np.stack(verdicts)
    every = np.stack(divergences)
    columns["kl"] = np.where(np.isnan(every).all(0), np.nan, np.nanmax(np.nan_to_num(every, nan=-np.inf), axis=0))
    columns["disagree"] = (known == RIGHT).any(0) & (known == WRONG).any(0)
    columns["word"] = worst_word(album, ids)
    return pd.DataFrame(columns, index=pd.Index(ids, name="sample_id"))


def verdict(rows: pd.DataFrame) -> np.ndarray:
    """RIGHT, WRONG, UNSCORED or FAILED of each row."""
    codes = np.where(rows["correct"].isna(), UNSCORED, np.where(rows["correct"].eq(True), RIGHT, WRONG))
    return np.where(rows["status"] == "ok", codes, FAILED)


def worst_word(album: Album, ids: list[str]) -> np.ndarray:
    student: Member | None = next((m for m in album.members if m.role == "student"), None)
    if student is None or student.words.empty:
        return np.full(len(ids), "", dtype=object)
    words = student.words[(student.words["text"] == "shared") & student.words["kl"].notna()]
    worst = words.sort_values("kl", ascending=False, kind="stable").drop_duplicates("sample_id")
    return worst.set_index("sample_id")["category"].reindex(ids).fillna("").to_numpy(dtype=object)


def telling(about: pd.DataFrame) -> list[str]:
    """Every sample, the most telling first, tasks taking turns.

    Within a task: where the models' verdicts differ, by falling KL; then those all answer wrong, by falling KL; then
    the rest. Without a teacher the lowest focus takes the place of the largest KL. Failed samples come last.
    """
    failed = (about.filter(regex=r"^verdict_\d") == FAILED).any(axis=1)
    wrong = (about.filter(regex=r"^verdict_\d") == WRONG).any(axis=1)
    rank = np.select([failed, about["disagree"], wrong], [3, 0, 1], 2)
    focus = about.filter(regex=r"^focus_\d").min(axis=1)
    weight = about["kl"].where(about["kl"].notna(), -focus) if about["kl"].notna().any() else -focus
    order = about.assign(rank=rank, weight=weight.astype(float)).sort_values(
        ["rank", "weight"], ascending=[True, False], kind="stable", na_position="last"
    )
    turn = order.groupby("task", sort=False).cumcount()
    # Failed samples stay behind all others, whatever their task's turn.
    return order.assign(turn=turn, late=order["rank"] == 3).sort_values(["late", "turn"], kind="stable").index.tolist()
