"""`gapcheck train`, `latents` and `ablate` as a user runs them: real tiny checkpoints, traces, command lines."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import lavit.checkpoint
from lavit.resume import checkpoints
from lavit.settings import PRESETS, settings_of
from lavit.trainer import is_write_error
from perception_gap.storage import checksums
from perception_gap.storage.files import write_json
from tests.command import gapcheck

ENTRY = [sys.executable, "-m", "perception_gap"]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}
SCALE = ("--scale", "tiny", "--set", "batch_size=4", "--set", "gate_warmup=3")


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Path:
    """Sixteen traces of the embedded teacher: two tasks, sentences and options."""
    out = tmp_path_factory.mktemp("traces") / "traces"
    status, said = gapcheck("trace", "tiny:teacher", "--data", "scenes:attribute,iq", "--limit", 16, "--out", out,
                            "--no-difficulty", "--batch-size", 16, "--max-new-tokens", 12)  # fmt: skip
    assert status == 0, said
    return out


def train(traces: Path, out: Path, *more, preset: str = "paper", steps: int = 4, student: str = "tiny:student"):
    status, said = gapcheck("train", student, "--traces", traces, "--out", out, "--preset", preset, *SCALE,
                            "--set", f"steps={steps}", *more)  # fmt: skip
    assert status == 0, said
    return out


def log(out: Path) -> pd.DataFrame:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return pd.DataFrame([r for r in rows if "loss" in r])


def weights(out: Path) -> dict[str, torch.Tensor]:
    found = load_file(out / "model" / "model.safetensors")
    heads = out / "model" / "lavit_heads.safetensors"
    return found | ({f"head.{k}": v for k, v in load_file(heads).items()} if heads.exists() else {})


def assert_same(mine: Path, theirs: Path, tolerance: float) -> None:
    left, right = weights(mine), weights(theirs)
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=tolerance, rtol=0, msg=name)


@pytest.fixture(scope="module")
def whole(traces, tmp_path_factory) -> Path:
    """One uninterrupted training of the paper's preset."""
    return train(traces, tmp_path_factory.mktemp("whole") / "run", "--save-steps", 2, steps=6)


def test_every_term_is_logged_at_every_step_and_adds_up(whole):
    rows = log(whole)
    assert rows["step"].tolist() == [1, 2, 3, 4, 5, 6]
    for name in ("ntp", "concept", "trajectory", "gamma", "grad_norm", "learning_rate"):
        assert rows[name].notna().all(), name
    assert (rows["concept_missing"] == 0).all()
    assert rows["gamma"].iloc[0] == pytest.approx(1e-6)
    assert rows["gamma"].iloc[3:].tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(rows["loss"], rows["ntp"] + 0.3 * (rows["concept"] + rows["trajectory"]), atol=1e-5)
    assert rows["trajectory"].iloc[-1] < rows["trajectory"].iloc[0]


