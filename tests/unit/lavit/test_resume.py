"""What a training goes on from, and what --fresh and a stale file are to a training folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lavit import manifest
from lavit.checks import check_folder, key_of, start_anew
from lavit.options import TrainOptions
from lavit.resume import checkpoints, finished, log_row, logged, newest_whole, settle
from lavit.settings import TrainSettings
from perception_gap.errors import DamagedError, UsageError
from perception_gap.storage.files import write_json
from perception_gap.storage.folders import LOCK

MADE: dict[str, Any] = {
    "preset": "paper", "scale": "tiny", "settings": {"steps": 6, "seed": 0}, "student": {"name": "tiny:student"},
    "traces": {"path": "traces", "n": 16},
}  # fmt: skip
KEY = key_of(MADE)
HISTORY = [{"step": 1, "loss": 2.5, "ntp": 1.0, "epoch": 0.1}, {"step": 2, "loss": float("nan"), "ntp": 1.0},
           {"step": 2, "train_loss": 1.0}]  # fmt: skip


def checkpoint(out: Path, step: int, key: str = KEY) -> Path:
    folder = out / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
        (folder / name).write_bytes(name.encode() * 50)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": HISTORY}))
    manifest.write(folder, key)
    return folder


def model(out: Path, key: str = KEY) -> Path:
    (out / "model").mkdir(parents=True)
    (out / "model" / "lavit.json").write_text("{}")
    manifest.write(out / "model", key)
    return out / "model"


def options(out: Path, **changes) -> TrainOptions:
    plain = TrainOptions("tiny:student", Path("traces"), out, "paper", TrainSettings())
    return replace(plain, **changes)


def refused(function, *arguments) -> str:
    with pytest.raises((DamagedError, UsageError)) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_newest_whole_checkpoint_is_taken_and_damaged_ones_are_named(tmp_path):
    said: list[str] = []
    assert newest_whole(tmp_path, KEY, said.append) is None
    first, second, third = (checkpoint(tmp_path, step) for step in (2, 4, 10))
    assert newest_whole(tmp_path, KEY, said.append) == third
    assert said == []
    (third / "optimizer.pt").unlink()
    (second / "scheduler.pt").write_bytes(b"cut")
    assert newest_whole(tmp_path, KEY, said.append) == first
    assert len(said) == 1
    assert "checkpoint-10 is not whole (optimizer.pt is missing)" in said[0]
    assert "checkpoint-4 is not whole (scheduler.pt has 3 bytes" in said[0]
    assert "goes on from checkpoint-2" in said[0]
    (first / manifest.MANIFEST).unlink()
    words = refused(newest_whole, tmp_path, KEY, said.append)
    assert "checkpoint-2 is not whole (manifest.json is missing)" in words
    assert "--fresh" in words


def test_a_checkpoint_of_another_training_is_not_gone_on_from(tmp_path):
    checkpoint(tmp_path, 4, key_of(MADE | {"settings": {"steps": 6, "seed": 1}}))
    assert "checkpoint-4 is not whole (it is of another training)" in refused(newest_whole, tmp_path, KEY, print)


def test_folders_that_only_look_like_checkpoints_do_not_count(tmp_path):
    for name in ("checkpoint-4", "checkpoint-best", "checkpoint-"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    assert checkpoints(tmp_path) == []


def test_a_finished_model_is_whole_or_refused(tmp_path):
    assert not finished(tmp_path, KEY)
    folder = model(tmp_path)
    assert finished(tmp_path, KEY)
    assert "another training" in refused(finished, tmp_path, "other")
    (folder / "lavit.json").write_text("[]")
    assert "model: damaged (lavit.json has changed" in refused(finished, tmp_path, KEY)
    (folder / manifest.MANIFEST).unlink()
    assert "manifest.json is missing" in refused(finished, tmp_path, KEY)


def test_what_a_kill_left_whole_aside_takes_its_place_and_halves_go(tmp_path):
    checkpoint(tmp_path / "writing", 4)
    half = checkpoint(tmp_path / "writing", 6)
    (half / "optimizer.pt").write_bytes(b"half")
    model(tmp_path).rename(tmp_path / "model.writing")
    settle(tmp_path, KEY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-4", "model"]
    assert finished(tmp_path, KEY)
    (tmp_path / "model.writing").mkdir()
    for name in ("config.json", "model.safetensors", "thesis.tex"):
        (tmp_path / "model.writing" / name).write_text("half")
    settle(tmp_path, KEY)
    assert [p.name for p in (tmp_path / "model.writing").iterdir()] == ["thesis.tex"]


def test_the_log_is_that_of_the_checkpoint(tmp_path):
    assert logged(None) == ""
    lines = logged(checkpoint(tmp_path, 2)).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 2.5, "ntp": 1.0}, {"step": 2, "loss": None, "ntp": 1.0}
    ]  # fmt: skip
    assert lines[0] + "\n" == log_row(1, {"ntp": 1.0, "loss": 2.5})


# --- the folder of a training ----------------------------------------------------------------------------------------


def test_stale_files_of_a_killed_training_do_not_lock_its_folder(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in ("train.json.999999.tmp", "log.jsonl.abc123.tmp"):
        (out / name).write_text("{half")
    check_folder(options(out), MADE)
    assert list(out.iterdir()) == []
    (out / "mine.999999.tmp").write_text("")
    assert "mine.999999.tmp" in refused(check_folder, options(out), MADE)
    assert (out / "mine.999999.tmp").exists()


def test_a_training_without_its_record_is_known_by_its_checkpoints(tmp_path):
    checkpoint(tmp_path / "run", 4)
    (tmp_path / "run" / "log.jsonl").write_text("")
    check_folder(options(tmp_path / "run"), MADE)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "log.jsonl").write_text("somebody's")
    assert "log.jsonl" in refused(check_folder, options(alone), MADE)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{half", "train.json: damaged (not valid JSON"),
        ("[]", "train.json: damaged"),
        ('{"preset": "paper"}', "student is missing"),
        ('{"preset": "paper", "student": {}, "traces": {}, "settings": 3}', "settings is 3"),
    ],
)
def test_a_damaged_record_is_said_and_fresh_makes_it_anew(tmp_path, content, says):
    (tmp_path / "train.json").write_text(content)
    assert says in refused(check_folder, options(tmp_path), MADE)
    check_folder(options(tmp_path, fresh=True), MADE)


def test_another_training_is_named_by_what_differs(tmp_path):
    write_json(tmp_path / "train.json", MADE)
    check_folder(options(tmp_path), MADE)
    other = MADE | {"settings": MADE["settings"] | {"steps": 7}}
    assert "setting steps 6, not 7" in refused(check_folder, options(tmp_path), other)
    assert "preset 'paper', not 'ours'" in refused(check_folder, options(tmp_path), MADE | {"preset": "ours"})


@pytest.mark.parametrize("name", ["model", "checkpoint-4", "train.json", "log.jsonl", "writing"])
def test_links_and_things_of_another_kind_in_its_places_are_refused(tmp_path, name):
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    checkpoint(elsewhere, 4)
    out.mkdir()
    write_json(out / "train.json", MADE)
    (out / name).unlink(missing_ok=True)
    (out / name).symlink_to(elsewhere / "checkpoint-4")
    for fresh in (False, True):
        assert f"{name} is a link" in refused(check_folder, options(out, fresh=fresh), MADE)
    assert len(list((elsewhere / "checkpoint-4").iterdir())) == 5


def test_a_model_of_somebody_else_is_neither_deleted_nor_overwritten(tmp_path):
    write_json(tmp_path / "train.json", MADE)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for fresh in (False, True):
        assert "model/ is none of a training" in refused(check_folder, options(tmp_path, fresh=fresh), MADE)


def test_fresh_deletes_what_a_training_wrote_and_names_what_it_keeps(tmp_path):
    write_json(tmp_path / "train.json", MADE)
    (tmp_path / "log.jsonl").write_text("")
    checkpoint(tmp_path, 4), checkpoint(tmp_path / "writing", 6), model(tmp_path)
    mine = ["checkpoint-4/notes.txt", "eval/run.json", "model/eval/run.json", "thesis.tex", "data/model.safetensors"]
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    check_folder(options(tmp_path, fresh=True), MADE)
    (tmp_path / LOCK).write_text("held")
    kept = start_anew(tmp_path)
    (tmp_path / LOCK).unlink()
    assert kept == ["checkpoint-4/notes.txt", "data", "eval", "model/eval/run.json", "thesis.tex"]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(mine)


def test_fresh_does_not_delete_the_student_that_it_starts_from(tmp_path):
    student = model(tmp_path)
    write_json(tmp_path / "train.json", MADE)
    asked = options(tmp_path, fresh=True, student=str(student))
    assert "--fresh would delete the student" in refused(check_folder, asked, MADE)
