"""PEFT adapters as models: merged into the base that they name, or one line why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from perception_gap.errors import UsageError
from perception_gap.models.loading import find_file, load, require_supported, revision_of
from tests.proofs import picture


@pytest.fixture
def base(tiny_checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("qwen2_5_vl"), tmp_path / "base"))


@pytest.fixture
def adapter(base, tmp_path) -> Path:
    """What PEFT's save_pretrained writes, with a change that the logits show."""
    torch.manual_seed(1)
    targets = ["q_proj", "v_proj"]
    adapted = get_peft_model(
        load(base, device="cpu").model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def _name_base(adapter: Path, base: str | None) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))


@torch.inference_mode()
def _logits(folder: Path) -> torch.Tensor:
    loaded = load(folder, device="cpu")
    encoded = loaded.family.encode([[picture((64, 64))]], ["What is red?"])
    return loaded.model(**encoded.inputs).logits


def test_adapter_folder_is_the_base_with_the_adapter_merged(base, adapter, tmp_path):
    from peft import PeftModel

    by_hand = load(base, device="cpu")
    merged = PeftModel.from_pretrained(by_hand.model, adapter).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    by_hand.processor.save_pretrained(tmp_path / "merged")
    assert torch.equal(_logits(adapter), _logits(tmp_path / "merged"))
    assert not torch.allclose(_logits(adapter), _logits(base), atol=1e-3)
    assert require_supported(str(adapter)).name == "qwen2_5_vl"


def test_base_is_found_beside_the_adapter(adapter, monkeypatch, tmp_path):
    whole = _logits(adapter)
    _name_base(adapter, "../base")
    monkeypatch.chdir("/")
    assert torch.equal(_logits(adapter), whole)


def test_base_may_be_an_embedded_model(adapter):
    _name_base(adapter, "tiny:student")
    with pytest.raises(UsageError, match=r"adapter '.*' does not fit its base: "):
        load(adapter, device="cpu")
    assert require_supported(str(adapter)).name == "qwen2_5_vl"


def test_processor_is_the_adapter_s_own_where_it_has_one(base, adapter):
    assert load(adapter, device="cpu").processor.tokenizer.name_or_path == str(base)
    load(base, device="cpu").processor.save_pretrained(adapter)
    assert load(adapter, device="cpu").processor.tokenizer.name_or_path == str(adapter)
    assert find_file(str(adapter), "config.json") == base / "config.json"


def test_revision_covers_adapter_and_base(base, adapter):
    before = revision_of(str(adapter))
    assert before == load(adapter, device="cpu").revision
    assert before not in (revision_of(str(base)), None)
    weights = adapter / "adapter_model.safetensors"
    save_file({key: value * 2 for key, value in load_file(weights).items()}, weights)
    changed = revision_of(str(adapter))
    generation = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps(generation | {"top_k": 7}))
    assert len({before, changed, revision_of(str(adapter))}) == 3


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("/nowhere/base", r"its base: model '/nowhere/base' does not exist"),
        ("nobody/nothing-here", r"its base: model 'nobody/nothing-here' is no"),
        (None, r"names no base model \(base_model_name_or_path\)"),
        ("tiny:none", r"its base: model 'tiny:none' is not embedded"),
        ("adapter-too", r"its base '.*adapter-too' is an adapter too: merge that one first"),
    ],
)
def test_base_that_is_not_there_is_named_with_what_to_do(adapter, named, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if named == "adapter-too":
        shutil.copytree(adapter, adapter / "adapter-too")
    _name_base(adapter, named)
    with pytest.raises(UsageError, match=message) as refused:
        load(adapter, device="cpu")
    assert str(refused.value).startswith(f"adapter {str(adapter)!r}")
    assert "\n" not in str(refused.value)
    assert "merge" in str(refused.value)


def test_adapter_with_missing_or_foreign_tensors_is_refused(adapter):
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    first = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != first}, weights)
    with pytest.raises(UsageError, match=r"does not fit its base: 1 tensors"):
        load(adapter, device="cpu")
    save_file(tensors | {first.replace("layers.0", "layers.9"): tensors[first].clone()}, weights)
    with pytest.raises(UsageError, match=r"does not fit its base: 1 tensors.*layers\.9"):
        load(adapter, device="cpu")
    weights.unlink()
    with pytest.raises(UsageError, match="does not fit its base"):
        load(adapter, device="cpu")


def test_a_damaged_adapter_config_is_one_line(adapter):
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(UsageError, match=r"adapter_config.json cannot be read \(.*\): fetch it again"):
        load(adapter, device="cpu")