def test_the_checkpoint_is_a_plain_model_with_lavit_beside_it(whole):
    model, report = AutoModelForImageTextToText.from_pretrained(whole / "model", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    loaded = lavit.checkpoint.load(str(whole / "model"))
    assert loaded.latents is not None
    assert loaded.latents.count == 4
    facts = json.loads((whole / "model" / "lavit.json").read_text())
    assert facts["training"]["preset"] == "paper"
    assert facts["training"]["traces"]["teacher"]["name"] == "tiny:teacher"
    assert model.num_parameters() == loaded.model.num_parameters()


def test_a_killed_training_and_one_on_a_full_disk_end_like_one_that_was_not(whole, traces, tmp_path):
    out = tmp_path / "run"
    command = ("train", "tiny:student", "--traces", str(traces), "--out", str(out), *SCALE)
    command = (*command, "--set", "steps=6", "--save-steps", "2")
    process = subprocess.Popen([*ENTRY, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ALONE)
    while process.poll() is None and not checkpoints(out):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = checkpoints(out)[-1]

    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, unlimited[1]))  # bytes a file may have: less than the weights
    try:
        status, said = gapcheck(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert status == 1, said
    assert "cannot be written" in said
    assert "Traceback" not in said
    assert checkpoints(out)[-1] == before
    assert not (out / "model").exists()

    status, said = gapcheck(*command)
    assert status == 0, said
    drop = ["grad_norm"]
    pd.testing.assert_frame_equal(log(out).drop(columns=drop), log(whole).drop(columns=drop), atol=1e-5)
    assert_same(out, whole, 1e-5)  # other numbers of threads sum in another order


def resumed(whole: Path, traces: Path, out: Path, damage, *more) -> tuple[int, str]:
    """What repeating the training says after its model is gone, as a kill leaves it, and `damage(out)` was done."""
    shutil.copytree(whole, out)
    shutil.rmtree(out / "model")
    damage(out)
    return gapcheck("train", "tiny:student", "--traces", traces, "--out", out, "--preset", "paper", *SCALE,
                    "--set", "steps=6", "--save-steps", 2, *more)  # fmt: skip


def assert_identical(mine: Path, theirs: Path) -> None:
    assert (mine / "log.jsonl").read_bytes() == (theirs / "log.jsonl").read_bytes()
    names = {p.name for p in (theirs / "model").iterdir()}
    assert names == {p.name for p in (mine / "model").iterdir()}
    for name in names:
        assert (mine / "model" / name).read_bytes() == (theirs / "model" / name).read_bytes(), name


def nothing(out: Path) -> None:
    """A kill between the last checkpoint and the model."""


def cut_newest(out: Path) -> None:
    (out / "checkpoint-6" / "optimizer.pt").write_bytes(b"cut")
    (out / "log.jsonl").write_text("{damaged\n")


def flip_newest(out: Path) -> None:
    path = out / "checkpoint-6" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(bytes(content))
    (out / "train.json.999999.tmp").write_text("{half")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (nothing, ""),
        (cut_newest, "checkpoint-6 is not whole (optimizer.pt has 3 bytes"),
        (flip_newest, "checkpoint-6 is not whole (model.safetensors has changed"),
    ],
)
def test_a_resumed_training_takes_the_very_steps_that_are_left(whole, traces, tmp_path, damage, says):
    status, said = resumed(whole, traces, tmp_path / "run", damage)
    assert status == 0, said
    assert says in said
    assert_identical(tmp_path / "run", whole)
    assert not list((tmp_path / "run").glob("*.tmp"))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "config.json", "trainer_state.json"])
def test_a_training_does_not_go_on_without_a_part_of_its_state(whole, traces, tmp_path, name):
    def lose(out: Path) -> None:
        for folder in checkpoints(out):
            (folder / name).unlink()

    status, said = resumed(whole, traces, tmp_path / "run", lose)
    assert status == 2, said
    assert f"{name} is missing" in said
    assert "--fresh" in said
    assert not (tmp_path / "run" / "model").exists()


def test_fresh_keeps_what_is_not_its_own_and_says_so(whole, traces, tmp_path):
    def add(out: Path) -> None:
        (out / "checkpoint-4" / "notes.txt").write_text("mine")
        (out / "thesis.tex").write_text("mine")

    status, said = resumed(whole, traces, tmp_path / "run", add, "--fresh")
    assert status == 0, said
    assert "kept, for no training wrote it: checkpoint-4/notes.txt, thesis.tex" in said
    assert_identical(tmp_path / "run", whole)
    assert (tmp_path / "run" / "checkpoint-4" / "notes.txt").read_text() == "mine"


def test_a_model_that_has_changed_since_it_was_trained_is_refused(whole, traces, tmp_path):
    folder = shutil.copytree(whole / "model", tmp_path / "model")
    heads = folder / "lavit_heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:-1] + b"x")
    for command in (("analyze", folder, "--limit", 1, "--out", tmp_path / "a"),
                    ("latents", folder, "--limit", 1, "--out", tmp_path / "l"),
                    ("train", folder, "--traces", traces, "--out", tmp_path / "t", *SCALE)):  # fmt: skip
        assert "damaged (lavit_heads.safetensors has changed" in refuse(*command)


def test_a_full_disk_is_known_by_what_torch_says_of_it():
    for size in (10, 10**6):
        with pytest.raises(RuntimeError) as caught:
            torch.save({"a": torch.zeros(size)}, "/dev/full")
        assert is_write_error(caught.value)
    assert not is_write_error(RuntimeError("Error(s) in loading state_dict: size mismatch"))


