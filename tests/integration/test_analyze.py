"""`gapcheck analyze` as a user runs it: real tiny checkpoints, real pictures, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from perception_gap.data.scenes import scenes
from perception_gap.runs.run import Run
from tests.command import gapcheck

ENTRY = [sys.executable, "-c", "from perception_gap.cli import main; main()"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten drawn scenes as JSONL, of four tasks."""
    folder = tmp_path_factory.mktemp("data")
    records = []
    for drawn in scenes(("attribute", "relative_depth", "pairs", "iq"), 10):
        Image.fromarray(drawn.image).resize((112, 84)).save(folder / f"{drawn.id}.png")
        record = drawn.record(f"{drawn.id}.png")
        record["boxes"] = [[x0 * 112 / 256, y0 * 84 / 256, x1 * 112 / 256, y1 * 84 / 256]
                           for x0, y0, x1, y1 in record["boxes"]]  # fmt: skip
        records.append(record)
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder / "data.jsonl"


@pytest.fixture(scope="module")
def model(tiny_checkpoint) -> Path:
    return tiny_checkpoint("qwen2_5_vl")


QUICK = ("--max-new-tokens", 4, "--no-figures", "--text", "reference")


def edited(data: Path, folder: Path, change) -> Path:
    """A copy of the data whose records went through `change(index, record)`."""
    shutil.copytree(data.parent, folder, dirs_exist_ok=True)
    records = [json.loads(line) for line in data.read_text().splitlines()]
    for i, record in enumerate(records):
        change(i, record)
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder / "data.jsonl"


@pytest.fixture(scope="module")
def whole(model, data, tmp_path_factory) -> Run:
    """One uninterrupted run of a model against itself."""
    out = tmp_path_factory.mktemp("whole") / "run"
    status, said = gapcheck("analyze", model, "--teacher", model, "--data", data, "--out", out, *QUICK,
                            "--batch-size", 3)  # fmt: skip
    assert status == 0, said
    return Run.open(out)


def test_a_model_does_not_diverge_from_itself_and_differs_from_the_floor(whole):
    assert whole.summary["n_samples"] == 10
    assert whole.summary["n_failed"] == 0
    assert whole.info["raster"] == "native"
    words = whole.words[whole.words["text"] == "shared"]
    assert len(words) > 30
    # KL mixes 1e-6 uniform into q, hence not exactly 0; the maps are equal to the bit.
    assert words["kl"].abs().max() < 1e-5
    assert words["top_k_overlap"].min() == 1.0
    assert words["cosine_distance"].abs().max() < 1e-3  # float16 states
    assert (words["kl_floor"] > words["kl"]).mean() > 0.95
    for key in ("all", "functional", "object", "attribute", "floor"):
        assert whole.summary["kl"][key]["n"] > 0
        assert set(whole.summary["kl"][key]) >= {"mean", "ci", "n"}


def test_every_metric_of_a_row_is_recomputed_from_the_stored_map(whole):
    from perception_gap import metrics

    for _, row in whole.samples.iterrows():
        attention, geometry = whole.map(row["sample_id"]), whole.geometry(row["sample_id"])
        assert len(attention) == row["n_image_tokens"] == len(geometry)
        assert attention.sum() == pytest.approx(1, abs=1e-5)
        boxes = np.asarray(list(row["boxes"])).reshape(-1, 4) / [112, 84, 112, 84]
        assert row["focus_score"] == pytest.approx(metrics.focus_score(attention, geometry, boxes), abs=1e-5)
        assert row["entropy"] == pytest.approx(metrics.entropy(attention), abs=1e-5)
        assert all(path.exists() for path in whole.image_paths(row["sample_id"]))


def test_killed_at_any_moment_the_same_command_finishes_the_rest(whole, model, data, tmp_path):
    out = tmp_path / "run"
    command = [*ENTRY, "analyze", model, "--teacher", model, "--data", data, "--out", out, *QUICK, "--batch-size", 3]
    command = list(map(str, command))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = 0
    for wanted in (1, 6):  # four parts are the teacher's: once in its pass, once in the student's
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        while process.poll() is None and len(list(out.glob("**/parts/*.safetensors"))) < wanted:
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed == 2
    assert not (out / "summary.json").exists()
    before = {p: p.stat().st_mtime_ns for p in out.glob("**/parts/*.safetensors")}
    assert before
    status, said = gapcheck(*command[3:])
    assert status == 0, said
    assert all(p.stat().st_mtime_ns == time_ns for p, time_ns in before.items())
    run = Run.open(out)
    drop = ["seconds", "images"]
    pd.testing.assert_frame_equal(run.samples.drop(columns=drop), whole.samples.drop(columns=drop))
    pd.testing.assert_frame_equal(run.words, whole.words)
    of_files = {"files": {}, "checksum": ""}  # which have paths and seconds in them
    assert run.summary | of_files == whole.summary | of_files


