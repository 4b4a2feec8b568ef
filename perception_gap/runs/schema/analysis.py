"""run.json and summary.json of `gapcheck analyze`, as far as anybody relies on them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import Field, create_model

from perception_gap.metrics.columns import measures
from perception_gap.metrics.measure import CATEGORIES, Measure
from perception_gap.runs.schema.shared import ABSENT, AgainstFloor, Data, Estimate, Spread, ThresholdPoint
from perception_gap.storage.intact import Document, Number, Sealed, Sequence, Text, Whole


class Name(Document):
    name: Text
    revision: Text | None


class TeacherName(Name):
    path: Text


class KnockoutSettings(Document):
    layers: Text
    k: Whole
    seed: Whole


class Settings(Document):
    text: Text
    seed: Whole
    latents: Text = ABSENT
    rows: Text | None = None
    layers: Text | None = None
    instruction: Text | None = None
    system: Text | None = None
    knockout: KnockoutSettings | None = None


class RunInfo(Sealed):
    model: Name
    settings: Settings
    data: Data
    teacher: TeacherName | None
    versions: dict[str, Any]
    signature: Text | None = None
    command: Text | None = None
    created: Text | None = None
    layers: Sequence = ABSENT


class RightAgainstWrong(Document):
    n_right: Whole
    n_wrong: Whole
    p_holm: Number | None
    auroc: Estimate
    difference: Estimate


class RightAgainstWrongInTask(RightAgainstWrong):
    accuracy: Estimate
    chance: Number | None
    cannot_tell: Text | None


class RightAgainstWrongOverall(RightAgainstWrong):
    tasks: Sequence


class Decides(Document):
    by_task: dict[str, RightAgainstWrongInTask]
    overall: RightAgainstWrongOverall


class OfSamples(Document):
    sample: Estimate
    sample_floor: Estimate
    against_floor: AgainstFloor


class Change(Document):
    change: Estimate
    right: Estimate
    wrong: Estimate
    n_undefined: Whole


class AccuracyOfCut(Document):
    base: Estimate
    cut: Estimate
    difference: Estimate


class Cut(Change):
    change_per_token: Estimate
    changed: Estimate
    n_cut: Estimate
    mass_cut: Estimate
    accuracy: AccuracyOfCut


class Cuts(Document):
    inside: Cut
    outside_number: Cut
    outside_mass: Cut
    top_k: Cut
    image: Cut


class Redrawn(Document):
    redrawn: Cut


class Contrast(Document):
    inside_minus_outside_number: Change
    inside_minus_outside_mass: Change


class Contrasts(Document):
    answer: Contrast
    question: Contrast
    text: Contrast


class Knockout(Document):
    layers: Text
    k: Whole
    answer: Cuts
    question: Cuts
    text: Cuts
    picture: Redrawn
    contrasts: Contrasts


class HeadMeans(Document):
    mean: Sequence
    n: Sequence


class PerLayer(Document):
    layers: Sequence
    by_layer: dict[str, dict[str, Estimate]]
    heads: dict[str, HeadMeans]
    mass_of_total: dict[str, Number | None]
    finding: Text


class TaskAccuracy(Estimate):
    chance: Number | None = None


class SummaryFiles(Document):
    samples: Text = Field(alias="samples.parquet")
    words: Text = Field(alias="words.parquet")
    maps: Text = Field(alias="maps.safetensors")
    hidden: Text = Field(alias="hidden.safetensors")
    knockout: Text = Field(default=None, alias="knockout.parquet")


class SummaryHead(Sealed):
    """What stands in summary.json beside the measures."""

    model: Text
    teacher: Text | None
    n_samples: Whole
    n_failed: Whole
    accuracy: Estimate
    accuracy_by_task: dict[str, TaskAccuracy]
    files: SummaryFiles
    knockout: Knockout = ABSENT
    per_layer: PerLayer = ABSENT


# What a block of summary.json holds beside its measure. Only these have to be there: runs from before another measure
# was declared stay readable.
_MORE: dict[str, dict[str, Any]] = {
    "focus_score": {
        "decides": (Decides, ...),
        "threshold_curve": (list[ThresholdPoint], ...),
        **dict.fromkeys(("correct_mean", "incorrect_mean", "raw_difference", "difference", "auroc"), (Estimate, ...)),
        "known_chance": (Estimate, ...),
    },
    "kl": {"decides": (Decides, ...)},
    "entropy": {},
    "salient_regions": {},
    "sinks": {"without": (dict[str, Estimate], ...)},
}
_NEEDED = ("focus_score", "kl", "entropy", "salient_regions")


def summary() -> type[SummaryHead]:
    """summary.json of an analysis, with every declared measure in its place."""
    return _summary_of(tuple(dict.fromkeys([*measures("sample", Measure), *measures("word", Measure)])))


@cache  # making a model takes milliseconds, and every run that is opened asks for it
def _summary_of(declared: tuple[Measure, ...]) -> type[SummaryHead]:
    bases: dict[str, type[Document]] = {}
    fields: dict[str, dict[str, Any]] = {block: dict(more) for block, more in _MORE.items()}
    for measure in declared:
        block, _, name = measure.place.partition(".")
        of_block = fields.setdefault(block, {})
        if name:
            of_block[name] = (Estimate, ...)
        else:
            bases[block], of_words = _of_measure(measure)
            of_block |= of_words
    blocks: dict[str, Any] = {
        block: (
            create_model(block, __base__=bases.get(block, Document), **of_block),
            ... if block in _NEEDED else ABSENT,
        )
        for block, of_block in fields.items()
    }
    return create_model("Summary", __base__=SummaryHead, **blocks)


def _of_measure(measure: Measure) -> tuple[type[Document], dict[str, Any]]:
    """What `measure.summary.of_measure` gives: (of its samples, of its words)."""
    if not measure.floor:
        return (Spread if measure.spread else Estimate), {}
    of_words: dict[str, Any] = {}
    if "word" in measure.scopes:
        of_words = dict.fromkeys(("all", "floor", *CATEGORIES), (Estimate, ...))
        of_words |= {f"{category}_floor": (Estimate, ABSENT) for category in CATEGORIES}
    return (OfSamples if "sample" in measure.scopes else Document), of_words
