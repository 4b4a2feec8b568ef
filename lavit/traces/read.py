"""`Traces`: the kept samples of a finished trace directory, for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lavit.traces.schema import V_SEM
from lavit.traces.target import Target
from perception_gap.errors import DamagedError, UsageError, one_line
from perception_gap.runs.schema.tables import TRACES
from perception_gap.runs.schema.training import TraceInfo
from perception_gap.runs.schema.versions import TRACE
from perception_gap.sample import Sample
from perception_gap.storage import intact


@dataclass(frozen=True, eq=False)
class Trace:
    """The teacher's record of one sample.

    sample: with openable image paths; `sample.answer` is the reference. answer: what the teacher said.
    gaze: None for a constant map. v_sem: float16 [D], pooled; None where undefined.
    grid: (rows, cols) of the teacher's image tokens when they are one plain raster. sizes: (height, width) of each
    original image.
    """

    sample: Sample
    answer: str
    image_hash: str
    gaze: Target | None
    v_sem: np.ndarray | None
    grid: tuple[int, int] | None
    sizes: list[tuple[int, int]]


class Traces:
    """Kept traces, in the order of the data, by index; read-only.

    path: the directory. info: trace.json. width: the teacher's hidden size, length of every `v_sem`.
    """

    def __init__(self, path: Path, info: dict[str, Any], kept: pa.Table) -> None:
        self.path, self.info, self._kept = path, info, kept
        self.width = int(info["teacher"]["width"])

    @classmethod
    def open(cls, path: str | Path) -> Traces:
        """DamagedError for an unfinished or damaged folder and another schema, UsageError where nothing is kept."""
        folder = Path(path)
        if not (folder / "trace.json").is_file():
            what = "no trace directory (trace.json is missing)" if folder.is_dir() else "no such folder"
            raise DamagedError(f"traces {folder}: {what}; give the --out folder of `gapcheck trace`")
        info = intact.read_json(folder / "trace.json")
        TRACE.require_version(folder, info)
        if "funnel" not in info or not (folder / "traces.parquet").is_file():
            raise DamagedError(f"traces {folder}: unfinished; the same trace command finishes it")
        intact.require(info, TraceInfo, folder / "trace.json")
        # What --keep-full adds is not read here, and has checksums of its own.
        intact.same(folder, {"traces.parquet": info["files"]["traces.parquet"]})
        try:
            table = pq.read_table(folder / "traces.parquet", columns=TRACES.names)
            table = table.filter(pc.equal(table["kept"], True))
            traces = cls(folder, info, table.combine_chunks())
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            reason = one_line(error, 80)
            raise intact.damaged(folder / "traces.parquet", reason) from None
        if not len(traces):
            raise UsageError(f"traces {folder}: none of {info['data']['n']} samples was kept; loosen the filters")
        return traces

    def __len__(self) -> int:
        return self._kept.num_rows

    def __getitem__(self, index: int) -> Trace:
        if not -len(self) <= index < len(self):
            raise IndexError(f"trace {index} of {len(self)}")
        row = self._kept.slice(index % len(self), 1)
        v_sem = row[V_SEM][0].values
        plain = row.drop_columns([V_SEM]).to_pylist()[0]
        return Trace(
            sample=_sample(self.path, plain),
            answer=plain["answer"],
            image_hash=plain["image_hash"],
            gaze=_gaze(plain),
            v_sem=None if v_sem is None else v_sem.to_numpy(zero_copy_only=False),
            grid=None if plain["grid_rows"] is None else (plain["grid_rows"], plain["grid_cols"]),
            sizes=list(zip(plain["heights"], plain["widths"], strict=True)),
        )


def _sample(folder: Path, row: dict[str, Any]) -> Sample:
    flat = row["boxes"]
    return Sample(
        id=row["sample_id"],
        images=tuple(folder / path for path in row["images"]),
        question=row["question"],
        answer=row["reference"],
        boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in zip(*[iter(flat)] * 4, strict=True)),
        box_images=tuple(row["box_images"]),
        options=tuple(row["options"]),
        task=row["task"],
        pair=row["pair"],
    )


def _gaze(row: dict[str, Any]) -> Target | None:
    if row["gaze_index"] is None:
        return None
    weights = np.asarray(row["gaze_weight"], dtype=np.float64)
    return Target(
        np.asarray(row["gaze_index"], dtype=np.int64),
        weights / weights.sum(),
        np.asarray(row["gaze_boxes"], dtype=np.float64).reshape(-1, 4),
        np.asarray(row["gaze_images"], dtype=np.int64),
        row["n_image_tokens"],
    )


def failures(folder: Path) -> dict[str, list[str]]:
    """reason → ids of the samples that failed for it, in the order of the data."""
    ids: dict[str, list[str]] = {}
    for row in pq.read_table(folder / "traces.parquet", columns=["sample_id", "status", "error"]).to_pylist():
        if row["status"] != "ok":
            ids.setdefault(row["error"], []).append(row["sample_id"])
    return ids
