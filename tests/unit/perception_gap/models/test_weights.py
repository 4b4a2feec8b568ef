"""What a folder's weight files say of themselves, before a model is built."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from perception_gap.errors import DamagedError, UsageError
from perception_gap.models.loading import load
from perception_gap.tiny import WEIGHTS

STUDENT = WEIGHTS / "student"


@pytest.fixture
def folder(tmp_path) -> Path:
    return shutil.copytree(STUDENT, tmp_path / "model")


def configured(folder: Path, part: str | None, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config if part is None else config[part]).update(values)
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder: Path) -> str:
    with pytest.raises((DamagedError, UsageError)) as caught:
        load(folder)
    said = str(caught.value)
    assert str(folder) in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("part", "values", "says"),
    [
        ("text_config", {"hidden_size": 16_384}, "weights, its files hold 1,4"),
        ("text_config", {"vocab_size": 10**9}, "128,001,384,448 weights"),
        ("text_config", {"hidden_size": -5}, "no model can be built"),
        ("text_config", {"num_attention_heads": 0}, "no model can be built"),
        ("vision_config", {"depth": 10**5}, "vision_config.depth = 100,000, its weight files hold 80"),
        ("vision_config", {"patch_size": 10**4}, "its image processor has patch_size 16, its config.json 10000"),
        ("text_config", {"intermediate_size": 257}, "other shapes than its config.json says"),
    ],
)
def test_a_configuration_that_its_weights_do_not_have_is_said_before_anything_is_built(folder, part, values, says):
    configured(folder, part, **values)
    assert says in refused(folder)


def test_pickled_weights_are_never_opened(folder):
    ran = folder / "ran"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (ran,)

    (folder / "model.safetensors").unlink()
    torch.save(Hostile(), folder / "pytorch_model.bin")
    said = refused(folder)
    assert "pickled (pytorch_model.bin)" in said
    assert "convert them to safetensors" in said
    assert not ran.exists()


def test_weights_that_are_not_whole_are_named(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for content, says in ((whole[: len(whole) // 2], "not a whole"), (b"", "not a whole"),
                          (struct.pack("<Q", 2**62) + whole[8:], "not a whole")):  # fmt: skip
        weights.write_bytes(content)
        assert says in refused(folder)
    weights.unlink()
    assert "has no model.safetensors" in refused(folder)


def test_shards_are_read_and_missing_ones_named(folder):
    index, tensors = folder / "model.safetensors.index.json", load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half = dict(list(tensors.items())[::2])
    save_file(half, folder / "one.safetensors", metadata={"format": "pt"})
    save_file(
        {n: t for n, t in tensors.items() if n not in half}, folder / "two.safetensors", metadata={"format": "pt"}
    )
    places = {name: "one.safetensors" if name in half else "two.safetensors" for name in tensors}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    assert load(folder).model.num_parameters() == load(STUDENT).model.num_parameters()
    for bad, says in (
        ({"metadata": {}, "weight_map": places | {"x": "three.safetensors"}}, "'three.safetensors', which is not"),
        ({"metadata": {}, "weight_map": places | {"x": "../model/one.safetensors"}}, "which is not in the folder"),
        ({"weight_map": places}, "metadata is missing"),
        ({"metadata": {}, "weight_map": [1]}, "weight_map is a list"),
    ):
        index.write_text(json.dumps(bad))
        assert says in refused(folder)
    index.write_text("{")
    assert "not valid JSON" in refused(folder)
