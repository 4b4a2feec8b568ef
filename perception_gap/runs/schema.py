"""The columns of what runs hold, and the version of each kind of run."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 3

_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_NUMBERS, _INTEGERS = pa.list_(pa.float64()), pa.list_(pa.int64())
ROW_SCHEMA = pa.schema({
    "key": _TEXT, "sample_id": _TEXT, "task": _TEXT, "pair": _TEXT, "cluster": _TEXT, "images": _TEXTS,
    "image_hash": _TEXT,
    "heights": _INTEGERS, "widths": _INTEGERS, "question": _TEXT, "reference": _TEXT, "options": _TEXTS,
    "boxes": _NUMBERS, "box_images": _INTEGERS, "status": _TEXT, "error": _TEXT, "answer": _TEXT,
    "correct": pa.bool_(), "shared_text": _TEXT, "n_image_tokens": pa.int64(), "grid_rows": pa.int64(),
    "grid_cols": pa.int64(), "token_boxes": _NUMBERS, "token_images": _INTEGERS, "own_words": _TEXTS,
    "own_categories": _TEXTS, "shared_words": _TEXTS, "shared_categories": _TEXTS, "text_image_mass": pa.float64(),
    "seconds": pa.float64(), "knockout_answers": _TEXTS,
})  # fmt: skip
