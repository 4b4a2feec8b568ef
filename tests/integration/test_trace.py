"""`gapcheck trace` as a user runs it: real tiny checkpoints, real pictures, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from lavit.traces import Traces
from lavit.traces.filters import rotations
from perception_gap.data.scenes_files import write_scenes
from perception_gap.sample import Sample
from perception_gap.text.scoring import chosen_option, score
from tests.integration.test_analyze import ENTRY, gapcheck

TEACHER = ("tiny:teacher", "--max-new-tokens", 16)
QUICK = ("--max-new-tokens", 3, "--no-correctness", "--no-difficulty", "--no-alignment")


def trace(*arguments) -> tuple[int, str]:
    return gapcheck("trace", *arguments)


def rows_of(folder: Path) -> pd.DataFrame:
    """As Python's own values: null is None."""
    return pd.DataFrame(pq.read_table(folder / "traces.parquet").to_pylist(), dtype=object)


def info_of(folder: Path) -> dict:
    return json.loads((folder / "trace.json").read_text())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """24 scenes of three tasks, some with options, beside the trace directories of these tests."""
    folder = tmp_path_factory.mktemp("work") / "scenes"
    return write_scenes(folder, ("attribute", "relative_depth", "iq"), 24)


@pytest.fixture(scope="module")
def whole(scenes) -> Path:
    """All three filters, the embedded teacher, everything kept in full."""
    out = scenes.parent.parent / "whole"
    status, said = trace(*TEACHER, "--data", scenes, "--out", out, "--batch-size", 12, "--keep-full")
    assert status == 0, said
    assert "aligned" in said
    return out


@pytest.fixture(scope="module")
def model(tiny_checkpoint) -> Path:
    return tiny_checkpoint("qwen2_5_vl")


@pytest.fixture(scope="module")
def ten(scenes) -> Path:
    """The first ten scenes, small: for random teachers."""
    folder = scenes.parent.parent / "ten"
    folder.mkdir()
    records = [json.loads(line) for line in scenes.read_text().splitlines()[:10]]
    for record in records:
        picture = Image.open(scenes.parent / record["image"]).resize((112, 84))
        record |= {"image": f"{record['id']}.png", "boxes": [[10, 10, 60, 50]]}
        picture.save(folder / record["image"])
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder / "data.jsonl"


def edited(data: Path, folder: Path, change) -> Path:
    shutil.copytree(data.parent, folder)
    records = [json.loads(line) for line in data.read_text().splitlines()]
    for i, record in enumerate(records):
        change(i, record)
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder / "data.jsonl"


def test_every_sample_is_a_row_with_its_verdicts_and_the_funnel_adds_up(whole, scenes):
    rows, found = rows_of(whole), info_of(whole)
    assert rows["sample_id"].tolist() == [json.loads(line)["id"] for line in scenes.read_text().splitlines()]
    assert (rows["status"] == "ok").all()
    counts = found["funnel"]["all"]
    drops = Counter(rows["dropped_by"].fillna("kept"))
    assert counts["samples"] == len(rows) == 24
    assert counts["correct"] == 24 - drops["correctness"]
    assert counts["difficult"] == counts["correct"] - drops["difficulty"]
    assert counts["aligned"] == counts["difficult"] - drops["alignment"]
    assert counts["kept"] == counts["aligned"] == drops["kept"] == rows["kept"].sum()
    assert 6 < counts["kept"] < 24
    assert found["teacher"]["width"] == 128
    assert found["data"]["n"] == 24
    for _, row in rows.iterrows():
        assert row["correct"] == score(row["answer"], row["reference"], list(row["options"]))
        seen = row["dropped_by"] not in ("correctness",)
        assert (row["blind_correct"] is not None) == seen
        assert (row["focus"] is not None) == (row["dropped_by"] not in ("correctness", "difficulty"))
        assert row["kept"] == (row["dropped_by"] is None) == (row["gaze_index"] is not None)
        assert row["kept"] == (row["v_sem"] is not None) == (row["pooling"] == "mean")
        assert (whole / row["images"][0]).is_file()
        assert not Path(row["images"][0]).is_absolute()  # they lie beside the folder


