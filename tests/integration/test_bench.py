"""`gapcheck bench` as a user runs it: real tiny models, lmms-eval's own definitions, local copies of the data sets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.plugin import GapcheckHF
from benchmarks.suites.catalog import PAPER
from benchmarks.suites.docs import Docs
from perception_gap.runs.run import Run
from perception_gap.stats.statistics import auroc
from perception_gap.tiny import WEIGHTS
from tests.benchmark_data import mmvp, write_paper
from tests.command import gapcheck

ENTRY = [sys.executable, "-m", "perception_gap"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "perception_gap"]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def bench(out: Path, *arguments, status: int = 0) -> str:
    found, said = gapcheck("bench", *arguments, "--out", out)
    assert found == status, said
    return said


def samples(out: Path, model: str = "tiny-teacher") -> pd.DataFrame:
    return pd.read_parquet(out / model / "samples.parquet")


def same(mine: Path, theirs: Path, model: str = "tiny-teacher") -> None:
    """Equal in everything but the time it took."""
    left, right = (samples(out, model).drop(columns="seconds") for out in (mine, theirs))
    pd.testing.assert_frame_equal(left, right, atol=1e-5)


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Path:
    return write_paper(tmp_path_factory.mktemp("paper"), 4)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Two models over two tasks, with maps."""
    out = tmp_path_factory.mktemp("scenes") / "bench"
    bench(out, "tiny:teacher", "tiny:student", "--suite", "scenes_pairs,scenes_relative_depth", "--limit", 18, "--gaze")
    return out


def test_documents_are_kept_until_their_batch_is_asked(tmp_path, monkeypatch):
    events = []

    def noted(owner, name, word):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments: events.append(word) or plain(*arguments))

    noted(Docs, "forget", "forget")
    noted(GapcheckHF, "generate_until", "ask")
    bench(tmp_path / "b", "tiny:student", "--suite", "scenes_iq", "--limit", 3, "--batch-size", 2)
    assert events == ["forget", "ask", "forget", "ask", "forget"]


def test_answers_verdicts_and_maps_are_those_of_analyze(scenes, tmp_path):
    status, said = gapcheck("analyze", "tiny:teacher", "--data", "scenes:relative_depth", "--limit", 18, "--out",
                            tmp_path / "run", "--no-figures")  # fmt: skip
    assert status == 0, said
    run = Run.open(tmp_path / "run")
    rows = samples(scenes).query("task == 'scenes_relative_depth'").set_index("sample_id")
    maps = load_file(scenes / "tiny-teacher" / "maps.safetensors")
    assert len(rows) == 18
    for row in run.samples.itertuples():
        mine = rows.loc[row.sample_id]
        assert (mine["answer"], mine["correct"], mine["strict_correct"]) == (row.answer, row.correct, row.correct)
        assert mine["n_image_tokens"] == row.n_image_tokens
        for name in ("focus_score", "entropy", "salient_regions", "pointing_game"):
            assert mine[name] == pytest.approx(getattr(row, name), abs=1e-5), name
        np.testing.assert_allclose(
            maps[f"scenes_relative_depth/{row.sample_id}/own"], run.map(row.sample_id), atol=1e-6
        )


def test_the_summary_says_what_the_rows_say(scenes):
    summary = json.loads((scenes / "summary.json").read_text())
    assert summary["baseline"] == json.loads((scenes / "bench.json").read_text())["baseline"] == "tiny:teacher"
    rows = samples(scenes, "tiny-student")
    for task, found in summary["models"]["tiny:student"]["tasks"].items():
        own = rows[rows["task"] == task]
        assert found["accuracy"]["mean"] == own["correct"].mean()
        assert found["lmms_eval"] == {"accuracy": own["correct"].mean()}
        assert found["accuracy"]["n"] == len(own) == 18
        assert found["gaze"]["entropy"]["mean"] == pytest.approx(own["entropy"].mean())
        assert found["gaze"]["entropy"]["std"] == pytest.approx(own["entropy"].std(ddof=0))
    gaze = summary["models"]["tiny:student"]["gaze"]
    for name in ("entropy", "salient_regions"):
        assert gaze[name]["mean"] == pytest.approx(rows[name].mean())
        assert gaze[name]["std"] == pytest.approx(rows[name].std(ddof=0))
    right = rows["correct"].astype(bool)
    assert gaze["focus_score"]["correct_mean"]["mean"] == pytest.approx(rows["focus_score"][right].mean())
    assert gaze["focus_score"]["incorrect_mean"]["n"] == (~right).sum()
    area = auroc(rows["focus_score"].to_numpy(), right.to_numpy(), rows["task"].to_numpy())
    assert gaze["focus_score"]["auroc"]["mean"] == pytest.approx(area)
    assert gaze["focus_score"]["auroc"]["n"] == len(rows)
    pairs = rows[rows["task"] == "scenes_pairs"].groupby("pair")["correct"].all()
    assert summary["models"]["tiny:student"]["tasks"]["scenes_pairs"]["pair_accuracy"]["mean"] == pairs.mean()
    compared = pd.read_csv(scenes / "comparisons.csv").set_index("task")
    wide = [
        samples(scenes, model).query("task == 'scenes_relative_depth'") for model in ("tiny-teacher", "tiny-student")
    ]
    difference = wide[1]["correct"].mean() - wide[0]["correct"].mean()
    assert compared.loc["scenes_relative_depth", "difference"] == pytest.approx(difference)
    assert compared.loc["scenes_relative_depth", "p_holm"] >= compared.loc["scenes_relative_depth", "p"]


