"""The columns of every table, with meaning and unit as metadata of the field (`meaning`, `unit`).

Boxes are flat: xyxy of one after the other, pixels of the original image. What measures measure is in `metrics.table`.
Writers take these schemas, readers hold files against them (`storage.intact.columns`); an optional column is one that
a table may lack.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa

from perception_gap.metrics.columns import columns, measure_of, measures, sample_columns, without_sinks, word_columns
from perception_gap.metrics.measure import OfPair

TEXT, TEXTS, FLAG = pa.string(), pa.list_(pa.string()), pa.bool_()
NUMBER, WHOLE = pa.float64(), pa.int64()
NUMBERS, WHOLES, HALVES = pa.list_(pa.float64()), pa.list_(pa.int64()), pa.list_(pa.float16())
# Measures that reports cannot do without; runs from before another one was declared stay readable.
_NEEDED = ("focus_score", "focus_chance", "entropy", "salient_regions", "kl")


def column(
    name: str, kind: pa.DataType, meaning: str, unit: str = "", *, null: bool = False, optional: bool = False
) -> pa.Field:
    """null: whether a row may lack a value. optional: whether a table may lack the column."""
    facts = {"meaning": meaning, "unit": unit, "optional": "yes" if optional else ""}
    return pa.field(name, kind, nullable=null, metadata={key: value for key, value in facts.items() if value})


def _measures(names: Iterable[str], needed: Collection[str] = _NEEDED) -> list[pa.Field]:
    fields = []
    for name in dict.fromkeys(names):
        measure = measure_of(name)
        meaning, unit = (measure.doc, measure.unit) if measure else ("", "")
        fields.append(column(name, NUMBER, meaning, unit, null=True, optional=name not in needed))
    return fields


_KEY = column("key", TEXT, "hash of everything that decides the row")
_SAMPLE = [
    column("sample_id", TEXT, "id of the sample"),
    column("task", TEXT, "task that the sample belongs to"),
    column("pair", TEXT, "id of the pair of twin pictures", null=True),
    column("images", TEXTS, "paths of its pictures, relative to the run or absolute"),
    column("image_hash", TEXT, "sha256 over the pictures", null=True),
    column("heights", WHOLES, "of the original pictures", "pixels", null=True),
    column("widths", WHOLES, "of the original pictures", "pixels", null=True),
    column("question", TEXT, "as asked, without instruction and options", null=True),
    column("reference", TEXT, "the right answer, empty for a question of one's own", null=True),
    column("options", TEXTS, "lettered options, possibly none"),
    column("boxes", NUMBERS, "where the answer lies, xyxy one after the other", "pixels"),
    column("box_images", WHOLES, "picture of each box"),
]
_CLUSTER = column("cluster", TEXT, "rows of one cluster are not independent: its pair, or else its picture")
_STATUS = [
    column("status", TEXT, "ok or failed"),
    column("error", TEXT, "why it failed", null=True),
    column("answer", TEXT, "what the model said", null=True),
    column("correct", FLAG, "whether that is right; null without a reference", null=True),
]
_GEOMETRY = [
    column("n_image_tokens", WHOLE, "image tokens of the prompt", "tokens", null=True),
    column("grid_rows", WHOLE, "rows of a plain grid of image tokens", "tokens", null=True),
    column("grid_cols", WHOLE, "columns of a plain grid of image tokens", "tokens", null=True),
]
_RECTANGLES = [
    column("token_boxes", NUMBERS, "rectangles of other image tokens, xyxy each", "of a side", null=True),
    column("token_images", WHOLES, "picture of each of these", null=True),
]
_MASS = column("text_image_mass", NUMBER, "share of the text's attention that goes to the image", "%", null=True)
_SECONDS = column("seconds", NUMBER, "of reading and answering, its share of the batch", "s", null=True)
_SHARED = [
    column("shared_words", TEXTS, "words of the text that both models are read on", null=True),
    column("shared_categories", TEXTS, "category of each: functional, object, attribute, other", null=True),
]
_OWN = [
    column("own_words", TEXTS, "words of the own answer", null=True),
    column("own_categories", TEXTS, "category of each", null=True),
]
_SHARED_TEXT = column("shared_text", TEXT, "the text that both models are read on", null=True)
_KNOCKOUT_ANSWERS = column("knockout_answers", TEXTS, "answer under each cut, null for the own one", null=True)

# gapcheck analyze: parts/*.parquet, samples.parquet, words.parquet, knockout.parquet
ROW = pa.schema(
    [
        *(_KEY, *_SAMPLE, _CLUSTER, *_STATUS, _SHARED_TEXT, *_GEOMETRY, *_RECTANGLES, *_OWN, *_SHARED),
        *(_MASS, _SECONDS, _KNOCKOUT_ANSWERS),
    ]
)


def samples() -> pa.Schema:
    """samples.parquet: a row a sample."""
    return pa.schema(
        [
            *(*_SAMPLE, _CLUSTER, *_STATUS, _SHARED_TEXT, *_GEOMETRY, *_RECTANGLES, *_SHARED, _MASS, _SECONDS),
            *_measures([name for name in sample_columns() if name != _MASS.name]),
        ]
    )


def words() -> pa.Schema:
    """words.parquet: a row a word of the own answer, and of the shared text."""
    return pa.schema(
        [
            column("sample_id", TEXT, "id of the sample"),
            column("text", TEXT, "whose text the word is of: own or shared"),
            column("word_index", WHOLE, "place in the text, from 0"),
            column("word", TEXT, "the word"),
            column("category", TEXT, "functional, object, attribute or other"),
            *_measures(word_columns()),
        ]
    )


KNOCKOUT = pa.schema(
    [
        column("sample_id", TEXT, "id of the sample"),
        column("rows", TEXT, "whose attention is cut: answer, question, text, or picture"),
        column("tokens", TEXT, "the image tokens that it is cut from"),
        column("n_cut", NUMBER, "how many these are", "tokens", null=True),
        column("mass_cut", NUMBER, "share of the own map on them", "%", null=True),
        column("log_probability", NUMBER, "of the own answer under the cut, sum over its tokens", "nats", null=True),
        column("base", NUMBER, "of the own answer uncut", "nats", null=True),
        column("change", NUMBER, "log_probability − base", "nats", null=True),
        column("change_per_token", NUMBER, "the same, a token of the answer", "nats", null=True),
        column("answer", TEXT, "answer under the cut", null=True),
        column("correct", FLAG, "whether that is right", null=True),
        column("changed", FLAG, "whether it is another one", null=True),
    ]
)

# gapcheck compare: pairs.parquet, words.parquet
_PAIR = [column("first", TEXT, "the first model, whose map is p"), column("second", TEXT, "the second, whose map is q")]


def pairs() -> pa.Schema:
    """pairs.parquet: a row a pair of models and sample."""
    return pa.schema(
        [
            *_PAIR,
            column("sample_id", TEXT, "id of the sample"),
            column("task", TEXT, "task that the sample belongs to"),
            _CLUSTER,
            column("first_correct", FLAG, "whether the first is right", null=True),
            column("second_correct", FLAG, "whether the second is right", null=True),
            *_measures([*columns("pair"), *without_sinks()], needed=("js", "js_floor", "kl", "kl_reverse")),
        ]
    )


def pair_words() -> pa.Schema:
    """words.parquet of a comparison: a row a pair of models and word of the shared text."""
    of_pairs = [name for measure in measures("word", OfPair) for name in (measure.name, measure.floor) if name]
    return pa.schema(
        [
            *_PAIR,
            column("sample_id", TEXT, "id of the sample"),
            _CLUSTER,
            column("word_index", WHOLE, "place in the text, from 0"),
            column("word", TEXT, "the word"),
            column("category", TEXT, "functional, object, attribute or other"),
            *_measures(of_pairs, needed=("js", "js_floor")),
        ]
    )


# gapcheck bench: MODEL/parts/*.parquet, MODEL/samples.parquet, comparisons.csv
_ASKED = [
    column("answer", TEXT, "what the model said", null=True),
    _SECONDS,
    column("n_tokens", WHOLE, "tokens of the answer", "tokens", null=True),
    column("n_prompt_tokens", WHOLE, "tokens of the prompt", "tokens", null=True),
    *_GEOMETRY,
    column("heights", WHOLES, "of the original pictures", "pixels", null=True),
    column("widths", WHOLES, "of the original pictures", "pixels", null=True),
    *_RECTANGLES,
    _MASS,
]
ANSWERS = pa.schema([_KEY, *_ASKED])


def bench_samples() -> pa.Schema:
    """samples.parquet of a benchmark's model: a row a question."""
    return pa.schema(
        [
            column("sample_id", TEXT, "id of the question"),
            column("task", TEXT, "task of lmms-eval"),
            column("doc_id", WHOLE, "number of the document in the task"),
            column("category", TEXT, "category that the data set gives it", null=True),
            column("pair", TEXT, "id of the pair of twin questions", null=True),
            column("cluster", TEXT, "questions of one cluster are not independent", null=True),
            column("image_hash", TEXT, "sha256 over the pictures, empty without one", null=True),
            column("images", TEXTS, "paths of its pictures, relative to OUT"),
            column("question", TEXT, "the question alone", null=True),
            column("prompt", TEXT, "all that the model was sent", null=True),
            column("references", TEXTS, "right answers"),
            column("options", TEXTS, "lettered options, possibly none"),
            column("boxes", NUMBERS, "where the answer lies, xyxy one after the other", "pixels"),
            column("box_images", WHOLES, "picture of each box"),
            column("status", TEXT, "ok or failed"),
            column("error", TEXT, "why it failed", null=True),
            *_ASKED,
            column("lmms_score", NUMBER, "lmms-eval's score", null=True),
            column("lmms_error", TEXT, "why its scorer failed", null=True),
            column("correct", FLAG, "lmms-eval's verdict, 0.5 and more is right", null=True),
            column("strict_correct", FLAG, "gapcheck's own verdict", null=True),
            *_measures(columns("bench"), needed=()),
        ]
    )


