import json
import os
import re
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from perception_gap.errors import DamagedError, UsageError
from perception_gap.measure.finish import so_far
from perception_gap.runs.parts import Parts
from perception_gap.runs.run import Run
from perception_gap.runs.schema.tables import bench_samples
from perception_gap.runs.schema.versions import BENCH
from perception_gap.storage.files import write_frame, write_json
from reports.sources import BenchRun, Matrix, Training, Unfinished, labels, open_source, open_sources, short_name
from tests.unit.reports import synthetic_run
from tests.unit.reports.tables.synthetic_bench import TRAINED, rows


@pytest.fixture
def student(tmp_path) -> Run:
    return synthetic_run.write_pair(tmp_path, n=10)[1]


TRAIN = TRAINED | {"preset": "paper", "settings": {"seed": 3, "steps": 9, "n_latents": 4}}
COSTS = {name: {"mean": 1.0, "ci": None, "n": 2} for name in ("image_tokens", "answer_tokens", "seconds")}
RESULT = "preset,seed,rows,task,metric,value,low,high,n\nstudent,0,answer,all,accuracy,0.5,0.4,0.6,480\n"


def write(path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)


def bench_folder(folder) -> None:
    write(folder / "bench.json", {"schema_version": BENCH.version, "models": {"a/b": "a-b", "c": "c"}, "tasks": {}})
    write(folder / "a-b" / "run.json", {"asked": {"latents": "mask"}, "model": {}})
    checksum = write_frame(folder / "a-b" / "samples.parquet", rows("t", [True, False]), bench_samples())
    write(folder / "a-b" / "summary.json", {"tasks": {}, "costs": COSTS, "files": {"samples.parquet": checksum}})
    (folder / "comparisons.csv").write_text("")


def test_every_kind_of_directory_is_told_by_what_lies_in_it(tmp_path, student):
    bench_folder(tmp_path / "bench")
    (tmp_path / "matrix").mkdir()
    (tmp_path / "matrix" / "results.csv").write_text(RESULT)
    write(tmp_path / "train" / "train.json", TRAIN)
    (tmp_path / "train" / "log.jsonl").write_text('{"step": 1, "ntp": 2.5}\n')
    assert isinstance(open_source(student.path), Run)
    bench = open_source(tmp_path / "bench")
    assert isinstance(bench, BenchRun)
    assert (bench.models[0].label, bench.missing, len(bench.comparisons)) == ("b (latents mask)", ("c",), 0)
    assert isinstance(open_source(tmp_path / "matrix"), Matrix)
    training = open_source(tmp_path / "train")
    assert isinstance(training, Training)
    assert (training.label, training.finished, training.log["ntp"].tolist()) == ("paper, seed 3", False, [2.5])


def unfinished(run: Run, keep: int) -> Unfinished:
    """The run as if it had been killed when `keep` of its samples were stored."""
    table = pd.read_parquet(next((run.path / "parts").glob("*.parquet")))
    write_json(run.path / "parts" / "keys.json", {"keys": [*table["key"][:keep], *("-" * 5)]})
    (run.path / "summary.json").unlink()
    found = open_source(run.path)
    assert isinstance(found, Unfinished)
    return found


def test_a_run_without_a_summary_is_unfinished_and_counts_what_it_has(student):
    found = unfinished(student, keep=4)
    assert (found.stored, found.total) == (4, 10)
    assert "unfinished, 4 of 10 samples" in found.words


def test_what_an_unfinished_run_has_is_what_the_whole_one_said_of_these_samples(student, tmp_path):
    whole = student.samples.set_index("sample_id")
    found = unfinished(student, keep=4)
    part = so_far(found.path, tmp_path / "work")
    assert list(part.samples["sample_id"]) == list(whole.index[:4])
    mine = part.samples.set_index("sample_id")[["kl", "focus_score", "entropy"]]
    pd.testing.assert_frame_equal(mine, whole.loc[mine.index, mine.columns])
    assert all(path.exists() for i in part.samples["sample_id"] for path in part.image_paths(i))
    assert not (found.path / "summary.json").exists()  # the analysis still has to write its own


@pytest.mark.parametrize("text", [None, "", "[1, {", '{"a": 1}', "\xff"])
def test_without_a_whole_list_of_keys_an_unfinished_run_has_what_is_stored(student, tmp_path, text):
    keys = student.path / "parts" / "keys.json"
    if text is not None:
        keys.write_text(text, encoding="latin-1")
    (student.path / "summary.json").unlink()
    found = open_source(student.path)
    assert isinstance(found, Unfinished)
    assert (found.stored, found.total) == (10, 10)
    assert list(so_far(found.path, tmp_path / "work").samples["sample_id"]) == list(student.samples["sample_id"])


