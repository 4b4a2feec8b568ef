"""What the files of run directories have to hold, as `storage.intact` reads it: all that reports rely on."""

from __future__ import annotations

from typing import Any

from perception_gap.metrics.columns import columns, measures
from perception_gap.metrics.measure import Measure
from perception_gap.storage.checksums import FIELD

Shape = dict[str, Any]
SEALED: Shape = {FIELD: str}

_NUMBER, _TEXT = (float, None), (str, None)
ESTIMATE: Shape = {"mean": _NUMBER, "ci": ([float, float], None), "n": int}
_OF_TASK = dict.fromkeys(("mean", "std", "cv", "min", "max"), ESTIMATE)
_SPREAD = ESTIMATE | {"std": _NUMBER, "cv": _NUMBER, "by_task": {"*": _OF_TASK}}


def _estimates(*names: str) -> Shape:
    return dict.fromkeys(names, ESTIMATE)


# --- gapcheck analyze
RUN: Shape = {
    "model": {"name": str, "revision": _TEXT},
    "settings": {
        "text": str, "seed": int, "latents?": str, "rows?": _TEXT, "layers?": _TEXT, "instruction?": _TEXT,
        "system?": _TEXT, "knockout?": ({"layers": str, "k": int, "seed": int}, None),
    },
    "data": {"spec": str, "hash": str, "n": int, "root?": _TEXT},
    "teacher": ({"name": str, "path": str, "revision": _TEXT}, None), "signature?": _TEXT,
    "versions": {},
    "command?": _TEXT, "created?": _TEXT, "layers?": list,
} | SEALED  # fmt: skip
_PAIRED = _estimates("value", "floor", "difference")
_COMPARED = {"n_right": int, "n_wrong": int, "p_holm": _NUMBER} | _estimates("auroc", "difference")
_DECIDES = {
    "by_task": {"*": _COMPARED | {"accuracy": ESTIMATE, "chance": _NUMBER, "cannot_tell": _TEXT}},
    "overall": _COMPARED | {"tasks": list},
}
_OF_WORDS = _estimates("all", "functional", "object", "attribute", "floor")
_FLOORS = {f"{name}_floor?": ESTIMATE for name in ("functional", "object", "attribute")}
_OF_SAMPLES = _estimates("sample", "sample_floor") | {"against_floor": _PAIRED}


def _of_measure(measure: Measure) -> Shape:
    """What `measure.summary.of_measure` gives."""
    if not measure.floor:
        return _SPREAD if measure.spread else ESTIMATE
    of_words = _OF_WORDS | _FLOORS if "word" in measure.scopes else {}
    return of_words | (_OF_SAMPLES if "sample" in measure.scopes else {})


def _of_measures() -> Shape:
    """The places of the measures in a summary.

    Runs from before a measure was declared stay readable: only what reports cannot do without has to be there.
    """
    shape: Shape = {}
    for measure in dict.fromkeys([*measures("sample", Measure), *measures("word", Measure)]):
        block, _, name = measure.place.partition(".")
        key = block if block in ("focus_score", "entropy", "salient_regions", "kl") else f"{block}?"
        shape[key] = shape.get(key, {}) | ({name: _of_measure(measure)} if name else _of_measure(measure))
    return shape