BENCH_COMPARISONS = pa.schema(
    [
        column("model", TEXT, "the model that is compared with the baseline"),
        column("task", TEXT, "task, or all"),
        column("n", WHOLE, "questions that both were asked"),
        column("only_first", WHOLE, "right answers of the baseline alone"),
        column("only_second", WHOLE, "right answers of the model alone"),
        column("difference", NUMBER, "accuracy of the model minus the baseline's", "%", null=True),
        column("difference_low", NUMBER, "lower end of its 95 % interval", "%", null=True),
        column("difference_high", NUMBER, "upper end of its 95 % interval", "%", null=True),
        column("p", NUMBER, "two-sided, exact", null=True),
        column("p_holm", NUMBER, "after Holm's correction over the tasks", null=True),
        column("detectable", NUMBER, "difference that would be found at 80 % power", "%", null=True),
    ]
)

# gapcheck trace: parts/*.parquet, blind/parts/*.parquet, traces.parquet
_TRACED = [
    *_STATUS,
    column("blind_answers", TEXTS, "answers without the picture, one a rotation of the options", null=True),
    column("blind_correct", FLAG, "right without the picture under every rotation", null=True),
    column("focus", NUMBER, "share of the map inside the boxes", "%", null=True),
    column("aligned", FLAG, "whether that reaches --min-focus", null=True),
    column("kept", FLAG, "whether the sample passed all filters", null=True),
    column("dropped_by", TEXT, "the filter that dropped it", null=True),
    *_GEOMETRY,
    _MASS,
    column("gaze_index", pa.list_(pa.int16()), "image tokens of the gaze target, largest weight first", null=True),
    column("gaze_weight", HALVES, "their weights, summing to 1", null=True),
    column("gaze_boxes", pa.list_(pa.float32()), "their rectangles, xyxy one after the other", "of a side", null=True),
    column("gaze_images", pa.list_(pa.int16()), "picture of each", null=True),
]
_BLIND = ("status", "error", "blind_answers", "blind_correct")
TRACE_PART = pa.schema([_KEY, *_SAMPLE, *_TRACED])
TRACE_BLIND = pa.schema([_KEY, *(field for field in _TRACED if field.name in _BLIND)])
TRACES = pa.schema(
    [
        *TRACE_PART,
        column("v_sem", HALVES, "pooled last hidden states at the image tokens", null=True),
        column("pooling", TEXT, "how: mean or gaze", null=True),
    ]
)