def test_with_options_blind_means_every_rotation(whole):
    rows = rows_of(whole)
    partly = 0
    for _, row in rows[rows["correct"] == True].iterrows():  # noqa: E712 (None is neither)
        sample = Sample(row["sample_id"], (), row["question"], row["reference"], options=tuple(row["options"]))
        turned = rotations(sample)
        assert len(row["blind_answers"]) == len(turned) == max(1, len(sample.options))
        if not sample.options:
            assert row["blind_correct"] == score(row["blind_answers"][0], row["reference"])
            continue
        right = [chosen_option(a, o) == r for a, (o, r) in zip(row["blind_answers"], turned, strict=True)]
        assert row["blind_correct"] == all(right)
        partly += 0 < sum(right) < len(right)
    assert partly  # guessed right at least once, and not dropped for it


def test_gaze_and_v_sem_follow_from_the_whole_map_and_features(whole):
    rows, full = rows_of(whole), load_file(whole / "full.safetensors")
    kept = rows[rows["kept"]]
    assert {name.split("/")[0] for name in full} == set(kept["sample_id"])
    for _, row in kept.iterrows():
        attention, features = full[f"{row['sample_id']}/map"], full[f"{row['sample_id']}/features"]
        assert attention.shape == (64,)
        assert features.shape == (64, 128)
        assert attention.sum() == pytest.approx(row["text_image_mass"], abs=1e-5)
        scaled = (attention - attention.min()) / np.ptp(attention)
        order = np.argsort(-scaled, kind="stable")[:8]
        # Weights below half precision's smallest are left out.
        index = row["gaze_index"]
        assert index == order[: len(index)].tolist()
        # Half precision: 11 bits, or steps of 6e-8 near zero.
        assert np.asarray(row["gaze_weight"], float) == pytest.approx(
            (scaled[order] / scaled[order].sum())[: len(index)], rel=1e-3, abs=1e-7
        )
        assert np.asarray(row["v_sem"], float) == pytest.approx(features.astype(float).mean(0), abs=4e-3)
        box = row["gaze_boxes"][:4]
        assert box == pytest.approx(
            [index[0] % 8 / 8, index[0] // 8 / 8, index[0] % 8 / 8 + 1 / 8, index[0] // 8 / 8 + 1 / 8]
        )
        assert row["focus"] >= 0.2


def test_each_filter_can_be_switched_off(scenes, whole, tmp_path):
    def verdicts(*options) -> pd.DataFrame:
        out = tmp_path / "-".join(options)
        status, said = trace(*TEACHER, "--data", scenes, "--out", out, "--batch-size", 24, "--limit", 12, *options)
        assert status == 0, said
        return rows_of(out)

    before = rows_of(whole)[:12]
    off = verdicts("--no-correctness", "--no-difficulty")
    assert off["correct"].isna().all()
    assert off["blind_correct"].isna().all()
    assert off["focus"].notna().all()
    assert set(off["dropped_by"].dropna()) <= {"alignment"}
    blind = verdicts("--no-alignment")
    assert blind["focus"].isna().all()
    assert blind["correct"].tolist() == before["correct"].tolist()
    assert (blind["dropped_by"] == "difficulty").sum() == (before["dropped_by"] == "difficulty").sum() > 0
    strict = verdicts("--min-focus=0.99", "--no-difficulty")
    assert 0 < strict["kept"].sum() < off["kept"].sum()
    assert (strict["aligned"] == (strict["focus"] >= 0.99))[strict["focus"].notna()].all()


def test_another_model_without_eyes_runs_in_a_pass_of_its_own_and_its_verdicts_are_kept(scenes, tmp_path):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from scripts.embedded import build

    tokenizer = build.tokenizer(["the small star is red"], vocab_size=400)
    tokenizer.chat_template = build.CHAT_TEMPLATE
    tokenizer.save_pretrained(tmp_path / "text")
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "text")
    command = (*TEACHER, "--data", scenes, "--limit", 12, "--batch-size", 8, "--text-model")
    out = tmp_path / "language"
    status, said = trace(*command, tmp_path / "text", "--out", out)
    assert status == 0, said
    rows = rows_of(out)
    assert set(rows["dropped_by"].dropna()) <= {"correctness", "alignment"}  # random weights know nothing
    assert set(rows["blind_correct"][rows["correct"]]) == {False}
    assert (rows["blind_answers"].map(len) == rows["options"].map(len).clip(lower=1))[rows["correct"]].all()
    assert info_of(out)["text_model"]["name"] == str(tmp_path / "text")
    parts = {p: p.stat().st_mtime_ns for p in out.glob("**/parts/*.parquet")}
    table = (out / "traces.parquet").read_bytes()
    assert trace(*command, tmp_path / "text", "--out", out)[0] == 0
    assert parts == {p: p.stat().st_mtime_ns for p in out.glob("**/parts/*.parquet")}
    assert table == (out / "traces.parquet").read_bytes()
    # The teacher itself, in a pass of its own, drops what it drops in the same pass.
    assert trace(*command[:-1], "--out", tmp_path / "same")[0] == 0
    assert trace(*command, "tiny:teacher", "--out", tmp_path / "own")[0] == 0
    same, own = rows_of(tmp_path / "same"), rows_of(tmp_path / "own")
    assert "difficulty" in set(same["dropped_by"])
    pd.testing.assert_frame_equal(same.drop(columns="key"), own.drop(columns="key"))


