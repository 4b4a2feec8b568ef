"""`gapcheck reproduce` through its real steps: tiny checkpoints under the real models' names, miniature data sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from perception_gap.data.scenes import scenes
from perception_gap.tiny import WEIGHTS
from tests.benchmark_data import write_paper
from tests.command import gapcheck

STANDINS = {
    "Qwen/Qwen2.5-VL-32B-Instruct": "teacher", "Qwen/Qwen2.5-VL-7B-Instruct": "sft",
    "Qwen/Qwen2.5-VL-3B-Instruct": "student", "LaViT-3B": "lavit",
}  # fmt: skip
# The size of the stand-ins' pictures, and a question without words that they never read.
SMALL = ("--min-pixels", 16384, "--max-pixels", 16384, "--instruction", "", "--device", "cpu")
QUICK = [part for change in ("steps=2", "batch_size=2", "bf16=false", "system=")
         for part in ("--set", change)]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with checkpoints under the hub's names, the benchmarks' data sets, and a Visual-CoT file."""
    folder = tmp_path_factory.mktemp("place")
    for name, tiny in STANDINS.items():
        shutil.copytree(WEIGHTS / tiny, folder / name)
    write_paper(folder / "data", 2)
    entries = []
    (folder / "images").mkdir()
    for scene in scenes(("attribute", "relative_depth"), 12, split="train"):
        Image.fromarray(scene.image).save(folder / "images" / f"{scene.id}.png")
        record = scene.record(f"{scene.id}.png")
        entries.append({"question": record["question"], "answer": record["answer"], "image": record["image"],
                        "bboxs": record["boxes"], "dataset": "drawn"})  # fmt: skip
    (folder / "viscot_363k.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture
def here(place, monkeypatch) -> Path:
    monkeypatch.chdir(place)
    return place


def reproduce(*arguments, status: int = 0) -> str:
    found, said = gapcheck("reproduce", *arguments)
    assert found == status, said
    return said


def lines_of(*arguments) -> list[str]:
    script = reproduce(*arguments, "--dry-run").partition("# Repeated without --dry-run")[0]
    return [line for line in script.splitlines() if line.startswith("gapcheck ")]


def test_table1_traces_trains_and_asks_and_figures_in_its_folder_find_that_done(here):
    asked = ("table1", "--data-root", "data", "--limit", 1, "--out", "whole", *SMALL, *QUICK)
    said = reproduce(*asked)
    expected = lines_of(*asked)
    assert [line.removeprefix("$ ") for line in said.splitlines() if line.startswith("$ gapcheck")] == expected
    train = json.loads(Path("whole/lavit/train.json").read_text())
    assert (train["preset"], train["settings"]["steps"]) == ("paper", 2)
    assert train["settings"]["max_pixels"] == 16384  # that of the measurements
    assert train["student"]["name"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert train["command"] == expected[2]  # what is printed is what a run says that made it
    assert json.loads(Path("whole/bench-table1/bench.json").read_text())["command"] == expected[-1]
    text = Path("whole/table1.md").read_text()
    for row in ("Qwen2.5-VL-32B-Instruct", "Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-3B-Instruct", "sft", "lavit"):
        assert any(line.startswith(f"| {row}") and "ours" in line for line in text.splitlines()), text
    assert "82.61" in text  # published: LaViT 3B, V* attributes
    assert {p.suffix for p in Path("whole").glob("table1.*")} == {".md", ".tex", ".csv", ".html"}
    page = Path("whole/REPRODUCTION-table1.md").read_text()
    assert "Accuracy over all questions minus that of Qwen2.5-VL-3B-Instruct: " in page
    assert all(line in page for line in expected)

    trained = {path: path.stat().st_mtime_ns for path in Path("whole/lavit/model").iterdir()}
    said = reproduce("figure5", "--limit", 3, "--out", "whole", *SMALL, *QUICK)
    assert {path: path.stat().st_mtime_ns for path in Path("whole/lavit/model").iterdir()} == trained
    assert "KL from the teacher's map of its answer: student " in said
    with Image.open("whole/figure5.png") as picture:
        assert picture.width > 600
    assert Path("whole/figure5.pdf").read_bytes().startswith(b"%PDF")
    maps = Path("whole/teacher/maps.safetensors").read_bytes()
    assert "KL(teacher ‖ student): functional" in reproduce("figure3", "--limit", 3, "--out", "whole", *SMALL)
    assert Path("whole/teacher/maps.safetensors").read_bytes() == maps
    assert Path("whole/figure3.png").is_file()


def test_table2_with_a_checkpoint_that_is_there_asks_alone_and_resumes(here):
    asked = ("table2", "--lavit", "LaViT-3B", "--data-root", "data", "--limit", 2, "--out", "two", *SMALL)
    said = reproduce(*asked)
    assert len(lines_of(*asked)) == 1
    assert "Entropy of the maps: Qwen2.5-VL-32B-Instruct " in said
    first = pd.read_csv("two/table2.csv")
    parts = {path: path.stat().st_mtime_ns for path in Path("two/bench-relative-depth").glob("*/parts/*")}
    assert parts
    reproduce(*asked)
    assert {path: path.stat().st_mtime_ns for path in Path("two/bench-relative-depth").glob("*/parts/*")} == parts
    pd.testing.assert_frame_equal(pd.read_csv("two/table2.csv"), first)


def test_tiny_table3_has_lavit_with_its_latents_masked_in_the_paper_s_row(here):
    said = reproduce("table3", "--tiny", "--limit", 2, "--out", "three")
    labels = [line.split("|")[1].strip() for line in Path("three/table3.md").read_text().splitlines() if "|" in line]
    masked = labels.index("tiny:lavit (latents mask)")
    assert labels[masked + 1] == "w/o Latent Tokens"  # ours stands above the row that it repeats
    assert labels[labels.index("tiny:lavit") + 1] == "LaViT 3B"
    assert "note: the embedded ablations have a closing token" in said


def test_tiny_figure4_is_of_the_embedded_models_or_of_one_trained_anew(here):
    said = reproduce("figure4", "--tiny", "--limit", 3, "--out", "four")
    assert "tiny:lavit" in said
    assert "The paper prints: Qwen2.5-VL 32B: 4.284; " in said
    assert Path("four/figure4.png").stat().st_size > 10_000
    assert [path.name for path in Path("four").iterdir() if path.is_dir()] == ["bench-relative-depth"]
    anew = ("--tiny", "--retrain", "--set", "steps=2", "--set", "batch_size=4", "--trace-limit", 24)
    assert "four/lavit/model" in reproduce("figure4", *anew, "--limit", 3, "--out", "four")
    assert json.loads(Path("four/lavit/train.json").read_text())["scale"] == "tiny"
    assert "four/lavit/model" in json.loads(Path("four/bench-relative-depth/bench.json").read_text())["models"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["table2", "--lavit", "LaViT-3B", "--data-root", "nowhere"], "--data-root nowhere: is no folder"),
        (
            ["table2", "--lavit", "LaViT-3B", "--data-root", "images"],
            "fetch it with `hf download BLINK-Benchmark/BLINK",
        ),
        (["table2", "--data-root", "nowhere"], "--data-root nowhere: is no folder"),
        (["figure2", "--viscot", "gone.json"], "--viscot gone.json: no such file"),
        (["figure2", "--teacher", "./gone"], "model './gone' does not exist"),
        (["table1", "--lavit", "Qwen/Qwen2.5-VL-3B-Instruct"], "has no latent tokens; give a model that"),
        (["figure2", "--out", "viscot_363k.json/below"], "--out viscot_363k.json/below: cannot be written"),
    ],
)
def test_what_is_missing_is_said_before_any_work(here, arguments, reason):
    out = () if "--out" in arguments else ("--out", "bad")
    said = reproduce(*arguments, *out, *SMALL, status=2)
    assert reason in said
    errors = [line for line in said.splitlines() if line.startswith("gapcheck: error: ")]
    assert len(errors) == 1
    assert "Traceback" not in said
    assert not list(Path("bad").glob("*/parts/*"))


def test_a_step_that_fails_ends_with_its_status_and_says_what_to_repeat(here):
    said = reproduce("table2", "--lavit", "LaViT-3B", "--data-root", "images", "--out", "bad", *SMALL, status=2)
    assert "step 1 of 1 ended with status 2; what is computed stays in bad: " in said
    assert "table2.md" not in {path.name for path in Path("bad").iterdir()}
