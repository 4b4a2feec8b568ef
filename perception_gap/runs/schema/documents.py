"""What the JSON files of runs hold, as far as anybody relies on it; what else is in them stays (`storage.intact`)."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import Field, create_model

from perception_gap.metrics.columns import measures
from perception_gap.metrics.measure import CATEGORIES, Measure
from perception_gap.storage.intact import Document, Interval, Number, Sealed, Sequence, Text, Whole

# A key that may be missing, but is no null: what stands for it where it is.
ABSENT: Any = Field(default=None)


class Estimate(Document):
    mean: Number | None
    ci: Interval | None
    n: Whole


class SpreadOfTask(Document):
    mean: Estimate
    std: Estimate
    cv: Estimate
    min: Estimate
    max: Estimate


class Spread(Estimate):
    std: Number | None
    cv: Number | None
    by_task: dict[str, SpreadOfTask]


# --- gapcheck analyze


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


class Data(Document):
    spec: Text
    hash: Text
    n: Whole
    root: Text | None = None


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


class ThresholdPoint(Document):
    """Accuracy of the answers whose focus reaches a threshold, with its 95 % interval; fractions."""

    threshold: Number
    accuracy: Number
    low: Number | None
    high: Number | None
    n: Whole


class AgainstFloor(Document):
    value: Estimate
    floor: Estimate
    difference: Estimate


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


# --- gapcheck bench


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


# --- gapcheck compare


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


# --- gapcheck trace


class TeacherWidth(Document):
    width: Whole


class Count(Document):
    n: Whole


class TraceFiles(Document):
    traces: Text = Field(alias="traces.parquet")


class TraceInfo(Sealed):
    teacher: TeacherWidth
    data: Count
    funnel: dict[str, Any]
    files: TraceFiles


# --- gapcheck ablate, gapcheck train


class FileList(Sealed):
    files: dict[str, Text]


class TrainingSettings(Document):
    seed: Whole
    steps: Whole
    n_latents: Whole


class StudentName(Document):
    name: Text


class TrainingTraces(Document):
    n: Whole
    teacher: StudentName


class TrainingInfo(Document):
    preset: Text
    settings: TrainingSettings
    student: StudentName
    traces: TrainingTraces
    versions: dict[str, Any] = ABSENT
    command: Text | None = None
    checksum: Text = ABSENT


# --- folders of parts, trainings, models


class Keys(Sealed):
    keys: Sequence
