"""The columns of a trace directory: one row a sample, dropped and failed ones included, in the order of the data.

    trace.json  traces.parquet  [full.safetensors]  parts/  [blind/parts/]

`parts/` grows while the teacher runs (rows without `v_sem`, which lies in the part's arrays as KEY/v_sem), `blind/`
while the text model does; `traces.parquet` is merged from both. `full.safetensors` (--keep-full) holds for each kept
sample ID/map float32 [N] (raw), ID/features float16 [N, D], ID/boxes float32 [N, 4] and ID/images int64 [N].
"""

from __future__ import annotations

import pyarrow as pa
from datasets import Features

SCHEMA_VERSION = 2

_TEXT, _TEXTS, _BOOL = pa.string(), pa.list_(pa.string()), pa.bool_()
_WHOLE, _WHOLES, _HALVES = pa.int64(), pa.list_(pa.int64()), pa.list_(pa.float16())
_SAMPLE = {
    "key": _TEXT, "sample_id": _TEXT, "task": _TEXT, "pair": _TEXT, "images": _TEXTS, "image_hash": _TEXT,
    "heights": _WHOLES, "widths": _WHOLES, "question": _TEXT, "options": _TEXTS, "reference": _TEXT,
    "boxes": pa.list_(pa.float64()), "box_images": _WHOLES,
}  # fmt: skip
_BLIND = {"status": _TEXT, "error": _TEXT, "blind_answers": _TEXTS, "blind_correct": _BOOL}
_TEACHER = {
    "status": _TEXT, "error": _TEXT, "answer": _TEXT, "correct": _BOOL, "blind_answers": _TEXTS,
    "blind_correct": _BOOL, "focus": pa.float64(), "aligned": _BOOL, "kept": _BOOL, "dropped_by": _TEXT,
    "n_image_tokens": _WHOLE, "grid_rows": _WHOLE, "grid_cols": _WHOLE, "text_image_mass": pa.float64(),
    "gaze_index": pa.list_(pa.int16()), "gaze_weight": _HALVES, "gaze_boxes": pa.list_(pa.float32()),
    "gaze_images": pa.list_(pa.int16()),
}  # fmt: skip
V_SEM = "v_sem"

PART_SCHEMA = pa.schema(_SAMPLE | _TEACHER)
BLIND_SCHEMA = pa.schema({"key": _TEXT} | _BLIND)
ROW_SCHEMA = pa.schema(_SAMPLE | _TEACHER | {V_SEM: _HALVES, "pooling": _TEXT})
FEATURES = Features.from_arrow_schema(ROW_SCHEMA)
# What a dropped sample does not keep.
SIGNAL = ("gaze_index", "gaze_weight", "gaze_boxes", "gaze_images")
