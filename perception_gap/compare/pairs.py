"""How far two models' gazes lie apart, sample by sample and word by word, on one text and one raster."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from perception_gap.measure.teacher import Comparison
from perception_gap.metrics.columns import WITHOUT_SINKS
from perception_gap.runs.run import Run

SAMPLE_KEYS = ("first", "second", "sample_id", "task", "cluster", "first_correct", "second_correct")


@dataclass(frozen=True)
class Member:
    """One model of a comparison: its `name` (each once), its run, and which of its maps were read on the common text.

    kind: "shared", or "own" for a teacher whose own answer is that text.
    """

    name: str
    run: Run
    kind: str = "shared"

    def rows(self) -> list[dict[str, Any]]:
        """The samples as `Comparison` takes them: undefined is None."""
        rows = [
            {str(name): None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()}
            for row in self.run.samples.to_dict("records")
        ]
        return [row | {"shared_text": row["answer"]} for row in rows] if self.kind == "own" else rows


def rows_of_pairs(
    members: Sequence[Member], raster: tuple[int, int], seed: int
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """For every pair of members, in their order: a row a sample, and a row a word.

    Sample rows: SAMPLE_KEYS, and every measure of pairs of the FIRST's map p and the SECOND's q (kl: KL(p ‖ q)), with
    its floor: the same against the first's map of another sample of the task; *_without_sinks where each model's own
    sinks are removed from its map. All on `raster` (rows, columns), also where two grids are equal, so that the
    numbers of different pairs compare. A sample that either model failed is left out.
    """
    rows = {member.name: member.rows() for member in members}
    for first, second in itertools.combinations(members, 2):
        comparison = Comparison(rows[second.name], first.run, first.kind, seed, raster)
        yield _samples(comparison, first, second), _words(comparison, first, second)


def _samples(comparison: Comparison, first: Member, second: Member) -> list[dict[str, Any]]:
    rows = []
    for sample_id, row in comparison.rows.items():
        attention = second.run.map(sample_id, second.kind)
        if attention is None:
            continue
        fields: dict[str, Any] = {
            "first": first.name,
            "second": second.name,
            "sample_id": sample_id,
            "task": row["task"],
            "cluster": row["cluster"],
            "first_correct": first.run.row(sample_id)["correct"],
            "second_correct": row["correct"],
        }
        fields |= comparison.sample(sample_id, attention, "pair")
        sinks = second.run.sinks(sample_id)
        if sinks is not None:
            kept = comparison.without_sinks(sample_id, np.where(sinks, 0, attention))
            fields |= {f"{name}{WITHOUT_SINKS}": value for name, value in kept.items()}
        rows.append(fields)
    return rows


def _words(comparison: Comparison, first: Member, second: Member) -> list[dict[str, Any]]:
    rows = []
    for sample_id, row in comparison.rows.items():
        maps = second.run.map(sample_id, f"{second.kind}_words")
        if maps is None:
            continue
        words = zip(row["shared_words"], row["shared_categories"], comparison.words(sample_id, maps), strict=True)
        for i, (word, category, values) in enumerate(words):
            place = {"first": first.name, "second": second.name, "sample_id": sample_id, "cluster": row["cluster"]}
            rows.append(place | {"word_index": i, "word": word, "category": category} | values)
    return rows


def frames(members: Sequence[Member], raster: tuple[int, int], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`rows_of_pairs` as two tables."""
    samples, words = [], []
    for of_samples, of_words in rows_of_pairs(members, raster, seed):
        samples += of_samples
        words += of_words
    return pd.DataFrame(samples), pd.DataFrame(words)
