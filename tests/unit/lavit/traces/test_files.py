"""The merged file, its size, what reading it gives, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from lavit.traces import FILTERS, Traces, funnel, funnel_table, resample
from lavit.traces.filters import decide
from lavit.traces.merge import table_of, write_parquet
from lavit.traces.schema import FEATURES
from perception_gap.errors import DamagedError, UsageError
from perception_gap.geometry import TokenGeometry
from perception_gap.runs.schema.tables import TRACES
from perception_gap.runs.schema.versions import TRACE
from perception_gap.storage.files import write_json

WIDTH = 5120


def a_row(i: int, rng: np.random.Generator, **change) -> dict:
    """A row as long as Visual-CoT's, nothing of it compressible but its form."""
    index = rng.choice(1200, 8, replace=False)
    weights = rng.dirichlet(np.ones(8)).astype(np.float16)
    return {
        "key": rng.bytes(16).hex(), "sample_id": f"flickr30k-{i}", "task": "flickr30k", "pair": None,
        "images": [f"../images/{i}.jpg"], "image_hash": rng.bytes(32).hex(), "heights": [480], "widths": [640],
        "question": "What " + rng.bytes(40).hex() + "?", "options": [], "reference": rng.bytes(10).hex(),
        "boxes": rng.random(4).tolist(), "box_images": [0], "status": "ok", "error": None,
        "answer": rng.bytes(10).hex(), "correct": True, "blind_answers": [rng.bytes(10).hex()], "blind_correct": False,
        "focus": rng.random(), "aligned": True, "kept": True, "dropped_by": None, "n_image_tokens": 1200,
        "grid_rows": 30, "grid_cols": 40, "text_image_mass": rng.random(), "gaze_index": index.tolist(),
        "gaze_weight": weights.tolist(), "gaze_boxes": rng.random((8, 4)).ravel().tolist(), "gaze_images": [0] * 8,
        "pooling": "mean",
    } | change  # fmt: skip


def write(folder: Path, rows: list[dict], vectors: list[np.ndarray | None], **info) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    checksum = write_parquet(folder / "traces.parquet", table_of(rows, vectors))
    info_of_run = {"schema_version": TRACE.version, "teacher": {"width": WIDTH}, "data": {"n": len(rows)}, "funnel": {}}
    write_json(folder / "trace.json", info_of_run | {"files": {"traces.parquet": checksum}} | info)
    return folder


def test_a_sample_takes_at_most_twelve_kilobytes_beside_its_image_at_width_5120(tmp_path):
    rng = np.random.default_rng(0)
    rows = [a_row(i, rng) for i in range(200)]
    vectors = [rng.normal(size=WIDTH).astype(np.float16) for _ in rows]
    folder = write(tmp_path, rows, vectors)
    each = (folder / "traces.parquet").stat().st_size / len(rows)
    assert 2 * WIDTH * 0.8 < each <= 12_000
    traces = Traces.open(folder)
    assert all(np.array_equal(traces[i].v_sem, vectors[i]) for i in (0, 57, -1 % len(rows)))


def test_any_reader_of_datasets_finds_the_types(tmp_path):
    rng = np.random.default_rng(0)
    folder = write(tmp_path / "traces", [a_row(0, rng)], [np.ones(4, np.float16)])
    read = datasets.Dataset.from_parquet(str(folder / "traces.parquet"), cache_dir=str(tmp_path / "cache"))
    assert read.features == FEATURES
    assert read.column_names == TRACES.names
    assert read[0]["v_sem"] == [1.0] * 4


def test_reading_gives_the_kept_samples_as_they_were_stored(tmp_path):
    rng = np.random.default_rng(1)
    rows = [
        a_row(0, rng, kept=False, dropped_by="correctness", gaze_index=None),
        a_row(1, rng, options=["a", "b"], pair="p", boxes=[1, 2, 3, 4, 5, 6, 7, 8], box_images=[0, 1],
              images=["x.png", "/abs/y.png"], heights=[4, 5], widths=[6, 7], grid_rows=None, grid_cols=None),
        a_row(2, rng, gaze_index=None, gaze_weight=None, gaze_boxes=None, gaze_images=None),
    ]  # fmt: skip
    traces = Traces.open(write(tmp_path, rows, [None, np.arange(6, dtype=np.float16), None]))
    assert len(traces) == 2
    assert traces.path == tmp_path
    assert traces.width == WIDTH
    first, second = traces[0], traces[-1]
    assert first.sample.boxes == ((1, 2, 3, 4), (5, 6, 7, 8))
    assert first.sample.box_images == (0, 1)
    assert first.sample.images == (tmp_path / "x.png", Path("/abs/y.png"))
    assert (first.sample.id, first.sample.options, first.sample.pair) == ("flickr30k-1", ("a", "b"), "p")
    assert (first.answer, first.sample.answer) == (rows[1]["answer"], rows[1]["reference"])
    assert first.sizes == [(4, 6), (5, 7)]
    assert first.grid is None
    assert first.v_sem.dtype == np.float16
    assert first.v_sem.tolist() == [0, 1, 2, 3, 4, 5]
    assert first.gaze.index.tolist() == rows[1]["gaze_index"]
    assert first.gaze.weights.sum() == pytest.approx(1, abs=1e-12)
    assert first.gaze.weights == pytest.approx(rows[1]["gaze_weight"], rel=1e-2)  # renormalised after rounding
    assert resample(first.gaze, TokenGeometry.concatenate([TokenGeometry.grid(3, 3)])).sum() <= 1 + 1e-12
    assert (second.gaze, second.v_sem, second.grid) == (None, None, (30, 40))
    assert len(pickle.loads(pickle.dumps(traces))) == 2  # a data loader's workers get it so
    with pytest.raises(IndexError):
        traces[2]


