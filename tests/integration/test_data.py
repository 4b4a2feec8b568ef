"""The layouts of data through the commands: what is read is measured alike, the rest is a row or a line about it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from perception_gap.runs.run import Run
from tests.command import gapcheck

QUICK = ("--max-new-tokens", 3, "--no-figures", "--text", "reference")
ASKED = {"question": "What color is the small square?", "answer": "red"}
PIXELS, FRACTIONS = [120, 20, 180, 80], [0.6, 0.2, 0.9, 0.8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """a.png, 200 × 100 pixels."""
    found = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(found / "a.png")
    return found


@pytest.fixture(scope="module")
def model(tiny_checkpoint) -> Path:
    return tiny_checkpoint("qwen2_5_vl")


def written(folder: Path, name: str, *records) -> Path:
    text = "".join(json.dumps(r) + "\n" for r in records) if name.endswith("l") else json.dumps(records)
    (folder / name).write_text(text)
    return folder / name


def measured(model, spec, out: Path, *options, status: int = 0) -> tuple[pd.DataFrame, str]:
    found, said = gapcheck("analyze", model, "--data", spec, "--out", out, *QUICK, *options)
    assert found == status, said
    return Run.open(out).samples, said


def test_a_picture_and_its_box_measure_the_same_in_every_layout(model, folder, tmp_path):
    picture = (folder / "a.png").read_bytes()
    encoded = base64.b64encode(picture).decode()
    plain = written(folder, "plain.jsonl", ASKED | {"image": "a.png", "boxes": [PIXELS]})
    (expected,) = measured(model, plain, tmp_path / "plain")[0].to_dict("records")
    assert expected["boxes"].tolist() == PIXELS
    turns = [
        {"from": "human", "value": "<image>\n" + ASKED["question"]},
        {"from": "gpt", "value": "<lvr><answer>red</answer>"},
    ]
    pictures = [f"data:image/png;base64,{encoded}", encoded, (folder / "a.png").as_uri()]
    records = [ASKED | {"image": image, "boxes": [FRACTIONS]} for image in pictures]
    table = datasets.Features(
        {
            "image": datasets.Image(),
            "prompt": datasets.Value("string"),
            "answer": datasets.Value("string"),
            "bbox": datasets.Sequence(datasets.Value("float64")),
        }
    )
    row = {"image": [str(folder / "a.png")], "prompt": [ASKED["question"]], "answer": ["red"], "bbox": [PIXELS]}
    datasets.Dataset.from_dict(row, features=table).to_parquet(folder / "a.parquet")
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "caption": ASKED["question"]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [120, 20, 60, 60]}],
        "categories": [{"id": 1, "name": "red"}],
    }
    (folder / "coco.json").write_text(json.dumps(coco))
    lvr = {"image": ["a.png"], "conversations": turns, "bboxes": [FRACTIONS]}
    layouts = [
        (written(folder, "inside.jsonl", *records), ("--boxes", "fractions")),
        (f"viscot:{written(folder, 'lvr.json', lvr)}", ()),
        (folder / "a.parquet", ("--field", "question=prompt", "--field", "boxes=bbox")),
        (f"coco:{folder / 'coco.json'}", ("--field", "question=caption")),
    ]
    for i, (spec, options) in enumerate(layouts):
        rows, said = measured(model, spec, tmp_path / str(i), *options)
        assert "note:" not in said
        for row in rows.to_dict("records"):
            assert (row["status"], row["answer"], row["image_hash"]) == (
                "ok",
                expected["answer"],
                expected["image_hash"],
            )
            assert row["focus_score"] == pytest.approx(expected["focus_score"], rel=1e-9)  # a box is rounded once
            np.testing.assert_allclose(row["boxes"], PIXELS, rtol=1e-12)
    status, said = gapcheck("report", tmp_path / "0", "--out", tmp_path / "page.html")
    assert status == 0, said


def test_what_cannot_be_read_of_one_sample_fails_its_row_alone(model, folder, tmp_path):
    bad = [
        ASKED | {"image": "https://example.org/a.png"},
        ASKED | {"image": "data:image/png;base64," + "QUJD" * 50_000},
        ASKED | {"image": "a" * 300 + ".png"},
        ASKED | {"image": "d/" * 2500 + "a.png"},
        ASKED | {"image": "a.png", "answer": ""},
        ASKED | {"image": "a.png", "boxes": [FRACTIONS]},
    ]
    good = [ASKED | {"image": "a.png", "boxes": [PIXELS], "bbox": [PIXELS]}] * 3
    source = written(folder, "bad.jsonl", *bad, *good)
    rows, said = measured(model, source, tmp_path / "run")
    assert rows["status"].tolist() == ["failed"] * 6 + ["ok"] * 3
    reasons = (
        "addresses are not fetched",
        "holds no picture",
        "longer than a path",
        "longer than a path",
        "the answer is empty",
        "is under one pixel",
    )
    for reason, error in zip(reasons, rows["error"], strict=False):
        assert reason in error
        assert len(error) < 400
    assert max(len(path) for paths in rows["images"] for path in paths) < 200
    assert said.count("passed over unknown fields bbox (in 3 of 9: did you mean boxes?)") == 1
    assert max(map(len, said.splitlines())) < 500
    status, said = gapcheck("report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert status == 0, said


def test_other_numbers_in_the_boxes_are_another_run(model, folder, tmp_path):
    source = written(folder, "corner.jsonl", ASKED | {"image": "a.png", "boxes": [[20, 10, 60, 30]]})
    focus = {}
    for n, unit in enumerate(("pixels", "xywh", "thousandths"), start=1):
        rows, _ = measured(model, source, tmp_path / "run", "--boxes", unit)
        focus[unit] = rows["focus_score"][0]
        assert len(list((tmp_path / "run" / "parts").glob("*.parquet"))) == n
        assert Run.open(tmp_path / "run").info["data"]["boxes"] == unit
    assert len(set(focus.values())) == 3


@pytest.mark.parametrize("command", ["analyze", "compare", "trace", "latents", "ablate"])
def test_every_command_that_reads_data_refuses_boxes_of_another_unit(model, folder, tmp_path, command):
    source = written(folder, "fractions.jsonl", ASKED | {"image": "a.png", "boxes": [FRACTIONS]})
    options = {
        "analyze": (model,),
        "compare": ("tiny:teacher", "tiny:student"),
        "trace": (model,),
        "latents": ("tiny:lavit",),
        "ablate": ("--help",),
    }[command]
    status, said = gapcheck(command, *options, "--data", source, "--out", tmp_path / "out")
    if command == "ablate":
        assert "--boxes" in said
        assert "--field" in said
        return
    assert status == 2, said
    assert "1 of 1 boxes lie within one pixel, the first [0.6, 0.2, 0.9, 0.8] of sample 1" in said
    assert "--boxes pixels|fractions|thousandths|xywh" in said


def test_a_trace_keeps_boxes_in_pixels_and_fails_the_same_rows(model, folder, tmp_path):
    good = ASKED | {"image": "a.png", "boxes": [FRACTIONS]}
    source = written(folder, "trace.jsonl", good, good | {"answer": ""}, good | {"image": "http://x.org/a.png"})
    status, said = gapcheck(
        "trace",
        model,
        "--data",
        source,
        "--boxes",
        "fractions",
        "--out",
        tmp_path / "out",
        "--max-new-tokens",
        3,
        "--no-correctness",
        "--no-difficulty",
        "--min-focus",
        0,
    )
    assert status == 0, said
    rows = pd.read_parquet(tmp_path / "out" / "traces.parquet")
    assert rows["status"].tolist() == ["ok", "failed", "failed"]
    np.testing.assert_allclose(rows["boxes"][0], PIXELS, rtol=1e-12)
    assert "2 of 3 samples failed" in said


def test_wrong_options_are_one_line(model, folder, tmp_path):
    source = written(folder, "wrong.jsonl", ASKED | {"image": "a.png"})
    for options, says in (
        (("--field", "question"), "expected OURS=THEIRS"),
        (("--field", "answer=a", "--field", "answer=b"), "each of ours once"),
        (("--field", "colour=a"), "expected one of id, image"),
        (("--boxes", "yolo"), "is not one of"),
    ):
        status, said = gapcheck("analyze", model, "--data", source, "--out", tmp_path / "out", *options)
        assert status == 2
        assert says in said
        assert said.count("\n") == 1


def test_a_stored_teacher_with_other_boxes_is_refused(model, folder, tmp_path):
    source = written(folder, "corner.jsonl", ASKED | {"image": "a.png", "boxes": [[20, 10, 60, 30]]})
    status, said = gapcheck("analyze", model, "--data", source, "--out", tmp_path / "teacher", *QUICK[:3])
    assert status == 0, said
    command = (
        "compare",
        "tiny:student",
        "--teacher",
        tmp_path / "teacher",
        "--data",
        source,
        "--max-new-tokens",
        3,
        "--pixels",
        "own",
        "--no-page",
    )
    status, said = gapcheck(*command, "--boxes", "xywh", "--out", tmp_path / "other")
    assert status == 2, said
    assert "other answers, options or boxes" in said
    status, said = gapcheck(*command, "--out", tmp_path / "same")
    assert status == 0, said