def test_a_changed_setting_model_or_image_never_reuses_a_row(model, tiny_checkpoint, data, tmp_path):
    source = edited(data, tmp_path / "data", lambda i, r: None)

    def parts_after(*arguments) -> int:
        status, said = gapcheck("analyze", *arguments, "--data", source, "--out", tmp_path / "run", "--limit", 2,
                                *QUICK[:3])  # fmt: skip
        assert status == 0, said
        return len(list((tmp_path / "run" / "parts").glob("*.parquet")))

    assert parts_after(model) == 1
    assert parts_after(model) == 1  # nothing changed: nothing redone
    before = Run.open(tmp_path / "run").map("attribute-heldout-0-000000")
    assert parts_after(model, "--layers", "last1") == 2
    assert not np.allclose(before, Run.open(tmp_path / "run").map("attribute-heldout-0-000000"))
    assert parts_after(tiny_checkpoint("llava")) == 3
    picture = next(source.parent.glob("attribute*.png"))
    Image.open(picture).rotate(180).save(picture)
    assert parts_after(model) == 4


def test_bad_samples_are_rows_with_their_reason_and_stay_in_the_denominator(model, data, tmp_path):
    def spoil(i, record):
        if i == 0:
            record["image"] = "nowhere.png"
        if i == 1:
            (tmp_path / "data" / "text.png").write_text("no image")
            record["image"] = "text.png"
        if i == 2:
            whole_file = (tmp_path / "data" / record["image"]).read_bytes()
            (tmp_path / "data" / "half.png").write_bytes(whole_file[: len(whole_file) // 2])
            record["image"] = "half.png"
        if i == 3:
            record["boxes"] = [[0, 0, 500, 20]]
        if i == 4:
            record["boxes"] = [[10, 10, 10, 20]]

    source = edited(data, tmp_path / "data", spoil)
    status, said = gapcheck("analyze", model, "--data", source, "--out", tmp_path / "run", *QUICK)
    assert status == 0, said
    run = Run.open(tmp_path / "run")
    failed = run.samples[run.samples["status"] == "failed"]
    assert len(failed) == run.summary["n_failed"] == 5
    assert run.summary["accuracy"]["n"] == run.summary["n_samples"] == 10
    for name, reason in zip(("nowhere.png", "text.png", "half.png", "500", "[10"), failed["error"], strict=True):
        assert name in reason
        assert "\n" not in reason
    assert "5 of 10 samples failed" in said
    assert gapcheck("analyze", model, "--data", source, "--out", tmp_path / "run", *QUICK, "--strict")[0] == 1


def test_a_run_without_any_valid_sample_exits_with_one_and_draws_nothing(model, data, tmp_path):
    source = edited(data, tmp_path / "data", lambda i, r: r.update(image="nowhere.png"))
    status, said = gapcheck("analyze", model, "--data", source, "--out", tmp_path / "run", "--max-new-tokens", 2)
    assert status == 1
    assert "10 of 10 samples failed" in said
    assert Run.open(tmp_path / "run").summary["focus_score"]["mean"] is None


def test_a_teacher_of_another_family_is_compared_on_the_raster(model, tiny_checkpoint, data, tmp_path):
    status, said = gapcheck("analyze", model, "--teacher", tiny_checkpoint("llava"), "--data", data,
                            "--out", tmp_path / "run", "--raster", "6x5", *QUICK)  # fmt: skip
    assert status == 0, said
    run = Run.open(tmp_path / "run")
    assert run.info["raster"] == [6, 5]
    assert run.summary["kl"]["all"]["n"] > 30
    assert run.summary["kl"]["all"]["mean"] > 0
    assert run.summary["cosine_distance"]["all"]["n"] > 30


def test_a_stored_teacher_run_is_reused_and_must_hold_the_samples(whole, model, data, tmp_path):
    teacher = whole.path / "teacher"
    status, said = gapcheck("analyze", model, "--teacher", teacher, "--data", data, "--out", tmp_path / "run", *QUICK,
                            "--batch-size", 3)  # fmt: skip
    assert status == 0, said
    assert not (tmp_path / "run" / "teacher").exists()
    run = Run.open(tmp_path / "run")
    assert run.teacher().path == teacher.resolve()
    assert run.summary["kl"] == whole.summary["kl"]
    status, said = gapcheck("analyze", model, "--teacher", teacher, "--data", data, "--out", tmp_path / "own",
                            "--no-figures", "--rows", "question", "--text", "reference")  # fmt: skip
    assert status == 2
    assert "made with rows 'answer'" in said


def test_question_rows_need_no_answer(model, data, tmp_path):
    status, said = gapcheck("analyze", model, "--teacher", model, "--data", data, "--out", tmp_path / "run",
                            "--rows", "question", "--limit", 3, *QUICK)  # fmt: skip
    assert status == 0, said
    run = Run.open(tmp_path / "run")
    words = run.words[(run.words["sample_id"] == run.samples["sample_id"][0]) & (run.words["text"] == "shared")]
    assert " ".join(words["word"]).startswith("What color is the small")


def test_a_dry_run_prints_what_the_whole_would_take_and_stores_nothing(model, data, tmp_path):
    status, said = gapcheck("analyze", model, "--data", data, "--out", tmp_path / "run", "--dry-run", *QUICK[:2])
    assert status == 0, said
    for word in ("hours", "peak bytes", "  bytes ", "samples"):
        assert word in said
    assert not list((tmp_path / "run").glob("**/*.parquet"))


OUT_OF_MEMORY = """
import resource, sys
import perception_gap.measure.analyze, reports.summary
from perception_gap.cli import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 2**20,) * 2)
main()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit the memory of a process")
def test_a_sample_that_does_not_fit_in_memory_is_recorded_and_the_run_goes_on(model, data, tmp_path):
    source = edited(data, tmp_path / "data", lambda i, r: r.update(boxes=[]))
    huge = json.loads(source.read_text().splitlines()[1])["image"]
    Image.new("RGB", (7000, 7000), "white").save(source.parent / huge)
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, "analyze", str(model), "--data", str(source), "--out",
         str(tmp_path / "run"), "--max-new-tokens", "2", "--no-figures", "--max-pixels", "60000000",
         "--batch-size", "2"],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    run = Run.open(tmp_path / "run")
    assert run.samples["status"].tolist() == ["ok", "failed", *["ok"] * 8]
    assert "out of memory" in run.samples["error"][1]


def refuse(*arguments) -> str:
    status, said = gapcheck("analyze", *arguments)
    assert status == 2, said
    assert "Traceback" not in said
    return said


def test_wrong_input_is_one_line_and_status_two(model, data, tmp_path):
    out = ("--out", tmp_path / "run")
    assert "gone.jsonl" in refuse(model, "--data", tmp_path / "gone.jsonl", *out)
    for line, name in (("{broken", "broken"), ("", "empty"), ('{"id": "x"}', "fields")):
        bad = tmp_path / f"{name}.jsonl"
        bad.write_text(data.read_text().splitlines()[0] + "\n" + line + "\n" + data.read_text().splitlines()[1])
        assert f"{name}.jsonl:2" in refuse(model, "--data", bad, *out)
    (tmp_path / "zero.jsonl").write_text("")
    assert "zero.jsonl" in refuse(model, "--data", tmp_path / "zero.jsonl", *out)
    assert "no-such-model" in refuse("no-such-model", "--data", data, *out)
    assert "tiny:nobody" in refuse("tiny:nobody", "--data", data, *out)
    assert "layers" in refuse(model, "--data", data, *out, "--layers", "last99")
    assert "raster" in refuse(model, "--data", data, *out, "--raster", "big")
    assert "latent" in refuse(model, "--data", data, *out, "--rows", "latent")
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "is a file; expected a folder" in refuse(model, "--data", data, "--out", blocked)


def test_models_that_cannot_be_read_are_named(model, data, tmp_path):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    out = ("--data", data, "--out", tmp_path / "run")
    text_only = Qwen2Config(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                            num_attention_heads=2, num_key_value_heads=1)  # fmt: skip
    Qwen2ForCausalLM(text_only).save_pretrained(tmp_path / "text")
    assert "text-only" in refuse(tmp_path / "text", *out)
    shutil.copytree(model, tmp_path / "bare")
    for path in (tmp_path / "bare").glob("*processor*"):
        path.unlink()
    assert "processor" in refuse(tmp_path / "bare", *out)
    shutil.copytree(model, tmp_path / "alien")
    config = json.loads((tmp_path / "alien" / "config.json").read_text()) | {"model_type": "alien_vl"}
    (tmp_path / "alien" / "config.json").write_text(json.dumps(config))
    assert "alien_vl" in refuse(tmp_path / "alien", *out)


def test_the_embedded_pair_is_compared_on_the_teachers_answer(tmp_path):
    command = ("analyze", "tiny:student", "--data", "scenes:attribute,iq", "--no-figures", "--max-new-tokens", 16)
    status, said = gapcheck(*command, "--teacher", "tiny:teacher", "--limit", 24, "--out", tmp_path / "run")
    assert status == 0, said
    run = Run.open(tmp_path / "run")
    teacher = run.teacher()
    assert teacher is not None
    assert teacher.info["settings"]["text"] == "own"
    assert teacher.summary["accuracy"]["mean"] > 0.6  # chance is 0.14
    for sample_id, row in run.samples.set_index("sample_id").iterrows():
        assert row["shared_text"] == teacher.row(sample_id)["answer"]
        # One text, two models: as many words, and maps of their own.
        mine, theirs = run.map(sample_id, "shared_words"), teacher.map(sample_id, "own_words")
        assert mine.shape == theirs.shape
        assert not np.allclose(mine, theirs, atol=1e-3)
    summary = run.summary
    assert summary["kl"]["all"]["n"] == len(run.words[run.words["text"] == "shared"])
    assert {"functional", "object", "attribute"} <= set(run.words["category"])
    assert summary["kl"]["floor"]["n"] == summary["kl"]["all"]["n"]

    # A larger limit adds rows and keeps the old ones; the stored teacher serves a second student.
    parts = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "parts").glob("*.parquet")}
    assert (
        gapcheck(*command, "--teacher", tmp_path / "run" / "teacher", "--limit", 16, "--out", tmp_path / "run")[0] == 0
    )
    assert parts == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "parts").glob("*.parquet")}
    assert len(Run.open(tmp_path / "run").samples) == 16
    said = refuse("tiny:student", "--data", "scenes:attribute", "--teacher", tmp_path / "run" / "teacher",
                  "--out", tmp_path / "other", "--text", "reference")  # fmt: skip
    assert "text" in said
    assert "is the teacher's own run" in refuse(*command[1:], "--teacher", tmp_path / "run" / "teacher",
                                                "--out", tmp_path / "run" / "teacher")  # fmt: skip


def test_boxes_lie_on_the_image_they_name(model, data, tmp_path):
    records = [json.loads(line) for line in data.read_text().splitlines()][:3]
    two = [r | {"images": [r["image"], records[0]["image"]], "boxes": [[*r["boxes"][0], 1]]} for r in records]
    source = data.parent / "two.jsonl"
    source.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "image"}) + "\n" for r in two))
    status, said = gapcheck("analyze", model, "--data", source, "--out", tmp_path / "run", *QUICK)
    assert status == 0, said
    run = Run.open(tmp_path / "run")
    for sample_id, row in run.samples.set_index("sample_id").iterrows():
        geometry, attention = run.geometry(sample_id), run.map(sample_id)
        assert geometry.n_images == 2
        box = np.asarray(list(row["boxes"])) / [112, 84, 112, 84]
        inside = geometry.overlap(box, [1])
        assert not inside[geometry.image == 0].any()
        assert row["focus_score"] == pytest.approx(float((attention * inside).sum() / attention.sum()), abs=1e-6)


def test_what_can_be_known_before_the_work_is_said_before_it(model, data, tmp_path):
    out = ("--data", data, "--out", tmp_path / "run")
    assert "--seed" in refuse(model, *out, "--seed", "-1")
    assert "1 to 256" in refuse(model, *out, "--raster", "100000x2")
    assert "vulkan" in refuse(model, *out, "--device", "vulkan")
    assert "no-such-model" in refuse("no-such-model", *out, "--teacher", model, *QUICK)
    assert not list((tmp_path / "run").glob("teacher/parts/*"))  # no pass of the teacher for a student that is none
    broken = tmp_path / "surrogate.jsonl"
    broken.write_text(json.dumps({"image": "a.png", "question": "\ud800?", "answer": "b"}))
    assert "surrogate.jsonl:1" in refuse(model, "--data", broken, "--out", tmp_path / "run")


def test_a_wrong_option_leaves_a_finished_run_as_it_was(model, data, tmp_path):
    command = ("analyze", model, "--data", data, "--out", tmp_path / "run", "--limit", 2, *QUICK)
    assert gapcheck(*command)[0] == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    assert gapcheck(*command, "--layers", "last99")[0] == 2
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_weights_that_give_nan_are_failed_samples(model, data, tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(model, tmp_path / "nan")
    weights = load_file(tmp_path / "nan" / "model.safetensors")
    name = next(n for n in weights if n.endswith("layers.0.self_attn.q_proj.weight"))
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, tmp_path / "nan" / "model.safetensors", metadata={"format": "pt"})
    status, said = gapcheck(
        "analyze", tmp_path / "nan", "--data", data, "--out", tmp_path / "run", "--limit", 3, *QUICK
    )
    assert status == 1
    assert "NaN" in said
    assert Run.open(tmp_path / "run").summary["n_failed"] == 3


def test_layers_and_heads_are_measured_beside_the_map(model, tiny_checkpoint, data, tmp_path):
    def measured(name, *options) -> Run:
        status, said = gapcheck("analyze", model, "--data", data, "--out", tmp_path / name, *QUICK, *options)
        assert status == 0, said
        return Run.open(tmp_path / name)

    plain, run = measured("plain", "--teacher", model), measured("run", "--teacher", model, "--per-layer")
    assert "per_layer" not in plain.summary
    assert run.info["layers"] == run.summary["per_layer"]["layers"] == [0, 1, 2]
    for sample_id, row in run.samples.set_index("sample_id").iterrows():
        np.testing.assert_array_equal(run.map(sample_id), plain.map(sample_id))  # measuring more changes nothing
        heads, layers = run.map(sample_id, "heads"), run.map(sample_id, "layers")
        assert heads.shape == (4, 3, 4)
        # Layers and heads are averaged raw, so their masses have the whole map's as their mean.
        assert heads[0].mean() == pytest.approx(row["text_image_mass"], rel=1e-4)
        assert layers[0].mean() == pytest.approx(row["text_image_mass"], rel=1e-4)
        assert (layers[2] > 0).all()  # no single layer looks exactly as all of them together
    found = run.summary["per_layer"]
    assert found["by_layer"]["kl"]["1"]["n"] == 10
    assert found["finding"] in gapcheck("analyze", model, "--data", data, "--out", tmp_path / "run", *QUICK,
                                        "--teacher", model, "--per-layer")[1]  # fmt: skip

    # Maps of two families meet on the raster, and another raster is another measurement.
    found = []
    for raster in ("6x5", "3x3"):
        other = measured("run", "--teacher", tiny_checkpoint("llava"), "--per-layer", "--raster", raster)
        assert other.summary["per_layer"]["by_layer"]["kl"]["0"]["n"] == 10
        found.append(other.map(other.samples["sample_id"][0], "layers")[2])
    assert not np.allclose(*found)
    single = measured("last", "--teacher", model, "--per-layer", "--layers", "last1")
    assert single.summary["per_layer"]["layers"] == [2]
    row = single.samples.iloc[0]
    assert single.map(row["sample_id"], "layers")[2, 0] == pytest.approx(row["kl"], abs=1e-5)
    assert single.map(row["sample_id"], "layers")[1, 0] == pytest.approx(row["focus_score"], rel=1e-4)


def test_new_measures_of_maps_are_columns_with_their_floors(whole):
    samples = whole.samples
    assert samples["emd"].max() < 1e-5  # a model against itself
    assert samples["cc"].min() > 1 - 1e-6
    assert samples["similarity"].min() > 1 - 1e-6
    assert (samples["emd_floor"] > samples["emd"]).all()
    assert (samples["similarity_floor"] < 1).all()
    # States of 32 dimensions can have no sink: undefined, not none.
    assert samples[["n_sinks", "sink_share", "kl_without_sinks"]].isna().all(axis=None)
    assert whole.sinks(samples["sample_id"][0]) is None
    assert "sinks" not in whole.summary
