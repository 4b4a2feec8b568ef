"""A trace directory: one row a sample, dropped and failed ones included, in the order of the data.

    trace.json  traces.parquet  [full.safetensors]  parts/  [blind/parts/]

`parts/` grows while the teacher runs (rows without `v_sem`, which lies in the part's arrays as KEY/v_sem), `blind/`
while the text model does; `traces.parquet` is merged from both. `full.safetensors` (--keep-full) holds for each kept
sample ID/map float32 [N] (raw), ID/features float16 [N, D], ID/boxes float32 [N, 4] and ID/images int64 [N]. The
columns are those of `perception_gap.runs.schema.tables`.
"""

from __future__ import annotations

import pyarrow as pa
from datasets import Features

from perception_gap.runs.schema.tables import TRACES

V_SEM = "v_sem"
FEATURES = Features.from_arrow_schema(pa.schema([field.remove_metadata() for field in TRACES]))
# What a dropped sample does not keep.
SIGNAL = ("gaze_index", "gaze_weight", "gaze_boxes", "gaze_images")
