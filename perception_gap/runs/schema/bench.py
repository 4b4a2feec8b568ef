"""bench.json, run.json and summary.json of `gapcheck bench`, as far as anybody relies on them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from perception_gap.runs.schema.shared import ABSENT, Estimate, Spread, ThresholdPoint
from perception_gap.storage.intact import Document, Number, Sealed, Text, Whole


class BenchInfo(Sealed):
    models: dict[str, Text]
    tasks: dict[str, Whole]
    versions: dict[str, Any] = ABSENT
    command: Text | None = None
    created: Text | None = None


class Revision(Document):
    revision: Text | None = None


class ModelSettings(Document):
    latents: Text


class BenchModelInfo(Sealed):
    model: Revision
    asked: ModelSettings


class BenchFiles(Document):
    comparisons: Text = Field(alias="comparisons.csv")


class BenchTotal(Sealed):
    files: BenchFiles


class BenchGaze(Document):
    focus_score: Estimate
    entropy: Spread
    salient_regions: Spread


class FocusByVerdict(Estimate):
    correct_mean: Estimate
    incorrect_mean: Estimate
    auroc: Estimate
    known_chance: Estimate
    threshold_curve: list[ThresholdPoint]


class BenchModelGaze(BenchGaze):
    focus_score: FocusByVerdict


class BenchTask(Document):
    n: Whole
    n_failed: Whole = ABSENT
    n_unscored: Whole = ABSENT
    n_empty: Whole
    n_cut: Whole
    data_hash: Text
    accuracy: Estimate
    strict_accuracy: Estimate
    chance: Number | None
    pair_accuracy: Estimate = ABSENT
    gaze: BenchGaze = ABSENT


class BenchModelFiles(Document):
    samples: Text = Field(alias="samples.parquet")
    maps: Text = Field(default=None, alias="maps.safetensors")


class BenchCosts(Document):
    image_tokens: Estimate
    answer_tokens: Estimate
    seconds: Estimate


class BenchSummary(Sealed):
    files: BenchModelFiles
    costs: BenchCosts
    tasks: dict[str, BenchTask]
    gaze: BenchModelGaze = ABSENT