def test_of_two_stored_rows_of_one_sample_the_later_one_counts(student, tmp_path):
    (path,) = (student.path / "parts").glob("*.parquet")
    rows = pq.read_table(path).to_pylist()[:4]
    for name, key, at in (("0", "older", 1), ("1", "newer", 2**40)):
        change = {"answer": key, "status": "failed"}
        Parts(student.path).write([row | change | {"key": f"{key}-{i}"} for i, row in enumerate(rows)], {}, name)
        os.utime(path.with_stem(name), (at, at))
    (student.path / "summary.json").unlink()
    found = so_far(student.path, tmp_path / "work")
    assert len(found.samples) == 10
    assert found.samples["answer"].eq("newer").sum() == 4
    assert not found.samples["answer"].eq("older").any()


def test_an_analysis_that_is_still_at_its_teacher_is_unfinished(student, tmp_path):
    folder = tmp_path / "out"
    for name in ("parts", "data", "teacher"):
        (folder / name).mkdir(parents=True)
    found = open_source(folder)
    assert isinstance(found, Unfinished)
    assert "unfinished, the teacher's pass comes first and has stored nothing yet in" in found.words
    (folder / "teacher").rmdir()
    shutil.copytree(student.path.parent / "teacher", folder / "teacher")
    (folder / "teacher" / "summary.json").unlink()
    found = open_source(folder)
    assert isinstance(found, Unfinished)
    assert (found.stored, found.total) == (0, 10)
    assert f"10 of its 10 samples are stored in {folder / 'teacher'}; `synthetic` goes on with it" in found.words
    shutil.copy(student.path.parent / "teacher" / "summary.json", folder / "teacher")  # whole, the student not begun
    assert "10 of its 10" in open_source(folder).words


@pytest.mark.parametrize("finished", [True, False])
def test_a_teacher_that_was_moved_is_said_with_its_place_and_what_helps(student, tmp_path, finished):
    if not finished:
        (student.path / "summary.json").unlink()
    (tmp_path / "teacher").rename(tmp_path / "elsewhere")
    where = re.escape(str(tmp_path / "teacher"))
    with pytest.raises(
        DamagedError, match=rf"student: the run of its teacher tiny:teacher is not in {where}.*move it back"
    ):
        open_source(student.path).teacher() if finished else so_far(student.path, tmp_path / "work")


def test_an_unfinished_run_with_nothing_stored_says_so(student, tmp_path):
    found = unfinished(student, keep=0)
    assert found.stored == 0
    with pytest.raises((DamagedError, UsageError), match="no sample is stored yet"):
        so_far(found.path, tmp_path / "work")


@pytest.mark.parametrize("finished", [True, False])
def test_another_schema_is_said_in_one_line(student, finished):
    info = json.loads((student.path / "run.json").read_text()) | {"schema_version": 0}
    (student.path / "run.json").write_text(json.dumps(info))
    if not finished:
        (student.path / "summary.json").unlink()
    with pytest.raises(
        (DamagedError, UsageError), match="in run schema 0, this gapcheck reads 4; run `gapcheck analyze`"
    ):
        open_source(student.path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds none of compare.json, bench.json, results.csv, train.json, run.json"),
        ({"run.json": "{"}, "damaged"),
        ({"run.json": '{"asked": {}}'}, "one model of a benchmark; give the folder above it"),
        ({"bench.json": '{"schema_version": 9, "models": {}}'}, "written in bench schema 9, .*upgrade"),
        ({"results.csv": "a,b\n1,2\n"}, "column preset is missing"),
        ({"train.json": json.dumps(TRAIN), "log.jsonl": '{broken\n{"step": 2}\n'}, "log.jsonl: damaged .line 1"),
    ],
)
def test_what_is_no_source_is_said(tmp_path, files, words):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises((DamagedError, UsageError), match=words):
        open_source(tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises((DamagedError, UsageError), match="nowhere: does not exist"):
        open_source(tmp_path / "nowhere")


def test_a_folder_given_twice_is_opened_once_in_its_first_place(student, monkeypatch):
    monkeypatch.chdir(student.path.parent)
    found = open_sources(["teacher", "student", student.path, "./teacher"])
    assert [run.path.name for run in found] == ["teacher", "student"]


def test_labels_are_short_and_stand_once(tmp_path, student):
    shutil.copytree(student.path, tmp_path / "again")
    assert labels([student]) == ["tiny:student"]
    assert labels([student, Run.open(tmp_path / "again")]) == ["tiny:student (student)", "tiny:student (again)"]


@pytest.mark.parametrize(
    ("model", "latents", "short"),
    [
        ("Qwen/Qwen2.5-VL-3B-Instruct", "force", "Qwen2.5-VL-3B-Instruct"),
        ("runs/lavit/model", "mask", "lavit (latents mask)"),
        ("./model/", "force", "./model/"),
        ("tiny:lavit", "force", "tiny:lavit"),
    ],
)
def test_short_names(model, latents, short):
    assert short_name(model, latents) == short