def test_accumulated_batches_and_two_processes_take_the_same_steps(traces, tmp_path):
    # Ragged answers: means of means would differ. Adam turns rounding of a near-zero gradient into a step of the size
    # of the learning rate, hence a small one and a tolerance of a tenth of it.
    small = ("--set", "learning_rate=1e-4", "--set", "max_grad_norm=0")
    one = train(traces, tmp_path / "one", *small, steps=3)
    two = train(traces, tmp_path / "two", *small, "--set", "accumulation=2", steps=3)
    np.testing.assert_allclose(log(two)["loss"], log(one)["loss"], atol=1e-5)
    assert_same(two, one, 1e-5)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611",
               "-m", "perception_gap", "train", "tiny:student", "--traces", str(traces), "--out",
               str(tmp_path / "both"), *SCALE, "--set", "steps=3", *small]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=ALONE | {"ACCELERATE_USE_CPU": "true"})
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(log(tmp_path / "both")["loss"], log(one)["loss"], atol=1e-5)
    assert_same(tmp_path / "both", one, 1e-5)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_moves_what_it_should_and_nothing_else(preset, traces, tmp_path):
    out = train(traces, tmp_path / "run", "--save-steps", 0, preset=preset, steps=1, student="tiny:student")
    before = load_file("perception_gap/tiny/weights/student/model.safetensors")
    settings = settings_of(preset, "tiny")
    rows = log(out)
    assert ("concept" in rows) == (settings.semantic_weight > 0)
    assert ("trajectory" in rows) == (settings.trajectory_weight > 0)
    assert (out / "model" / "lavit_heads.safetensors").exists() == (settings.semantic_weight > 0)
    spec = lavit.checkpoint.spec_of(json.loads((out / "model" / "lavit.json").read_text()))
    assert len(spec.tokens) == settings.n_latents
    for name, after in load_file(out / "model" / "model.safetensors").items():
        old = before[name].float()
        if "visual" in name:
            assert torch.equal(after, old), name
        elif "embed_tokens" in name:
            assert after.shape[0] == old.shape[0] + len(spec.all_tokens)
            assert not torch.equal(after[: len(old)], old)
        else:
            assert not torch.equal(after, old), name


def test_cached_vision_features_train_the_same(whole, traces, tmp_path):
    cached = train(traces, tmp_path / "run", "--cache-vision", tmp_path / "cache", steps=6)
    np.testing.assert_allclose(log(cached)["loss"], log(whole)["loss"], atol=1e-4)
    again = train(traces, tmp_path / "again", "--cache-vision", tmp_path / "cache", steps=1)
    assert log(again)["loss"][0] == pytest.approx(log(whole)["loss"][0], abs=1e-5)


def test_gradient_checkpointing_trains_the_same(whole, traces, tmp_path):
    out = train(traces, tmp_path / "run", "--set", "checkpointing=true", steps=6)
    np.testing.assert_allclose(log(out)["loss"], log(whole)["loss"], atol=1e-5)


def test_bf16_trains(traces, tmp_path):
    out = train(traces, tmp_path / "run", "--set", "bf16=true", steps=2)
    assert log(out)["loss"].notna().all()


def test_lora_ends_in_a_plain_model_and_leaves_old_embeddings_alone(traces, tmp_path):
    out = train(traces, tmp_path / "run", "--set", "lora_rank=4", "--save-steps", 1, steps=2)
    model, report = AutoModelForImageTextToText.from_pretrained(out / "model", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before = AutoModelForImageTextToText.from_pretrained("perception_gap/tiny/weights/student", dtype=torch.float32)
    old, new = before.get_input_embeddings().weight, model.get_input_embeddings().weight
    assert torch.equal(new[: len(old)].float(), old)
    changed = [n for n, p in before.named_parameters() if p.shape == model.get_parameter(n).shape
               and not torch.equal(p, model.get_parameter(n).float())]  # fmt: skip
    assert any("q_proj" in n for n in changed)
    assert not any("visual" in n or "norm" in n for n in changed)


def test_a_lora_training_goes_on_from_its_checkpoint(traces, tmp_path):
    lora = ("--set", "lora_rank=4", "--save-steps", 2)
    out = train(traces, tmp_path / "run", *lora, steps=4)
    before = weights(out)
    for later in ("model", "checkpoint-4"):
        shutil.rmtree(out / later)
    train(traces, out, *lora, steps=4)
    for name, value in weights(out).items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0, msg=name)


def test_continuous_latents_train_and_answer(traces, tmp_path):
    continuous = ("--set", "latent_kind=continuous", "--set", "closing_token=</v-trace>")
    out = train(traces, tmp_path / "run", *continuous, steps=2)
    status, said = gapcheck("latents", out / "model", "--data", "scenes:iq", "--limit", 6, "--out", tmp_path / "hidden",
                            "--max-new-tokens", 8)  # fmt: skip
    assert status == 0, said
    for mode in ("none", "mask", "template", "blind"):
        assert mode in said


