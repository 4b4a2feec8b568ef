"""`knockout.parquet`: a row a sample and condition, from what the parts hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perception_gap.knockout.conditions import CONDITIONS, FIELDS
from perception_gap.knockout.summary import summarise
from perception_gap.runs.schema.tables import KNOCKOUT
from perception_gap.storage.files import frame_of, write_frame

FILE = "knockout.parquet"


class Table:
    """The conditions of a whole run; of a run without a knockout nothing, and no file. settings: None."""

    def __init__(self, settings: Mapping[str, Any] | None) -> None:
        self._settings, self._rows = settings, list[dict[str, Any]]()

    def add(self, row: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """One valid sample; its `knockout`, which is no map, is taken out of `arrays`."""
        values = arrays.pop("knockout", None)
        if self._settings is not None and values is not None:
            self._rows += condition_rows(row, values)

    def finish(self, folder: Path, samples: pd.DataFrame, seed: int) -> tuple[dict[str, Any], dict[str, str]]:
        """Write (or remove) the file; (what summary.json gets of it, file → checksum), empty without a knockout."""
        if self._settings is None:
            (folder / FILE).unlink(missing_ok=True)
            return {}, {}
        table = frame_of(self._rows, KNOCKOUT.names)
        checksum = write_frame(folder / FILE, table, KNOCKOUT)
        return {"knockout": summarise(table, samples, self._settings, seed)}, {FILE: checksum}


def condition_rows(row: dict[str, Any], values: np.ndarray) -> list[dict[str, Any]]:
    """The conditions of one sample. row: as stored, with `knockout_answers`; values: as `Cuts.values`.

    base, log_probability: of the own answer, uncut and under the condition, nats (sums over its tokens); change: the
    second minus the first, also per token. answer, correct, changed: of the answer under the condition. mass_cut:
    share of the own map on the tokens that are cut, 0..1. Undefined is NaN, or None in the last three.
    """
    base, *cut = (dict(zip(FIELDS, map(float, fields), strict=True)) for fields in values)
    conditions = []
    for (rows, tokens), here, answer in zip(CONDITIONS, cut, row["knockout_answers"], strict=True):
        change = here["log_probability"] - base["log_probability"]
        defined = not np.isnan(here["changed"])
        own_or_new = (row["answer"] if answer is None else answer) if defined else None
        per_token = change / base["n_tokens"] if base["n_tokens"] else float("nan")
        condition = {"sample_id": row["sample_id"], "rows": rows, "tokens": tokens}
        condition |= {name: here[name] for name in ("n_cut", "mass_cut", "log_probability")}
        condition |= {"base": base["log_probability"], "change": change, "change_per_token": per_token}
        condition |= {"answer": own_or_new}
        conditions.append(condition | {name: _verdict(here[name]) for name in ("correct", "changed")})
    return conditions


def _verdict(value: float) -> bool | None:
    return None if np.isnan(value) else bool(value)