def refused(folder: Path) -> str:
    with pytest.raises((DamagedError, UsageError)) as caught:
        Traces.open(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_trained_on_is_refused_with_a_remedy(tmp_path):
    rng = np.random.default_rng(0)
    good = ([a_row(0, rng)], [np.ones(4, np.float16)])
    assert "no such folder" in refused(tmp_path / "gone")
    assert "no trace directory" in refused(tmp_path)
    assert "schema 99" in refused(write(tmp_path / "new", *good, schema_version=99))
    folder = write(tmp_path / "unfinished", *good)
    (folder / "trace.json").write_text(json.dumps({"schema_version": TRACE.version}))
    assert "unfinished" in refused(folder)
    folder = write(tmp_path / "half", *good)
    (folder / "traces.parquet").write_bytes((folder / "traces.parquet").read_bytes()[:300])
    assert "damaged" in refused(folder)
    folder = write(tmp_path / "other", *good)
    pq.write_table(pq.read_table(folder / "traces.parquet").drop_columns(["v_sem"]), folder / "traces.parquet")
    assert "damaged" in refused(folder)
    folder = write(tmp_path / "json", *good)
    (folder / "trace.json").write_text("{broken")
    assert "damaged" in refused(folder)
    dropped = [a_row(0, rng, kept=False, dropped_by="difficulty")]
    assert "none of 1 samples was kept" in refused(write(tmp_path / "none", dropped, [None]))


# What `decide` says of a row that each filter drops: correct, blind_correct, aligned.
DECIDED = {
    "failed": (None, None, None), "correctness": (False, None, None), "difficulty": (True, True, None),
    "alignment": (True, False, False), "kept": (True, False, True), "unchecked": (True, False, None),
}  # fmt: skip


def decided(task: str, **drops: int) -> list[dict]:
    """Rows of a task; `unchecked`: kept without boxes."""
    kept = ("kept", "unchecked")
    return [
        {"task": task, "dropped_by": None if by in kept else by, "kept": by in kept, "gaze_index": [1],
         "answer": "The cat." if by == "kept" else "dog", "boxes": [] if by == "unchecked" else [1.0],
         **dict(zip(("correct", "blind_correct", "aligned"), DECIDED[by], strict=True))}
        for by, n in drops.items() for _ in range(n)
    ]  # fmt: skip


def test_the_funnel_adds_up_and_shows_answers_before_and_after():
    rows = decided("a", failed=1, correctness=2, difficulty=3, alignment=4, kept=5)
    found = funnel(rows + decided("b", kept=2), FILTERS)
    assert list(found["tasks"]) == ["a", "b"]
    counts = found["tasks"]["a"]
    stages = ("samples", "failed", "correct", "difficult", "aligned", "kept")
    assert [counts[k] for k in stages] == [15, 1, 12, 9, 5, 5]
    assert counts["answers_before"] == [["dog", 9], ["cat", 5]]
    assert counts["answers_after"] == [["cat", 5]]
    for stage in stages:
        assert found["all"][stage] == sum(task[stage] for task in found["tasks"].values())
    text = funnel_table(found)
    assert "cat 5" in text
    assert "41.2%" in text  # 7 of 17


@pytest.mark.parametrize(
    ("filters", "passed"),
    [
        ((), ["off", "off", "off"]),
        (("correctness",), ["5", "off", "off"]),
        (("difficulty", "alignment"), ["off", "3", "2"]),
        (("correctness", "difficulty"), ["5", "3", "off"]),
    ],
)
def test_a_filter_that_is_off_passed_nobody(filters, passed):
    measured = [  # two wrong, two right blind too, one looking elsewhere, two looking at the boxes, one failed
        *[{"correct": False, "blind_correct": True, "focus": 0.1}] * 2,
        *[{"correct": True, "blind_correct": True, "focus": 0.1}] * 2,
        {"correct": True, "blind_correct": False, "focus": 0.1},
        *[{"correct": True, "blind_correct": False, "focus": 0.9}] * 2,
        {"status": "failed", "correct": None, "blind_correct": None, "focus": None},
    ]
    common = {"status": "ok", "task": "a", "answer": "x", "gaze_index": [1], "boxes": [1.0], "blind_answers": ["x"]}
    rows = [common | row | decide(common | row, filters, 0.2, "drop") for row in measured]
    line = funnel_table(funnel(rows, filters)).splitlines()[2].split()
    assert line == ["all", "8", "1", *passed, str(sum(row["kept"] for row in rows)), line[-1]]


def test_samples_without_boxes_are_kept_unchecked_and_not_aligned():
    counts = funnel(decided("a", kept=2, unchecked=3), FILTERS)["all"]
    assert (counts["aligned"], counts["kept"], counts["kept_without_boxes"]) == (2, 5, 3)
