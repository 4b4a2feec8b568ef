"""The end of an extraction: the parts become `traces.parquet` and, if asked for, `full.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.utils import disable_progress_bars, enable_progress_bars, is_progress_bar_enabled

from lavit.traces.filters import decide
from lavit.traces.funnel import funnel
from lavit.traces.schema import FEATURES, SIGNAL, V_SEM
from perception_gap.runs.parts import Parts
from perception_gap.runs.schema.tables import TRACES
from perception_gap.storage import checksums
from perception_gap.storage.files import ArrayFile, aside, write_json


def merge(
    out: Path, keys: Sequence[str], parts: Parts, info: dict[str, Any], blinded: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Writes the files in the order of `keys`; trace.json with the funnel comes last. Returns trace.json.

    blinded: key → verdict fields of the text model, which the teacher's rows lack.
    """
    settings = info["settings"]
    rows, vectors = [], []
    for row, arrays in parts.read(list(keys), (V_SEM,)):
        row |= {k: v for k, v in blinded.get(row["key"], {}).items() if k != "key" and (v is not None or k != "error")}
        row |= decide(row, settings["filters"], settings["min_focus"], settings["without_boxes"])
        vector = arrays.get(V_SEM) if row["kept"] else None
        if not row["kept"]:
            row |= dict.fromkeys(SIGNAL)
        row["pooling"] = settings["v_sem"] if vector is not None else None
        rows.append(row)
        vectors.append(vector)
    files = {"traces.parquet": write_parquet(out / "traces.parquet", table_of(rows, vectors))}
    if settings["keep_full"]:
        files["full.safetensors"] = _write_full(out / "full.safetensors", parts, rows)
    info |= {"funnel": funnel(rows, settings["filters"]), "files": files}
    write_json(out / "trace.json", info)
    return info


def table_of(rows: Sequence[dict[str, Any]], vectors: Sequence[np.ndarray | None]) -> pa.Table:
    """The rows with their pooled vectors, in `TRACES`; vectors never become Python numbers."""
    offsets = np.cumsum([0, *(0 if v is None else len(v) for v in vectors)])
    flat = np.concatenate([np.zeros(0, np.float16), *(v for v in vectors if v is not None)])
    missing = pa.array([v is None for v in vectors])
    column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, pa.float16()), mask=missing)
    columns = [
        column if name == V_SEM else pa.array([row.get(name) for row in rows], TRACES.field(name).type)
        for name in TRACES.names
    ]
    return pa.Table.from_arrays(columns, schema=TRACES)


def write_parquet(path: Path, table: pa.Table) -> str:
    """Through `datasets`, so that `load_dataset` finds the types. Returns the checksum of the file."""
    shown = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        with aside(path) as partial:
            Dataset(table.cast(FEATURES.arrow_schema)).to_parquet(str(partial))
            return checksums.of_file(partial)
    finally:
        if shown:
            enable_progress_bars()


def _write_full(path: Path, parts: Parts, rows: Sequence[dict[str, Any]]) -> str:
    kept = {row["key"]: row["sample_id"] for row in rows if row["kept"]}
    file = ArrayFile(path)
    for row, arrays in parts.read(list(kept), ("map", "features", "boxes", "images")):
        for kind, array in arrays.items():
            file.add(f"{kept[row['key']]}/{kind}", array)
    return file.close()