def test_a_trained_model_is_analysed_with_its_latents(whole, tmp_path):
    status, said = gapcheck("analyze", whole / "model", "--teacher", "tiny:teacher", "--data", "scenes:attribute",
                            "--limit", 6, "--max-new-tokens", 12, "--no-figures", "--out", tmp_path / "run",
                            "--rows", "latent")  # fmt: skip
    assert status == 0, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["latent"]["latent_kl"]["n"] == 6
    assert summary["kl"]["sample"]["mean"] == pytest.approx(summary["latent"]["latent_kl"]["mean"])
    status, said = gapcheck("analyze", "tiny:student", "--latents", "mask", "--limit", 2, "--out", tmp_path / "plain")
    assert status == 2
    assert "no latent tokens" in said


def test_a_matrix_is_trained_measured_and_resumed(traces, tmp_path):
    command = ("ablate", "--student", "tiny:student", "--teacher", "tiny:teacher", "--traces", traces, "--scale",
               "tiny", "--set", "steps=2", "--set", "batch_size=4", "--data", "scenes:attribute,iq", "--limit", 8,
               "--max-new-tokens", 12, "--out", tmp_path / "matrix", "--cache-vision", tmp_path / "cache")  # fmt: skip
    status, said = gapcheck(*command, "--presets", "naive-sft,latents-only*1", "--seeds", "0,1")
    assert status == 0, said
    rows = pd.read_csv(tmp_path / "matrix" / "results.csv")
    assert list(rows.columns) == ["preset", "seed", "rows", "task", "metric", "value", "low", "high", "n"]
    assert set(zip(rows["preset"], rows["seed"], strict=True)) == {
        ("student", 0), ("naive-sft", 0), ("naive-sft", 1), ("latents-only", 0)}  # fmt: skip
    assert not rows[rows["preset"] == "naive-sft"]["rows"].str.contains("latent").any()
    assert {"accuracy_mask", "changed_template"} <= set(rows[rows["preset"] == "latents-only"]["metric"])
    one = rows[(rows["preset"] == "latents-only") & (rows["metric"] == "accuracy") & (rows["task"] == "all")]
    assert one["n"].item() == 8
    means = pd.read_csv(tmp_path / "matrix" / "means.csv").set_index(["preset", "rows", "task", "metric"])
    of_seeds = rows[(rows["preset"] == "naive-sft") & (rows["metric"] == "kl") & (rows["task"] == "iq")]
    assert means.loc[("naive-sft", "answer", "iq", "kl"), "mean"] == pytest.approx(of_seeds["value"].mean())
    assert len(means) == len(rows.groupby(["preset", "rows", "task", "metric"]))
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "matrix").glob("*/train/model/model.safetensors")}
    status, said = gapcheck(*command, "--presets", "naive-sft*1", "--seeds", "0")
    assert status == 0, said
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "matrix").glob("*/train/model/model.safetensors")}
    compared = pd.read_csv(tmp_path / "matrix" / "comparisons.csv")
    assert set(compared["against"]) == {"student", "naive-sft", "latents-only"}  # the earlier call's run included


def refuse(*arguments, status: int = 2) -> str:
    got, said = gapcheck(*arguments)
    assert got == status, said
    assert "Traceback" not in said
    return said


def test_wrong_input_is_one_line_that_says_what_to_do(whole, traces, tmp_path):
    start = ("train", "tiny:student", "--traces", traces)
    out = ("--out", tmp_path / "run")
    assert "unknown preset 'papr'" in refuse(*start, *out, "--preset", "papr")
    assert "n_latent" in refuse(*start, *out, "--set", "n_latent=4")
    assert "whole number" in refuse(*start, *out, "--set", "steps=many")
    assert "steps 0" in refuse(*start, *out, "--set", "steps=0")
    assert "16 kept, fewer than the 64" in refuse(*start, *out, "--scale", "tiny")
    assert "both terms live on the latents" in refuse(*start, *out, "--set", "n_latents=0")
    assert "fsdp_config alone" in refuse(*start, *out, "--fsdp", "lavit/configs/zero3.json")
    assert "seeds of a matrix" in refuse(
        "ablate",
        "--student",
        "tiny:student",
        "--teacher",
        "tiny:teacher",
        "--traces",
        traces,
        "--presets",
        "paper",
        *out,
        "--set",
        "seed=3",
    )
    assert "multiple" in refuse(*start, *out, "--set", "batch_size=5", "--set", "accumulation=2")
    assert "no such folder" in refuse("train", "tiny:student", "--traces", tmp_path / "gone", *out)
    assert "--traces and --out" in refuse("train", "tiny:student")
    assert "preset 'paper', not 'ours'" in refuse(*start, "--out", whole, "--preset", "ours", *SCALE)
    assert "setting steps" in refuse(*start, "--out", whole, *SCALE, "--set", "steps=7")
    trained = ("train", whole / "model", "--traces", traces, *out, *SCALE)
    assert "trained with the token latents" in refuse(*trained, "--set", "n_latents=6")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    assert "thesis.tex" in refuse(*start, "--out", tmp_path / "other", *SCALE)
    assert "no latent tokens" in refuse("latents", "tiny:student", "--out", tmp_path / "l")
    matrix = (
        "ablate",
        "--student",
        "tiny:student",
        "--teacher",
        "tiny:teacher",
        "--traces",
        traces,
        "--presets",
        "paper",
    )
    assert "thesis.tex" in refuse(*matrix, "--out", tmp_path / "other")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.csv").write_text("name,grade\n")
    assert "results.csv is no matrix's ('name,grade')" in refuse(*matrix, "--out", tmp_path / "mine")
    assert "stands twice" in refuse("ablate", "--student", "tiny:student", "--teacher", "tiny:teacher", "--traces",
                                    traces, "--presets", "paper,paper", *out)  # fmt: skip