def test_pictures_beside_the_maps_are_those_that_were_asked_about(scenes):
    row = samples(scenes).iloc[0]
    assert (scenes / row["images"][0]).is_file()


def test_a_repeated_command_asks_nothing_again(scenes, tmp_path):
    out = tmp_path / "bench"
    shutil.copytree(scenes, out)
    before = sorted(p.name for p in (out / "tiny-teacher" / "parts").iterdir())
    touched = {p: p.stat().st_mtime_ns for p in (out / "tiny-teacher" / "parts").iterdir()}
    bench(out, "tiny:teacher", "tiny:student", "--suite", "scenes_pairs,scenes_relative_depth", "--limit", 18, "--gaze")
    assert sorted(p.name for p in (out / "tiny-teacher" / "parts").iterdir()) == before
    assert all(p.stat().st_mtime_ns == t for p, t in touched.items())
    same(out, scenes)


def test_other_settings_ask_again_and_the_old_answers_stay(scenes, tmp_path):
    out = tmp_path / "bench"
    shutil.copytree(scenes, out)
    n = len(list((out / "tiny-teacher" / "parts").glob("*.parquet")))
    bench(out, "tiny:teacher", "--suite", "scenes_pairs", "--limit", 8, "--max-new-tokens", 2)
    assert len(list((out / "tiny-teacher" / "parts").glob("*.parquet"))) == n + 1
    rows = samples(out)
    assert (rows["n_tokens"] <= 2).all()
    assert len(rows) == 8
    found = json.loads((out / "summary.json").read_text())["models"]["tiny:teacher"]["tasks"]["scenes_pairs"]
    assert found["n_cut"] == (rows["n_tokens"] == 2).sum() > 0


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava_next"])
def test_batches_give_the_answers_of_batch_size_one(kind, tiny_checkpoint, paper, tmp_path):
    """With prompts of one and of three pictures and of different lengths, in float32."""
    model, suite = tiny_checkpoint(kind), "mmvp,blink_visual_similarity,vstar_bench_direct_attributes"
    options = ("--suite", suite, "--data-root", paper, "--max-new-tokens", 6)
    for size in (1, 3):
        bench(tmp_path / str(size), model, *options, "--batch-size", size)
    slug = next(p.name for p in (tmp_path / "1").iterdir() if (p / "run.json").exists())
    same(tmp_path / "1", tmp_path / "3", slug)
    rows = samples(tmp_path / "1", slug)
    assert rows["heights"].str.len().tolist() == [1] * 4 + [3] * 4 + [1] * 4
    assert rows["answer"].str.len().max() > 0


def test_the_papers_suites_run_on_local_copies_through_their_own_definitions(paper, tmp_path):
    said = bench(tmp_path / "b", "tiny:sft", "tiny:lavit", "--suite", "paper", "--data-root", paper, "--gaze")
    assert "LaViT 3B" in said
    assert "78.23" in said  # published figures beside ours
    summary = json.loads((tmp_path / "b" / "summary.json").read_text())
    tasks = summary["models"]["tiny:lavit"]["tasks"]
    assert tuple(tasks) == PAPER
    rows = samples(tmp_path / "b", "tiny-lavit")
    assert rows.groupby("task").size().to_dict() == dict.fromkeys(PAPER, 4)
    assert (rows["status"] == "ok").all()
    assert rows["correct"].notna().all()
    assert rows["strict_correct"].notna().all()
    assert rows["entropy"].notna().any()
    assert all(0 <= task["accuracy"]["mean"] <= 1 for task in tasks.values())
    prompt = rows.query("task == 'blink_iq_test'")["prompt"].iloc[0]
    assert prompt.startswith("<image>Note: You only need to respond with A, B, C, D without")
    assert tasks["mmvp"]["pair_accuracy"]["n"] == 2
    assert (rows.query("task == 'mmvp'")["cluster"].value_counts() == 2).all()