def test_killed_at_any_moment_the_same_command_gives_the_same_file(ten, model, tmp_path):
    command = [model, "--data", ten, *QUICK, "--batch-size", 2, "--v-sem", "gaze"]
    out = ten.parent.parent / "killed"
    process = subprocess.Popen(
        [*ENTRY, "trace", *map(str, command), "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while process.poll() is None and not list(out.glob("parts/*.safetensors")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < len(list(out.glob("parts/*.safetensors"))) < 5
    assert not (out / "traces.parquet").exists()
    status, said = trace(*command, "--out", out)
    assert status == 0, said
    assert "samples are there already" in said
    whole = ten.parent.parent / "unbroken"
    assert trace(*command, "--out", whole)[0] == 0
    assert (out / "traces.parquet").read_bytes() == (whole / "traces.parquet").read_bytes()


def test_a_failing_sample_is_a_row_with_its_reason_and_the_rest_goes_on(ten, model, tmp_path):
    def spoil(i, record):
        if i == 1:
            record["image"] = "nowhere.png"
        if i == 2:
            record["boxes"] = [[0, 0, 5000, 20]]
        if i == 3:
            record["boxes"] = []

    source = edited(ten, tmp_path / "data", spoil)
    command = (model, "--data", source, *QUICK[:4], "--min-focus", 0, "--out", tmp_path / "out")
    status, said = trace(*command)
    assert status == 0, said
    rows = rows_of(tmp_path / "out")
    assert rows["status"].tolist() == ["ok", "failed", "failed", *["ok"] * 7]
    assert "nowhere.png" in rows["error"][1]
    assert "5000" in rows["error"][2]
    assert rows["dropped_by"].tolist() == [None, "failed", "failed", "alignment", *[None] * 6]
    assert "2 of 10 samples failed" in said
    assert len(Traces.open(tmp_path / "out")) == 7
    status, said = trace(*command, "--strict", "--without-boxes", "keep")
    assert status == 1
    assert "1 of the kept have no boxes" in said
    assert rows_of(tmp_path / "out")["kept"].sum() == 8


def test_weights_that_give_nan_or_leave_half_precision_fail_with_the_reason(ten, model, tmp_path):
    weights = load_file(model / "model.safetensors")

    def changed(name: str, ending: str, value: float) -> Path:
        shutil.copytree(model, tmp_path / name)
        key = next(k for k in weights if k == ending or k.endswith("." + ending))
        new = weights | {key: np.full_like(weights[key], value)}
        save_file(new, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
        return tmp_path / name

    for name, ending, value, reason in (
        ("nan", "layers.0.self_attn.q_proj.weight", np.nan, "NaN"),
        ("huge", "model.norm.weight", 1e6, "half precision holds (65504)"),
    ):
        broken = changed(name, ending, value)
        out = tmp_path / f"{name}-out"
        status, said = trace(broken, "--data", ten, "--limit", 3, "--out", out, *QUICK)
        assert status == 1
        assert "3 × " in said
        assert reason in rows_of(out)["error"][0]
        assert info_of(out)["funnel"]["all"]["failed"] == 3


def test_a_judge_decides_and_a_bad_one_stops_the_run_in_one_line(ten, model, tmp_path):
    (tmp_path / "judge.py").write_text(
        "import json, sys\nfor n, line in enumerate(sys.stdin):\n    print('yes' if n % 2 else 'no')\n"
    )
    command = (
        model,
        "--data",
        ten,
        "--max-new-tokens",
        3,
        "--no-difficulty",
        "--no-alignment",
        "--out",
        tmp_path / "o",
    )
    status, said = trace(*command, "--judge", f"{sys.executable} {tmp_path / 'judge.py'}", "--batch-size", 5)
    assert status == 0, said
    assert rows_of(tmp_path / "o")["correct"].tolist() == [False, True, False, True, False] * 2
    (tmp_path / "judge.py").write_text("print('perhaps')\n")
    said = refuse(*command, "--judge", f"{sys.executable} {tmp_path / 'judge.py'}")
    assert "printed 'perhaps'" in said
    assert "does not start" in refuse(*command, "--judge", "/no/such/judge")


def refuse(*arguments) -> str:
    status, said = trace(*arguments)
    assert status == 2, said
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith("gapcheck: error: ")
    return said


def test_wrong_input_is_one_line_and_status_two(ten, model, tmp_path):
    out = ("--data", ten, "--out", tmp_path / "out")
    assert "no-such-model" in refuse("no-such-model", *out)
    assert "no-such-text" in refuse(model, *out, "--text-model", "no-such-text")
    assert "gone.jsonl" in refuse(model, "--data", tmp_path / "gone.jsonl", "--out", tmp_path / "out")
    assert "layers" in refuse(model, *out, "--layers", "last99")
    assert "--min-focus" in refuse(model, *out, "--min-focus", 1.5)
    assert "--top-k" in refuse(model, *out, "--top-k", 0)
    assert "--v-sem" in refuse(model, *out, "--v-sem", "max")
    assert "--out" in refuse(model, "--data", ten)
    assert "vulkan" in refuse(model, *out, "--device", "vulkan")
    assert "holds other files" in refuse(model, "--data", ten, "--out", ten.parent)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "is a file; expected a folder" in refuse(model, "--data", ten, "--out", blocked)
    assert not (tmp_path / "out" / "trace.json").exists()


def test_a_dry_run_prints_what_the_whole_would_take_and_stores_nothing(ten, model, tmp_path):
    status, said = trace(model, "--data", ten, "--out", tmp_path / "out", *QUICK, "--dry-run", "--batch-size", 4)
    assert status == 0, said
    for word in ("kB a sample", "bytes in all", "peak bytes", "hours", "image tokens"):
        assert word in said
    assert not list((tmp_path / "out").glob("**/*.parquet"))
    assert not (tmp_path / "out" / "trace.json").exists()


def test_scenes_are_those_for_training_unless_asked_otherwise(tmp_path):
    command = ("tiny:teacher", "--data", "scenes:iq", "--limit", 2, *QUICK)
    assert trace(*command, "--out", tmp_path / "a")[0] == 0
    assert trace(*command, "--out", tmp_path / "b", "--split", "heldout")[0] == 0
    assert all("train" in i for i in rows_of(tmp_path / "a")["sample_id"])
    assert all("heldout" in i for i in rows_of(tmp_path / "b")["sample_id"])
    assert (tmp_path / "a" / "data" / "scenes-iq-train-0").is_dir()
    assert (tmp_path / "b" / "data" / "scenes-iq-heldout-0").is_dir()
    assert rows_of(tmp_path / "a")["images"][0][0].startswith("data/")


def test_nothing_kept_is_said_and_is_no_success(ten, model, tmp_path):
    status, said = trace(model, "--data", ten, "--out", tmp_path / "out", "--max-new-tokens", 2, "--limit", 2)
    assert status == 1, said
    with pytest.raises(Exception, match="none of 2 samples was kept"):
        Traces.open(tmp_path / "out")


def test_tiled_teachers_have_no_grid_and_rectangles_of_their_own(ten, tiny_checkpoint, tmp_path):
    status, said = trace(tiny_checkpoint("llava_next"), "--data", ten, "--limit", 3, "--out", tmp_path / "out", *QUICK)
    assert status == 0, said
    for i, traces in enumerate([Traces.open(tmp_path / "out")] * 3):
        assert traces[i].grid is None
        assert len(traces[i].gaze.index) == 8
        assert traces[i].gaze.boxes.shape == (8, 4)