_CHANGES = _estimates("change", "right", "wrong") | {"n_undefined": int}
_CUT = _CHANGES | _estimates("change_per_token", "changed", "n_cut", "mass_cut") | {
    "accuracy": _estimates("base", "cut", "difference")
}  # fmt: skip
_CUTS = dict.fromkeys(("inside", "outside_number", "outside_mass", "top_k", "image"), _CUT)
_MATCHED = dict.fromkeys(("inside_minus_outside_number", "inside_minus_outside_mass"), _CHANGES)
_ROWS = ("answer", "question", "text")
_MEASURED = _of_measures()
SUMMARY: Shape = {
    "files": {"samples.parquet": str, "tokens.parquet": str, "maps.safetensors": str, "hidden.safetensors": str,
              "knockout.parquet?": str},
    "knockout?": dict.fromkeys(_ROWS, _CUTS) | {
        "layers": str, "k": int, "picture": {"redrawn": _CUT}, "contrasts": dict.fromkeys(_ROWS, _MATCHED),
    },
    "model": str, "teacher": _TEXT, "n_samples": int, "n_failed": int,
    "accuracy": ESTIMATE, "accuracy_by_task": {"*": ESTIMATE | {"chance?": _NUMBER}},
    **_MEASURED,
    "focus_score": _MEASURED["focus_score"] | {"decides": _DECIDES} | _estimates(
        "correct_mean", "incorrect_mean", "raw_difference", "difference", "auroc"
    ),
    "kl": _MEASURED["kl"] | {"decides": _DECIDES},
    "sinks?": _MEASURED["sinks?"] | {"without": {"*": ESTIMATE}},
    "per_layer?": {"layers": list, "by_layer": {"*": {"*": ESTIMATE}}, "heads": {"*": {"mean": list, "n": list}},
                   "mass_of_total": {"*": _NUMBER},
                   "finding": str},
} | SEALED  # fmt: skip
SAMPLES: Shape = {
    "sample_id": str, "task": str, "cluster": str, "status": str, "question": _TEXT, "reference": _TEXT,
    "answer": _TEXT, "error": _TEXT, "image_hash": _TEXT, "shared_text": _TEXT, "correct": (bool, None),
    "images": list, "options": list, "boxes": list, "box_images": list, "heights": (list, None), "widths": (list, None),
    "shared_words": (list, None), "shared_categories": (list, None),
    "token_boxes": (list, None), "token_images": (list, None),
    "n_image_tokens": _NUMBER, "grid_rows": _NUMBER, "grid_cols": _NUMBER,
    "focus_score": _NUMBER, "focus_chance": _NUMBER, "entropy": _NUMBER, "salient_regions": _NUMBER, "kl": _NUMBER,
}  # fmt: skip
TOKENS: Shape = {
    "sample_id": str, "text": str, "word": str, "category": str, "kl": _NUMBER, "focus_score": _NUMBER,
}  # fmt: skip

KNOCKOUT: Shape = {
    "sample_id": str, "rows": str, "tokens": str, "n_cut": _NUMBER, "mass_cut": _NUMBER, "log_probability": _NUMBER,
    "base": _NUMBER, "change": _NUMBER, "change_per_token": _NUMBER, "answer": _TEXT, "correct": (bool, None),
    "changed": (bool, None),
}  # fmt: skip

# --- gapcheck bench
BENCH: Shape = {
    "models": {"*": str}, "tasks": {"*": int}, "versions?": {}, "command?": _TEXT, "created?": _TEXT,
} | SEALED  # fmt: skip
BENCH_MODEL: Shape = {"model": {"revision?": _TEXT}, "asked": {"latents": str}} | SEALED
BENCH_TOTAL: Shape = {"files": {"comparisons.csv": str}} | SEALED
BENCH_SUMMARY: Shape = {
    "files": {"samples.parquet": str, "maps.safetensors?": str},
    "tasks": {
        "*": {
            "n": int, "n_failed?": int, "n_unscored?": int, "n_empty": int, "n_cut": int, "data_hash": str,
            "accuracy": ESTIMATE, "strict_accuracy": ESTIMATE, "chance": _NUMBER, "pair_accuracy?": ESTIMATE,
            "gaze?": {"focus_score": ESTIMATE, "entropy": _SPREAD, "salient_regions": _SPREAD},
        }
    }
} | SEALED  # fmt: skip
BENCH_SAMPLES: Shape = {
    "sample_id": str, "task": str, "status": str, "cluster": _TEXT, "question": _TEXT, "prompt": _TEXT,
    "answer": _TEXT, "error": _TEXT, "correct": (bool, None), "references": list, "options": list,
    "images": list, "boxes": list, "box_images": list, "heights": (list, None), "widths": (list, None),
    "token_boxes": (list, None), "token_images": (list, None), "grid_rows": _NUMBER, "grid_cols": _NUMBER,
    "n_image_tokens": _NUMBER, "n_tokens": _NUMBER, "seconds": _NUMBER,
    "focus_score?": _NUMBER, "entropy?": _NUMBER, "salient_regions?": _NUMBER,
}  # fmt: skip
BENCH_COMPARISONS: Shape = {
    "model": str, "task": str, "n": int, "only_first": int, "only_second": int, "difference": _NUMBER,
    "difference_low": _NUMBER, "difference_high": _NUMBER, "p": _NUMBER, "p_holm": _NUMBER, "detectable": _NUMBER,
}  # fmt: skip