def test_a_student_that_has_the_tokens_already_is_refused(traces, tmp_path):
    shutil.copytree("perception_gap/tiny/weights/student", tmp_path / "student")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    tokenizer.add_tokens(["<v-trace1>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "student")
    said = refuse("train", tmp_path / "student", "--traces", traces, "--out", tmp_path / "run", *SCALE)
    assert "already has the token <v-trace1>" in said


def edited(traces: Path, folder: Path, change) -> Path:
    """A copy of a trace folder whose table went through `change(frame)`."""
    shutil.copytree(traces, folder)
    frame = pd.read_parquet(folder / "traces.parquet")
    change(frame)
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(traces / "traces.parquet")
    pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), folder / "traces.parquet")
    info = json.loads((folder / "trace.json").read_text())
    info["files"]["traces.parquet"] = checksums.of_file(folder / "traces.parquet")
    write_json(folder / "trace.json", info)
    return folder


def test_traces_that_do_not_fit_are_named(whole, traces, tmp_path):
    out = ("--out", tmp_path / "run", *SCALE)
    copied = shutil.copytree(traces, tmp_path / "gone")
    picture = next(copied.glob("data/*/images/*.png"))
    picture.unlink()
    assert picture.name in refuse("train", "tiny:student", "--traces", copied, *out)

    def elsewhere(frame: pd.DataFrame) -> None:
        frame["gaze_images"] = [[3] * len(v) for v in frame["gaze_images"]]

    redrawn = shutil.copytree(traces, tmp_path / "redrawn")
    Image.open(picture := next(redrawn.glob("data/*/images/*.png"))).rotate(180).save(picture)
    assert "1 images have changed" in refuse("train", "tiny:student", "--traces", redrawn, *out)

    moved = edited(traces, tmp_path / "moved", elsewhere)
    assert "does not fit" in refuse("train", "tiny:student", "--traces", moved, "--fresh", *out, status=1)

    def resized(frame: pd.DataFrame) -> None:
        frame["heights"] = [[999] for _ in frame["heights"]]

    other = edited(traces, tmp_path / "resized", resized)
    assert "999" in refuse("train", "tiny:student", "--traces", other, "--out", tmp_path / "sized", *SCALE, status=1)

    wide = shutil.copytree(traces, tmp_path / "wide")
    info = json.loads((wide / "trace.json").read_text())
    info["teacher"]["width"] = 64
    write_json(wide / "trace.json", info)
    said = refuse("train", whole / "model", "--traces", wide, "--out", tmp_path / "width", *SCALE)
    assert "width 64" in said


def test_a_loss_that_is_not_finite_stops_the_run_with_the_sample(traces, tmp_path):
    def spoil(frame: pd.DataFrame) -> None:
        frame["v_sem"] = [np.full_like(v, np.inf) for v in frame["v_sem"]]

    spoiled = edited(traces, tmp_path / "spoiled", spoil)
    said = refuse("train", "tiny:student", "--traces", spoiled, "--out", tmp_path / "run", *SCALE, status=1)
    assert "concept is not finite for sample" in said
    assert "train-0" in said


def test_show_prints_every_setting_with_its_source():
    status, said = gapcheck("train", "tiny:student", "--preset", "paper", "--show")
    assert status == 0
    assert "LaViT, table A1" in said
    assert "5e-06" in said
    for preset in PRESETS:
        assert preset in said
