"""A processor that does not fit its model is refused before weights are read."""

from __future__ import annotations

import json
import shutil

import pytest

from perception_gap.errors import UsageError
from perception_gap.models.loading import load, require_supported
from perception_gap.tiny import WEIGHTS


def _refusal(tmp_path, name: str, *keys: str, value: object = None) -> str:
    """What is said of the embedded student with another value at the keys of one of its files, or without the key."""
    folder = shutil.copytree(WEIGHTS / "student", tmp_path / "model")
    content = json.loads((folder / name).read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if value is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(UsageError) as refused:
        require_supported(str(folder))
    return str(refused.value)


@pytest.mark.parametrize("setting", ["patch_size", "temporal_patch_size", "merge_size"])
@pytest.mark.parametrize("value", [5, 10**30, "x"])
def test_an_image_processor_of_another_patch_is_named_with_both_values(tmp_path, setting, value):
    refusal = _refusal(tmp_path, "processor_config.json", "image_processor", setting, value=value)
    assert f"its image processor has {setting} {value!r}, its config.json " in refusal


def test_a_patch_that_is_not_said_is_the_libraries_default_and_refused(tmp_path):
    refusal = _refusal(tmp_path, "processor_config.json", "image_processor", "patch_size")
    assert "its image processor has patch_size 14, its config.json 16: copy the processor's files" in refusal


def test_a_setting_that_no_picture_survives_is_refused(tmp_path):
    refusal = _refusal(tmp_path, "processor_config.json", "image_processor", "image_mean", value=["x", "y", "z"])
    assert "its processor cannot read a picture (" in refusal


def test_a_generation_config_of_other_types_is_refused(tmp_path):
    folder = shutil.copytree(WEIGHTS / "student", tmp_path / "model")
    (folder / "generation_config.json").write_text('{"pad_token_id": "-1"}')
    with pytest.raises(UsageError, match="does not load: "):
        load(str(folder))


@pytest.mark.parametrize(("key", "value"), [("version", "-1"), ("normalizer", {"type": "x"}), ("truncation", "x")])
def test_a_tokenizer_file_that_does_not_parse_is_refused(tmp_path, key, value):
    assert "has no complete processor" in _refusal(tmp_path, "tokenizer.json", key, value=value)