def test_bad_pictures_are_failed_rows_that_stay_in_the_denominator(tmp_path):
    data = tmp_path / "data"
    mmvp(data / "MMVP", 6)
    images = data / "MMVP" / "MMVP Images"
    (images / "2.jpg").write_bytes(b"no picture")
    (images / "3.jpg").write_bytes((images / "3.jpg").read_bytes()[:400])
    (images / "4.jpg").unlink()
    said = bench(tmp_path / "b", "tiny:student", "--suite", "mmvp", "--data-root", data)
    assert "3 of 6 answers valid, 3 failed" in said
    rows = samples(tmp_path / "b", "tiny-student")
    assert rows["status"].tolist() == ["ok", "failed", "failed", "failed", "ok", "ok"]
    assert rows["error"].str.contains("cannot be decoded|no such file").sum() == 3
    assert rows.loc[rows["status"] == "failed", ["correct", "strict_correct"]].eq(False).all(axis=None)
    assert rows.loc[rows["status"] == "failed", "lmms_score"].isna().all()  # nobody scored them
    found = json.loads((tmp_path / "b" / "summary.json").read_text())["models"]["tiny:student"]["tasks"]["mmvp"]
    assert (found["accuracy"]["n"], found["n_failed"]) == (6, 3)
    bench(tmp_path / "b", "tiny:student", "--suite", "mmvp", "--data-root", data, "--strict", status=1)
    mmvp(data / "MMVP", 6)  # mended: the same command asks for the three alone
    parts = tmp_path / "b" / "tiny-student" / "parts"
    before = set(parts.glob("*.parquet"))
    bench(tmp_path / "b", "tiny:student", "--suite", "mmvp", "--data-root", data, "--strict")
    (new,) = set(parts.glob("*.parquet")) - before
    assert pq.read_metadata(new).num_rows == 3


def test_no_valid_answer_is_exit_status_one(tmp_path):
    mmvp(tmp_path / "data" / "MMVP", 2)
    for picture in (tmp_path / "data" / "MMVP" / "MMVP Images").iterdir():
        picture.unlink()
    said = bench(tmp_path / "b", "tiny:student", "--suite", "mmvp", "--data-root", tmp_path / "data", status=1)
    assert "0 of 2 answers valid" in said


def test_a_model_that_says_nothing_is_wrong_and_counted(tmp_path):
    silent = tmp_path / "silent"
    shutil.copytree(WEIGHTS / "student", silent)
    config = json.loads((silent / "generation_config.json").read_text())
    config["eos_token_id"] = list(range(json.loads((silent / "config.json").read_text())["text_config"]["vocab_size"]))
    (silent / "generation_config.json").write_text(json.dumps(config))
    bench(tmp_path / "b", silent, "--suite", "scenes_iq", "--limit", 4, "--gaze")
    rows = pd.read_parquet(next((tmp_path / "b").glob("*silent/samples.parquet")))
    assert rows["answer"].tolist() == [""] * 4
    assert not rows["correct"].any()
    assert rows["entropy"].isna().all()
    found = next(iter(json.loads((tmp_path / "b" / "summary.json").read_text())["models"].values()))["tasks"][
        "scenes_iq"
    ]
    assert (found["n_empty"], found["gaze"]["entropy"]["n"], found["gaze"]["entropy"]["mean"]) == (4, 0, None)


