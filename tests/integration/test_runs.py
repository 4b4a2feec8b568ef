"""What happens to a run from outside: pictures and files that change, a second command, signals, a full disk."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from perception_gap.data.scenes_files import write_scenes
from perception_gap.measure import analyze as analysis
from perception_gap.runs.parts import read_keys
from perception_gap.runs.run import Run
from tests.command import gapcheck

ENTRY = [sys.executable, "-c", "from perception_gap.cli import main; main()"]
N = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data"), ["attribute"], N)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    analyze(data, out)
    return out


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def analyze(data: Path, out: Path, *options, status: int = 0, model="tiny:student") -> str:
    found, said = gapcheck(
        "analyze", model, "--data", data, "--out", out, "--batch-size", 1, "--no-figures", "--max-new-tokens", 4,
        *options,
    )  # fmt: skip
    assert found == status, said
    return said


def flip(path: Path, at: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def replacing(measure, pictures: list[Path]):
    """`measure`, before whose first call every picture becomes another one."""

    def late(*arguments):
        for i, path in enumerate(pictures):
            noise = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(noise).resize((256, 256)).save(path)
        return measure(*arguments)

    return late


# --- pictures


def test_a_picture_that_is_replaced_during_a_run_is_hashed_as_it_was_seen(data, whole, tmp_path, monkeypatch):
    copy = shutil.copytree(data.parent, tmp_path / "data") / data.name
    pictures = sorted((copy.parent / "images").iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(analysis, "measure_batch", replacing(analysis.measure_batch, pictures))
        analyze(copy, tmp_path / "run")
    run, before = Run.open(tmp_path / "run"), Run.open(whole)
    for path in pictures:
        assert run.row(path.stem)["image_hash"] == sha256(path) != before.row(path.stem)["image_hash"]
    keys = read_keys(run.path / "parts")
    said = analyze(copy, tmp_path / "run")  # nothing is left to do: the keys are those of the new pictures
    assert f"{N} of {N} samples are there already" in said
    assert read_keys(run.path / "parts") == keys
    analyze(copy, tmp_path / "again")
    again = Run.open(tmp_path / "again")
    for path in pictures:
        np.testing.assert_array_equal(run.map(path.stem), again.map(path.stem))


def test_a_picture_that_is_replaced_during_a_trace_is_hashed_as_it_was_seen(data, tmp_path, monkeypatch):
    copy = shutil.copytree(data.parent, tmp_path / "data") / data.name
    pictures = sorted((copy.parent / "images").iterdir())
    extraction = import_module("lavit.traces.extract")
    monkeypatch.setattr(extraction, "measure_batch", replacing(extraction.measure_batch, pictures))
    gapcheck("trace", "tiny:teacher", "--data", copy, "--out", tmp_path / "t", "--no-correctness", "--batch-size", 2)
    rows = pd.read_parquet(tmp_path / "t" / "traces.parquet").set_index("sample_id")
    assert {path.stem: sha256(path) for path in pictures} == rows["image_hash"].to_dict()


def test_a_picture_that_appears_late_is_measured_and_one_that_vanishes_fails(data, tmp_path, monkeypatch):
    copy = shutil.copytree(data.parent, tmp_path / "data") / data.name
    first, second, *_ = sorted((copy.parent / "images").iterdir())
    hidden = first.rename(tmp_path / first.name)
    measure = analysis.measure_batch

    def late(*arguments):
        if hidden.exists():
            hidden.rename(first)
            second.unlink()
        return measure(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(analysis, "measure_batch", late)
        analyze(copy, tmp_path / "run")
    status = Run.open(tmp_path / "run").samples.set_index("sample_id")["status"]
    assert (status[first.stem], status[second.stem]) == ("ok", "failed")


# --- damaged files


def test_a_damaged_part_is_said_and_measured_again(data, run, whole):
    flip(next((run / "parts").glob("*.safetensors")))
    flip(next((run / "parts").glob("*.parquet")))
    said = analyze(data, run)
    assert "damaged (checksum), or of an older gapcheck: their samples are measured again" in said
    assert f"{N} of {N} samples are there already" not in said
    pd.testing.assert_frame_equal(
        Run.open(run).samples.drop(columns=["seconds", "images"]),
        Run.open(whole).samples.drop(columns=["seconds", "images"]),
    )


@pytest.mark.parametrize(
    "name", ["run.json", "summary.json", "samples.parquet", "words.parquet", "maps.safetensors", "hidden.safetensors"]
)
def test_a_damaged_merged_file_is_one_line_and_the_same_command_makes_it_anew(data, run, tmp_path, name):
    flip(run / name)
    for command in (["tables", run], ["report", run, "--out", tmp_path / "r.html"], ["figures", run]):
        status, said = gapcheck(*command)
        assert (status, said.count("\n")) == (2, 1)
        assert f"{name}: damaged" in said
        assert "the command that made it writes it anew" in said
    analyze(data, run)
    status, said = gapcheck("tables", run)
    assert status == 0, said


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"keys": 3}', b"\xff", b'{"keys": ["a"], "checksum": NaN}'])
@pytest.mark.parametrize("name", ["run.json", "summary.json", "samples.parquet", "parts/keys.json"])
def test_fresh_makes_anew_what_is_damaged(data, run, name, content):
    (run / name).write_bytes(content)
    analyze(data, run, "--fresh", "--limit", 1)
    assert len(Run.open(run).samples) == 1


def test_fresh_and_repeating_keep_what_is_not_theirs(data, run):
    (run / "figures").mkdir()
    foreign = [
        run / "notes.txt",
        run / "parts" / "notes.txt",
        run / "parts" / "mine.parquet",
        run / "figures" / "m.png",
    ]
    for path in foreign:
        path.write_text("mine")
    stale = run / "figures" / "entropy.png"
    stale.write_text("of an older run")
    analyze(data, run, "--fresh", "--limit", 1)
    analyze(data, run, "--limit", 1)
    assert all(path.read_text() == "mine" for path in foreign)
    assert not stale.exists()
    assert len([*(run / "parts").glob("*.safetensors")]) == 1


def test_a_damaged_comparison_is_made_anew(tmp_path):
    command = ["compare", "tiny:teacher", "tiny:student", "--data", "scenes:attribute", "--limit", 2, "--no-page",
               "--max-new-tokens", 4, "--out", tmp_path / "c"]  # fmt: skip
    assert gapcheck(*command)[0] == 0
    for name in ("compare.json", "summary.json", "pairs.parquet", "words.parquet", "tiny-student/run.json"):
        flip(tmp_path / "c" / name)
        status, said = gapcheck("tables", tmp_path / "c")
        assert (status, said.count("\n")) == (2, 1), said
        assert f"{name}: damaged" in said
        assert gapcheck(*command)[0] == 0
        assert gapcheck("tables", tmp_path / "c")[0] == 0


def test_a_damaged_benchmark_is_said_and_made_anew(tmp_path):
    command = ["bench", "tiny:student", "--suite", "scenes_iq", "--limit", 2, "--gaze", "--out", tmp_path / "b"]
    assert gapcheck(*command)[0] == 0
    notes = tmp_path / "b" / "tiny-student" / "notes.txt"
    notes.write_text("mine")
    for name in ("summary.json", "comparisons.csv", "tiny-student/run.json", "tiny-student/summary.json",
                 "tiny-student/samples.parquet", "bench.json"):  # fmt: skip
        path = tmp_path / "b" / name
        path.write_bytes(path.read_bytes()[:-9] + b"damaged" if name != "comparisons.csv" else b"\nmodel,n\n")
        status, said = gapcheck("tables", tmp_path / "b")
        assert (status, said.count("\n")) == (2, 1), said
        assert f"{name}: damaged" in said
        again = ["--fresh"] if name == "bench.json" else []
        assert gapcheck(*command, *again)[0] == 0
    (tmp_path / "b" / "bench.json").write_text("{")
    status, said = gapcheck(*command)
    assert status == 2
    assert "bench.json: damaged" in said
    assert "--fresh" in said
    assert notes.read_text() == "mine"


# --- a second command, signals


@pytest.fixture
def long_run(data, tmp_path):
    """A run that takes its time, after its first part."""
    out = tmp_path / "out"
    row = json.loads(data.read_text().splitlines()[0])
    rows = [row | {"id": str(i), "image": str(data.parent / row["image"])} for i in range(1000)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["analyze", "tiny:student", "--data", str(tmp_path / "d.jsonl"), "--batch-size", "1", "--no-figures",
               "--out", str(out)]  # fmt: skip
    log = tmp_path / "log"

    def obeys_signals() -> None:  # also where the tests run under nohup or in the background
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    with (
        log.open("w") as file,
        subprocess.Popen([*ENTRY, *command], stdout=file, stderr=file, preexec_fn=obeys_signals) as process,
    ):
        while not list(out.glob("parts/*.safetensors")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield process, out, log
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_second_command_is_told_who_is_there_and_a_signal_says_what_is_kept(long_run, data, number):
    process, out, log = long_run
    said = analyze(data, out, status=1)
    assert said.count("\n") == 1
    assert f"process {process.pid} on" in said
    process.send_signal(number)
    assert process.wait(120) == 128 + number
    last = log.read_text().splitlines()[-1]
    how = "interrupted" if number is signal.SIGINT else f"stopped by {number.name}"
    assert last == f"gapcheck: error: {how}; what {out} holds is kept, the same command goes on with it"
    assert "Traceback" not in log.read_text()
    kept = len(list((out / "parts").glob("*.safetensors")))
    status, said = gapcheck("report", out, "--out", out.parent / "r.html")
    assert status == 0, said
    assert f"{kept:,} of 1,000 samples are stored" in said


def test_a_launcher_that_ignores_hangups_is_obeyed(tmp_path, data):
    code = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); from perception_gap import cli\n" \
           "from perception_gap.cli import main, demo\nos.kill(os.getpid(), signal.SIGHUP); main()"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, "doctor", "--help"], capture_output=True, check=False)
    assert done.returncode == 0


# --- disks and paths


def test_a_full_disk_is_one_line_and_what_was_stored_stays(data, tmp_path):
    """No file may grow beyond a few kilobytes, as on a disk that is full."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [*ENTRY, "analyze", "tiny:student", "--data", str(data), "--out", str(tmp_path / "run"), "--no-figures"]
    done = subprocess.run(
        [*command, "--batch-size", "1"], preexec_fn=small, capture_output=True, text=True, check=False,
        env=os.environ | {"TQDM_DISABLE": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    analyze(data, tmp_path / "run")


@pytest.mark.parametrize("command", ["analyze tiny:student", "trace tiny:teacher", "bench tiny:student",
                                     "compare tiny:student tiny:teacher", "train tiny:student --traces t"])  # fmt: skip
def test_an_out_that_cannot_be_is_one_line(tmp_path, command):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "/".join(["deep" * 30] * 40)):
        status, said = gapcheck(*command.split(), "--out", out)
        assert status == 2, said
        assert said.count("\n") == 1, said
        assert len(said) < 700
    assert (tmp_path / "file").read_text() == "mine"


def test_json_of_a_run_that_says_something_else_is_named(run):
    for content in (
        "[]",
        "3",
        "NaN",
        '{"schema_version": 3}',
        '{"schema_version": "3"}',
        json.dumps({"a": "x" * 10**6}),
    ):
        (run / "run.json").write_text(content)
        status, said = gapcheck("tables", run)
        assert (status, said.count("\n")) == (2, 1)
        assert len(said) < 500
