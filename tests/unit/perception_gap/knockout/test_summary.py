"""From parts to knockout.parquet and its summary: differences by hand, undefined ones counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from perception_gap.knockout.conditions import CONDITIONS, CUTS, FIELDS
from perception_gap.knockout.summary import summarise
from perception_gap.knockout.table import FILE, Table, condition_rows
from perception_gap.runs.schema import analysis
from perception_gap.runs.schema.tables import KNOCKOUT
from perception_gap.stats.permutation import TOO_FEW
from perception_gap.storage import intact

ASKED = {"layers": "all", "k": 8, "seed": 0}
INSIDE, NUMBER, MASS = (CUTS.index(("text", name)) for name in ("inside", "outside_number", "outside_mass"))


def stored(name: str, base: float, changes: dict[int, float], right: bool = True, **more) -> tuple[dict, np.ndarray]:
    """A row and its array: conditions of `changes` are defined, an answer is changed and wrong where it loses a nat."""
    values = np.full((1 + len(CONDITIONS), len(FIELDS)), np.nan, dtype=np.float32)
    values[0] = [0, 0, base, 4, 0, right]
    answers: list[str | None] = [None] * len(CONDITIONS)
    for c, change in changes.items():
        changed = change <= -1
        values[1 + c] = [3, 0.25, base + change, 4, changed, right and not changed]
        answers[c] = "it is blue" if changed else None
    return {"sample_id": name, "answer": "it is red", "knockout_answers": answers, **more}, values


def test_rows_by_hand():
    row, values = stored("a", -2.0, {INSIDE: -3.0, NUMBER: 0.5})
    rows = pd.DataFrame(condition_rows(row, values))
    assert list(rows.columns) == list(KNOCKOUT.names)
    assert [tuple(pair) for pair in rows[["rows", "tokens"]].to_numpy()] == list(CONDITIONS)
    cut, kept, none = (rows.iloc[i] for i in (INSIDE, NUMBER, MASS))
    assert (cut["change"], cut["change_per_token"], cut["log_probability"], cut["base"]) == (-3.0, -0.75, -5.0, -2.0)
    assert (cut["answer"], cut["correct"], cut["changed"]) == ("it is blue", False, True)
    assert (kept["answer"], kept["correct"], kept["changed"]) == ("it is red", True, False)
    assert np.isnan(none["change"])
    assert pd.isna(none["answer"])
    assert none["correct"] is None
    intact.columns(rows, KNOCKOUT, None)


def samples(verdicts: dict[str, bool | None]) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": list(verdicts), "cluster": list(verdicts), "correct": list(verdicts.values()),
                         "status": ["ok" if v is not None else "failed" for v in verdicts.values()]})  # fmt: skip


def whole() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four valid samples, the last without matched tokens, and a failed one."""
    data = [
        stored("a", -1.0, {INSIDE: -4.0, NUMBER: -0.5, MASS: -1.0}),
        stored("b", -1.0, {INSIDE: -2.0, NUMBER: 0.5, MASS: 0.0}),
        stored("c", -3.0, {INSIDE: 0.0, NUMBER: 0.0, MASS: 0.0}, right=False),
        stored("d", -1.0, {INSIDE: -6.0}),
    ]
    table = pd.DataFrame(
        [line for row, values in data for line in condition_rows(row, values)], columns=list(KNOCKOUT.names)
    )
    return table, samples({"a": True, "b": True, "c": False, "d": True, "e": None})


def test_means_differences_and_counts_by_hand():
    found = summarise(*whole(), ASKED, 0)
    inside, number = found["text"]["inside"], found["text"]["outside_number"]
    assert (inside["change"]["mean"], inside["change"]["n"], inside["n_undefined"]) == (-3.0, 4, 1)
    assert (inside["right"]["mean"], inside["right"]["n"]) == (-4.0, 3)
    assert (inside["wrong"]["mean"], inside["wrong"]["n"]) == (0.0, 1)
    assert (number["change"]["mean"], number["n_undefined"]) == (0.0, 2)
    accuracy = inside["accuracy"]
    assert (accuracy["base"]["mean"], accuracy["cut"]["mean"], accuracy["difference"]["mean"]) == (0.75, 0.0, -0.75)
    assert accuracy["difference"]["ci"][0] < -0.75 < accuracy["difference"]["ci"][1]
    assert number["accuracy"]["base"]["mean"] == pytest.approx(2 / 3)  # of the samples that the cut has
    assert inside["changed"]["mean"] == 0.75
    assert (inside["n_cut"]["mean"], inside["mass_cut"]["mean"]) == (3.0, 0.25)
    undefined = found["question"]["image"]
    assert (undefined["change"]["mean"], undefined["change"]["ci"], undefined["n_undefined"]) == (None, None, 5)
    assert undefined["accuracy"]["difference"]["mean"] is None


def test_contrasts_are_paired():
    contrasts = summarise(*whole(), ASKED, 0)["contrasts"]["text"]
    number, mass = contrasts["inside_minus_outside_number"], contrasts["inside_minus_outside_mass"]
    assert (number["change"]["mean"], number["change"]["n"]) == (pytest.approx((-3.5 - 2.5 + 0) / 3), 3)
    assert (mass["change"]["mean"], mass["right"]["mean"]) == (pytest.approx((-3 - 2 + 0) / 3), -2.5)
    assert (number["wrong"]["mean"], number["n_undefined"]) == (0.0, 2)


def test_the_shape_is_the_one_that_runs_are_held_to(tmp_path):
    intact.require(summarise(*whole(), ASKED, 0), analysis.Knockout, tmp_path)


def test_intervals_are_clustered_and_undefined_below_five_clusters():
    data = [stored(f"s{i}", -1.0, {INSIDE: -float(i)}) for i in range(6)]
    table = pd.DataFrame(
        [line for row, values in data for line in condition_rows(row, values)], columns=list(KNOCKOUT.names)
    )
    known = samples({f"s{i}": True for i in range(6)})
    alone = summarise(table, known, ASKED, 0)["text"]["inside"]["change"]
    # Changes 0, −1, .. −5 without skewness: Student's t, −2.5 ± 2.5706 × √(3.5 / 6).
    assert alone["ci"] == pytest.approx([-2.5 - 1.9633, -2.5 + 1.9633], abs=1e-4)
    # All losses on one side: 1 of 2⁵ signs of the five that are not 0, twice.
    assert alone["p"] == pytest.approx(2 / 32)
    few = summarise(table, known.assign(cluster=[*"aabbcc"]), ASKED, 0)["text"]["inside"]["change"]
    assert (few["mean"], few["ci"], few["reason"]) == (-2.5, None, TOO_FEW)


def test_a_run_without_a_knockout_has_no_file_and_an_old_one_goes(tmp_path):
    row, values = stored("a", -1.0, {INSIDE: -4.0})
    arrays = {"own": np.ones(4), "knockout": values}
    table = Table(ASKED)
    table.add(row, arrays)
    assert list(arrays) == ["own"]  # it is no map
    assert table.finish(tmp_path, samples({"a": True}), 0)[0]["knockout"]["text"]["inside"]["change"]["mean"] == -4.0
    assert len(pd.read_parquet(tmp_path / FILE)) == len(CONDITIONS)
    arrays = {"own": np.ones(4)}
    none = Table(None)
    none.add(row, arrays)
    assert none.finish(tmp_path, samples({"a": True}), 0) == ({}, {})
    assert not (tmp_path / FILE).exists()