# --- gapcheck ablate
FILES: Shape = {"files": {"*": str}} | SEALED
_ENDS = {"low": _NUMBER, "high": _NUMBER, "n": int}
RESULTS: Shape = {
    "preset": str, "seed": int, "rows": str, "task": str, "metric": str, "value": _NUMBER,
} | _ENDS  # fmt: skip
COMPARISONS: Shape = {
    "preset": str, "against": str, "rows": str, "task": str, "metric": str, "mean": _NUMBER,
} | _ENDS  # fmt: skip

# --- gapcheck compare
COMPARE: Shape = {
    "models": {"*": str}, "teacher": ({"name": str, "path": str}, None), "text": str, "budget": str, "raster": list,
    "most_pixels": {"*": _NUMBER}, "data": {"spec": str, "hash": str, "n": int}, "versions?": {}, "command?": _TEXT,
    "created?": _TEXT,
} | SEALED  # fmt: skip
_NEAREST: Shape = {"first": str, "second": str, "others": list}
COMPARE_SUMMARY: Shape = {
    "baseline": str, "models": list, "pairs": list, "most_alike": (_NEAREST, None), "failed": {"*": str},
    "files": {"pairs.parquet": str, "words.parquet": str},
} | SEALED  # fmt: skip
_COMPARED_MODEL = {name: kind for name, kind in _COMPARED.items() if name != "difference"} | {"tasks": list}
_OPTIONAL = (
    *columns("model"), "focus_score_without_sinks", "accuracy_difference", "focus_score_difference",
)  # fmt: skip
COMPARE_MODEL: Shape = {
    "name": str, "folder": str, "is_teacher": bool, "most_pixels": _NUMBER, "image_tokens": _NUMBER,
    "n_samples": int, "n_failed": int, "decides": _COMPARED_MODEL, "rests?": ESTIMATE,
} | _estimates("accuracy", "auroc", "focus_chance", *(f"{name}?" for name in _OPTIONAL))  # fmt: skip
_VERDICTS = _estimates("both_right", "both_wrong", "only_first_right", "only_second_right", "raw_difference",
                       "right_minus_wrong", "alike_minus_split")  # fmt: skip
COMPARE_PAIR: Shape = {
    "first": str,
    "second": str,
    "n_samples": int,
    "agreement": {"js": _VERDICTS},
    "against_floor": _PAIRED,
} | _estimates("js", "js_floor", "kl", "kl_reverse", *(f"{name}?" for name in columns("pair")))
PAIRS: Shape = {
    "first": str, "second": str, "sample_id": str, "task": str, "cluster": str, "first_correct": (bool, None),
    "second_correct": (bool, None), "js": _NUMBER, "js_floor": _NUMBER, "kl": _NUMBER, "kl_reverse": _NUMBER,
}  # fmt: skip
WORDS: Shape = {
    "first": str, "second": str, "sample_id": str, "cluster": str, "word": str, "category": str, "js": _NUMBER,
    "js_floor": _NUMBER,
}  # fmt: skip

# --- gapcheck trace
TRACE: Shape = {
    "teacher": {"width": int}, "data": {"n": int}, "funnel": {}, "files": {"traces.parquet": str},
} | SEALED  # fmt: skip

# --- gapcheck train
TRAINING: Shape = {
    "preset": str, "settings": {"seed": int, "steps": int, "n_latents": int}, "student": {"name": str},
    "traces": {"n": int, "teacher": {"name": str}}, "versions?": {}, "command?": _TEXT, f"{FIELD}?": str,
}  # fmt: skip
LOG: Shape = {"step": int} | {
    f"{name}?": _NUMBER for name in ("loss", "ntp", "concept", "trajectory", "gamma", "learning_rate")
}
