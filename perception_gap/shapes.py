"""What the files of run directories have to hold, as `perception_gap.intact` reads it: all that reports rely on."""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]

_NUMBER, _TEXT = (float, None), (str, None)
ESTIMATE: Shape = {"mean": _NUMBER, "ci": ([float, float], None), "n": int}
_SPREAD = ESTIMATE | {"std": _NUMBER}


def _estimates(*names: str) -> Shape:
    return dict.fromkeys(names, ESTIMATE)


# --- gapcheck analyze
RUN: Shape = {
    "model": {"name": str, "revision": _TEXT},
    "settings": {
        "text": str, "seed": int, "latents?": str, "rows?": _TEXT, "layers?": _TEXT, "instruction?": _TEXT,
        "system?": _TEXT,
    },
    "data": {"spec": str, "hash": str, "n": int},
    "teacher": ({"name": str, "path": str, "revision": _TEXT}, None),
    "versions": {},
    "command?": _TEXT, "created?": _TEXT,
}  # fmt: skip
_OF_WORDS = _estimates("all", "functional", "object", "attribute", "floor")
_FLOORS = {f"{name}_floor?": ESTIMATE for name in ("functional", "object", "attribute")}
_OF_MAPS = _OF_WORDS | _FLOORS | _estimates("sample", "sample_floor") | {"floor_minus_sample?": ESTIMATE}
SUMMARY: Shape = {
    "model": str, "teacher": _TEXT, "n_samples": int, "n_failed": int,
    "accuracy": ESTIMATE, "accuracy_by_task": {"*": ESTIMATE | {"chance?": _NUMBER}},
    "focus_score": ESTIMATE | _estimates("correct_mean", "incorrect_mean", "difference", "auroc", "chance", "lift"),
    "pointing_game": ESTIMATE, "text_image_mass": ESTIMATE,
    "entropy": _SPREAD | _estimates("relative"), "salient_regions": _SPREAD | _estimates("fraction"),
    "kl": _OF_MAPS, "js": _OF_MAPS, "top_k_overlap": _OF_MAPS, "cosine_distance": _OF_WORDS | _FLOORS,
}  # fmt: skip
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

# --- gapcheck bench
BENCH: Shape = {
    "models": {"*": str}, "tasks": {"*": int}, "versions?": {}, "command?": _TEXT, "created?": _TEXT,
}  # fmt: skip
BENCH_MODEL: Shape = {"model": {"revision?": _TEXT}, "asked": {"latents": str}}
BENCH_SUMMARY: Shape = {
    "tasks": {
        "*": {
            "n": int, "n_failed?": int, "n_unscored?": int, "n_empty": int, "n_cut": int, "data_hash": str,
            "accuracy": ESTIMATE, "strict_accuracy": ESTIMATE, "chance": _NUMBER, "pair_accuracy?": ESTIMATE,
            "gaze?": {"focus_score": ESTIMATE, "entropy": _SPREAD, "salient_regions": _SPREAD},
        }
    }
}  # fmt: skip
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
_ENDS = {"low": _NUMBER, "high": _NUMBER, "n": int}
RESULTS: Shape = {
    "preset": str, "seed": int, "rows": str, "task": str, "metric": str, "value": _NUMBER,
} | _ENDS  # fmt: skip
COMPARISONS: Shape = {
    "preset": str, "against": str, "rows": str, "task": str, "metric": str, "mean": _NUMBER,
} | _ENDS  # fmt: skip

# --- gapcheck train
TRAINING: Shape = {
    "preset": str, "settings": {"seed": int, "steps": int, "n_latents": int}, "student": {"name": str},
    "traces": {"n": int, "teacher": {"name": str}}, "versions?": {}, "command?": _TEXT,
}  # fmt: skip
LOG: Shape = {"step": int} | {
    f"{name}?": _NUMBER for name in ("loss", "ntp", "concept", "trajectory", "gamma", "learning_rate")
}
