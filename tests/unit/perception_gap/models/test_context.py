"""What is longer than a model's context is a failed row that says both lengths."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from perception_gap.data.scenes_files import write_scenes
from perception_gap.errors import GapcheckError
from perception_gap.models.context import check_fits, context_of
from perception_gap.tiny import WEIGHTS
from tests.command import gapcheck


def config(**fields):
    text = SimpleNamespace(**fields)
    return SimpleNamespace(get_text_config=lambda: text)


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"max_position_embeddings": 64}, 64), ({"n_positions": 32}, 32), ({}, None),
        ({"max_position_embeddings": None, "seq_length": 7}, 7),
        ({"max_position_embeddings": 64, "sliding_window": 8}, 64),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "yarn", "factor": 4.0,
                                                            "original_max_position_embeddings": 64}}, 256),
        ({"max_position_embeddings": 256, "rope_parameters": {"rope_type": "yarn", "factor": 4.0,
                                                             "original_max_position_embeddings": 64}}, 256),
        ({"max_position_embeddings": 64, "rope_parameters": {
            "full_attention": {"factor": 2.0, "original_max_position_embeddings": 64}, "sliding_attention": {}}}, 128),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "mrope", "mrope_section": [1]}}, 64),
    ],
)  # fmt: skip
def test_the_context_is_what_the_configuration_says(fields, most):
    assert context_of(config(**fields)) == most


def test_the_longest_of_a_batch_decides_and_padding_does_not():
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    check_fits(config(max_position_embeddings=3), mask, "text")
    check_fits(config(), mask, "text")
    with pytest.raises(GapcheckError, match="text: 3 tokens, and the model's context has 2"):
        check_fits(config(max_position_embeddings=2), mask, "text")


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """tiny:student with a context of 128 tokens, 64 of which a picture takes, and a file of one fitting question."""
    folder = shutil.copytree(WEIGHTS / "student", tmp_path_factory.mktemp("short") / "model")
    written = json.loads((folder / "config.json").read_text())
    written["text_config"]["max_position_embeddings"] = 128
    (folder / "config.json").write_text(json.dumps(written))
    write_scenes(folder.parent / "data", ["attribute"], 1)
    return folder


@pytest.mark.parametrize(
    ("field", "says"),
    [("question", "the prompt is too long: "), ("answer", "prompt and text are too long together: ")],
)
def test_a_sample_beyond_the_context_is_a_failed_row_and_the_others_are_measured(short, tmp_path, field, says):
    row = json.loads((short.parent / "data" / "scenes.jsonl").read_text().splitlines()[0])
    row["image"] = str(short.parent / "data" / row["image"])
    rows = [row | {"id": "fits"}, row | {"id": "long", field: "What color is the star? " * 60}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    options = ("--data", tmp_path / "d.jsonl", "--no-figures", "--text", "reference", "--max-new-tokens", 8)
    status, said = gapcheck("analyze", short, *options, "--out", tmp_path / "out")
    assert status == 0, said
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet").set_index("sample_id")
    assert samples["status"].to_dict() == {"fits": "ok", "long": "failed"}
    assert samples.loc["long", "error"].startswith(says)
    assert "tokens, and the model's context has 128" in samples.loc["long", "error"]


def test_room_that_an_answer_does_not_use_is_not_asked_for(short, tmp_path):
    data = short.parent / "data" / "scenes.jsonl"
    status, said = gapcheck(
        "analyze", short, "--data", data, "--limit", 1, "--max-new-tokens", 200, "--no-figures", "--out", tmp_path / "o"
    )
    assert status == 0, said


def test_a_trace_beyond_the_context_is_a_failed_row(short, tmp_path):
    data = short.parent / "data" / "scenes.jsonl"
    row = json.loads(data.read_text().splitlines()[0])
    long = row | {"question": "What color is the star? " * 60}
    data.with_name("long.jsonl").write_text(json.dumps(long) + "\n")
    status, said = gapcheck("trace", short, "--data", data.with_name("long.jsonl"), "--out", tmp_path / "t")
    assert status == 1
    assert "× the prompt is too long: " in said
