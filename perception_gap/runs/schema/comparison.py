"""compare.json and summary.json of `gapcheck compare`, as far as anybody relies on them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from perception_gap.runs.schema.shared import ABSENT, AgainstFloor, Data, Estimate
from perception_gap.storage.intact import Document, Number, Sealed, Sequence, Text, Whole


class Teacher(Document):
    name: Text
    path: Text


class ComparisonInfo(Sealed):
    models: dict[str, Text]
    teacher: Teacher | None
    text: Text
    budget: Text
    raster: Sequence
    most_pixels: dict[str, Number | None]
    data: Data
    versions: dict[str, Any] = ABSENT
    command: Text | None = None
    created: Text | None = None


class Nearest(Document):
    first: Text
    second: Text
    others: Sequence


class ComparedModelDecides(Document):
    n_right: Whole
    n_wrong: Whole
    p_holm: Number | None
    auroc: Estimate
    tasks: Sequence


class ComparedModel(Document):
    name: Text
    folder: Text
    is_teacher: bool
    most_pixels: Number | None
    image_tokens: Number | None
    n_samples: Whole
    n_failed: Whole
    decides: ComparedModelDecides
    accuracy: Estimate
    auroc: Estimate
    focus_chance: Estimate
    rests: Estimate = ABSENT
    focus_score: Estimate = ABSENT
    focus_lift: Estimate = ABSENT
    relative_entropy: Estimate = ABSENT
    text_image_mass: Estimate = ABSENT
    sink_share: Estimate = ABSENT
    focus_score_without_sinks: Estimate = ABSENT
    kl: Estimate = ABSENT
    kl_floor: Estimate = ABSENT
    accuracy_difference: Estimate = ABSENT
    focus_score_difference: Estimate = ABSENT


class AgreementOfVerdicts(Document):
    both_right: Estimate
    both_wrong: Estimate
    only_first_right: Estimate
    only_second_right: Estimate
    raw_difference: Estimate
    right_minus_wrong: Estimate
    alike_minus_split: Estimate


class Agreement(Document):
    js: AgreementOfVerdicts


class ComparedPair(Document):
    first: Text
    second: Text
    n_samples: Whole
    agreement: Agreement
    against_floor: AgainstFloor
    js: Estimate
    js_floor: Estimate
    kl: Estimate
    kl_reverse: Estimate
    top_k_overlap: Estimate
    emd: Estimate = ABSENT
    cc: Estimate = ABSENT
    similarity: Estimate = ABSENT


class ComparisonFiles(Document):
    pairs: Text = Field(alias="pairs.parquet")
    words: Text = Field(alias="words.parquet")


class ComparisonSummary(Sealed):
    baseline: Text
    models: list[ComparedModel]
    pairs: list[ComparedPair]
    most_alike: Nearest | None
    failed: dict[str, Text]
    files: ComparisonFiles