# gapcheck ablate: results.csv, means.csv, comparisons.csv; gapcheck train: log.jsonl
_ENDS = [
    column("low", NUMBER, "lower end of the 95 % interval", null=True),
    column("high", NUMBER, "upper end", null=True),
    column("n", WHOLE, "samples that it rests on"),
]
_OF = [
    column("rows", TEXT, "how the latents were treated"),
    column("task", TEXT, "task, or all"),
    column("metric", TEXT, "measure"),
]
RESULTS = pa.schema(
    [
        column("preset", TEXT, "preset of the training"),
        column("seed", WHOLE, "seed of the training"),
        *_OF,
        column("value", NUMBER, "its mean", null=True),
        *_ENDS,
    ]
)
MEANS = pa.schema(
    [
        column("preset", TEXT, "preset of the trainings"),
        *_OF,
        column("mean", NUMBER, "mean over the seeds, null where one of them has no value", null=True),
        *_ENDS,
    ]
)
COMPARISONS = pa.schema(
    [
        column("preset", TEXT, "preset of the training"),
        column("against", TEXT, "what it is compared with"),
        *_OF,
        column("mean", NUMBER, "paired difference", null=True),
        *_ENDS,
    ]
)
LOG = pa.schema(
    [
        column("step", WHOLE, "step of the training"),
        *(
            column(name, NUMBER, meaning, null=True, optional=True)
            for name, meaning in {
                "loss": "the whole objective",
                "ntp": "next-token loss",
                "concept": "semantic reconstruction",
                "trajectory": "trajectory alignment",
                "gamma": "gate",
                "learning_rate": "learning rate",
            }.items()
        ),
    ]
)