def damaged(folder: Path, **changes) -> Path:
    """A copy of the student; changes: of its text configuration."""
    shutil.copytree(WEIGHTS / "student", folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_undefined_logits_are_no_answer(tmp_path):
    folder = damaged(tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith("norm.weight") and "layers" not in n and "visual" not in n)
    save_file(weights | {name: np.full_like(weights[name], np.nan)}, folder / "model.safetensors", {"format": "pt"})
    said = bench(tmp_path / "b", folder, "--suite", "scenes_iq", "--limit", 2, status=1)
    assert "2 failed × the model produced NaN" in said


def test_a_prompt_beyond_the_models_positions_is_no_answer(tmp_path):
    folder = damaged(tmp_path / "short", max_position_embeddings=64)
    said = bench(tmp_path / "b", folder, "--suite", "scenes_iq", "--limit", 2, status=1)
    assert "tokens, and the model's context has 64" in said


def test_what_was_asked_before_a_model_that_does_not_load_is_summarised_and_nothing_older_shows(tmp_path):
    options = ("--suite", "scenes_iq", "--limit", 4)
    bench(tmp_path / "b", "tiny:teacher", "tiny:student", *options)
    broken = damaged(tmp_path / "broken", hidden_size=96)  # another shape than its weights
    said = bench(tmp_path / "b", "tiny:student", broken, *options, status=2)
    assert "does not load" in said
    assert list(json.loads((tmp_path / "b" / "summary.json").read_text())["models"]) == ["tiny:student"]
    bench(tmp_path / "b", "tiny:student", broken, *options, "--baseline", broken, status=2)
    assert list(json.loads((tmp_path / "b" / "summary.json").read_text())["models"]) == ["tiny:student"]
    bench(tmp_path / "b", broken, *options, status=2)
    assert not (tmp_path / "b" / "summary.json").exists()
    assert not (tmp_path / "b" / "tables.md").exists()


def test_a_scorer_that_raises_leaves_the_strict_verdict_and_says_so(paper, tmp_path, monkeypatch):
    """HR-Bench asks a judge on the network for what it cannot read, which takes a key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    said = bench(tmp_path / "b", "tiny:student", "--suite", "hrbench4k", "--data-root", paper, "--max-new-tokens", 4)
    assert "unscored × lmms-eval's scorer of hrbench4k raised GapcheckError: no option in the answer" in said
    found = json.loads((tmp_path / "b" / "summary.json").read_text())["models"]["tiny:student"]["tasks"]["hrbench4k"]
    assert found["n_unscored"] == 4 - found["accuracy"]["n"] > 0
    assert found["strict_accuracy"]["n"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "mmvpp"], "unknown task or suite 'mmvpp': did you mean mmvp"),
        (["--suite", "scenes_iq,nothing_like_it_at_all"], "nothing_like_it_at_all"),
        (["--suite", "mmvp", "--data-root", "."], "hf download lmms-lab-eval/MMVP --repo-type dataset"),
        (["--suite", "scenes_iq", "--baseline", "tiny:sft"], "--baseline tiny:sft: expected one of tiny:student"),
        (["--suite", "scenes_iq", "--latents", "mask"], "--latents mask: none of tiny:student has latent tokens"),
        (["tiny:nobody", "--suite", "scenes_iq"], "tiny:nobody"),
        (["tiny:student", "--suite", "scenes_iq"], "expected each once"),
        (["lmms-eval:opnai", "--suite", "scenes_iq"], "did you mean openai"),
        (["lmms-eval:openai,model_version=x", "--system", "s", "--suite", "scenes_iq"], "--system: does not reach"),
        (["lmms-eval:openai,api_key", "--suite", "scenes_iq"], "expected arguments key=value"),
        (["lmms-eval:openai,api_key=hunter2", "lmms-eval:openai,api_key=hunter3"], "differ in what is not written"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_before_anything_is_asked(arguments, said, tmp_path):
    found = bench(tmp_path / "b", "tiny:student", *arguments, "--limit", 4, status=2)
    assert said in found
    assert len(found.strip().splitlines()) == 1
    assert "hunter" not in found
    assert not list((tmp_path / "b").glob("*/parts/*.parquet"))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds other files (notes.txt)" in bench(tmp_path, "tiny:student", "--limit", 2, status=2)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_latents_of_a_lavit_model_are_treated_as_asked(tmp_path):
    options = ("--suite", "scenes_relative_depth", "--limit", 8)
    for mode in ("force", "none"):
        bench(tmp_path / "b", "tiny:lavit", *options, "--latents", mode)
    forced, without = samples(tmp_path / "b", "tiny-lavit"), samples(tmp_path / "b", "tiny-lavit-none")
    assert (forced["n_prompt_tokens"] > without["n_prompt_tokens"]).all()


def test_compared_models_see_pictures_of_one_size_unless_told_otherwise(tmp_path, paper):
    large = tmp_path / "large"
    shutil.copytree(WEIGHTS / "student", large)
    name = next(n for n in ("processor_config.json", "preprocessor_config.json") if (large / n).exists())
    config = json.loads((large / name).read_text())
    own = config.get("image_processor", config)
    own["size"] = {"shortest_edge": 256**2, "longest_edge": 256**2}
    (large / name).write_text(json.dumps(config))
    options = ("--suite", "scenes_iq", "--limit", 2)
    said = bench(tmp_path / "same", "tiny:student", large, *options)
    assert "pixels for all, as tiny:student has it" in said
    tokens = [pd.read_parquet(p)["n_image_tokens"].tolist() for p in (tmp_path / "same").glob("*/samples.parquet")]
    assert tokens == [[64, 64]] * 2
    bench(tmp_path / "own", "tiny:student", large, *options, "--own-resolution")
    tokens = [pd.read_parquet(p)["n_image_tokens"].tolist() for p in (tmp_path / "own").glob("*/samples.parquet")]
    assert sorted(tokens) == [[64, 64], [256, 256]]


def test_a_killed_run_loses_a_batch_at_most_and_then_equals_an_uninterrupted_one(tmp_path):
    command = ["tiny:teacher", "--suite", "scenes_attribute,scenes_iq", "--limit", "60", "--batch-size", "2"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*ENTRY, "bench", *command, "--out", str(killed)], env=ALONE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    parts = killed / "tiny-teacher" / "parts"
    while not parts.is_dir() or len(list(parts.glob("*.safetensors"))) < 20:
        assert process.poll() is None, "ended before it was killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = sum(pq.read_metadata(p).num_rows for p in parts.glob("*.parquet"))
    assert 40 <= kept < 120
    assert not (killed / "summary.json").exists()
    bench(killed, *command)
    bench(whole, *command)
    same(killed, whole)
    assert sum(pq.read_metadata(p).num_rows for p in parts.glob("*.parquet")) == 120


def test_two_processes_give_what_one_gives_and_one_that_dies_is_no_success(tmp_path):
    command = ["bench", "tiny:teacher", "--suite", "scenes_pairs,scenes_iq", "--limit", "13", "--gaze", "--out"]
    done = subprocess.run([*TWO, *command, str(tmp_path / "two")], env=ALONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("26 of 26 answers valid") == 1
    bench(tmp_path / "one", *command[1:-1])
    same(tmp_path / "two", tmp_path / "one")
    half = tmp_path / "half"
    long = [w if w != "13" else "200" for w in command]
    process = subprocess.Popen(
        [*TWO, *long, str(half)], env=ALONE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(list(half.glob("tiny-teacher/parts/*.safetensors"))) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children()
    next(child for child in children if child.environ().get("RANK") == "1").kill()
    assert process.wait(timeout=120) != 0
    assert not (half / "summary.json").exists()
    assert sum(pq.read_metadata(p).num_rows for p in half.glob("tiny-teacher/parts/*.parquet")) >= 32


class Server(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that answers A and B in turn, and fails when told to."""

    seen: ClassVar[list[dict]] = []
    broken = False

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(asked)
        self.send_response(500 if self.broken else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        message = {"role": "assistant", "content": f"The answer is {'AB'[len(self.seen) % 2]}."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": asked["model"], "choices": [choice]}
        self.wfile.write(json.dumps(answer | {"usage": usage}).encode())

    def log_message(self, *arguments) -> None:
        pass


def test_a_foreign_backend_of_lmms_eval_is_asked_through_its_own_client(paper, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}/v1"
    spec = f"lmms-eval:openai,model_version=some-model,base_url=http://me:hunter2@{host},max_retries=1,api_key=hunter3"
    monkeypatch.setattr(sys, "argv", ["gapcheck", "bench", f"--baseline={spec}", spec])
    options = ("--suite", "mmvp", "--data-root", paper)
    try:
        Server.broken = True
        said = bench(tmp_path / "b", spec, *options, status=1)
        assert "0 of 4 answers valid, 4 failed" in said
        Server.broken = False
        said = bench(tmp_path / "b", "tiny:student", spec, *options)
    finally:
        server.shutdown()
    assert "8 of 8 answers valid" in said
    slug = next(p.parent.name for p in (tmp_path / "b").glob("lmms-eval*/samples.parquet"))
    rows = samples(tmp_path / "b", slug)
    assert set(rows["answer"]) <= {"The answer is A.", "The answer is B."}
    assert rows["n_tokens"].tolist() == [5] * 4
    assert (rows["seconds"] > 0).all()
    assert rows["correct"].tolist() == rows["strict_correct"].tolist()
    content = Server.seen[-1]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert f"base_url=http://***@{host},max_retries=1,api_key=***" in said
    kept = b"".join(path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file())
    assert b"hunter" not in kept + said.encode() + slug.encode()


def test_gaze_of_a_foreign_backend_is_refused(tmp_path):
    said = bench(tmp_path / "b", "lmms-eval:openai,model_version=x", "--gaze", "--limit", 2, status=2)
    assert "shows no attention" in said
