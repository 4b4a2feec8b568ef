from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload

import perception_gap
from perception_gap.attention.capture import AttentionCapture
from perception_gap.errors import DamagedError, GapcheckError, UnsupportedModelError, UsageError
from perception_gap.models.loading import LoadedModel, load
from perception_gap.tiny import WEIGHTS
from tests.models import KINDS
from tests.proofs import QUESTIONS, picture


@pytest.fixture
def copied(tiny_checkpoint, tmp_path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint("qwen2_5_vl"), tmp_path / "model"))


def _rows(loaded: LoadedModel) -> list[torch.Tensor]:
    pictures = [[picture((90, 60))], [picture((60, 90), seed=1)]]
    encoded = loaded.family.encode(pictures, list(QUESTIONS)).to("cpu", loaded.dtype)
    with torch.no_grad(), AttentionCapture(loaded.model, encoded.question, encoded.image) as capture:
        loaded.model(**encoded.inputs)
    return capture.attention


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_checkpoint_loads_with_its_family_in_eval_mode(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind), device="cpu")
    assert kind.startswith(loaded.family.name)  # some model types have several kinds
    assert loaded.name == str(tiny_checkpoint(kind))
    assert not loaded.model.training
    assert loaded.dtype == torch.float32
    assert loaded.device == torch.device("cpu")
    # Gemma 2 has no sdpa in transformers.
    assert loaded.model.config.text_config._attn_implementation == ("eager" if kind == "paligemma2" else "sdpa")


def test_load_is_exported_and_importing_the_package_imports_no_torch():
    assert perception_gap.load is load
    code = "import sys, perception_gap; assert perception_gap.__version__ == '0.1.0'; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        perception_gap.lod  # noqa: B018


def test_auto_dtype_is_float32_on_a_cpu_and_a_name_overrides_it(tiny_checkpoint, tmp_path):
    half = load(tiny_checkpoint("llava"), device="cpu", dtype="bf16")
    assert half.dtype == torch.bfloat16
    half.model.save_pretrained(tmp_path)
    half.processor.save_pretrained(tmp_path)
    assert load(tmp_path, device="cpu").dtype == torch.float32
    assert load(tmp_path, device_map={"": "cpu"}).dtype == torch.float32


def test_bfloat16_rows_stay_near_float32(tiny_checkpoint):
    # bfloat16 keeps 8 bits; three layers of a random model accumulate to a few per cent of a row's largest weight.
    exact, half = (_rows(load(tiny_checkpoint("qwen2_5_vl"), device="cpu", dtype=d)) for d in ("fp32", "bf16"))
    worst = max((a - b).abs().max().item() for a, b in zip(exact, half, strict=True))
    assert 0 < worst < 0.05


def test_revision_of_a_folder_follows_its_files(copied):
    before = load(copied).revision
    assert before.startswith("sha256:")
    assert len(before) == len("sha256:") + 16
    assert load(copied).revision == before
    os.utime(copied / "model.safetensors", ns=(0, 0))
    assert load(copied).revision == before  # the same contents
    config = copied / "config.json"
    config.write_text(config.read_text().replace("\n", "\n ", 1))
    assert load(copied).revision != before


def test_pixel_limits_change_the_number_of_tokens_where_they_mean_something(tiny_checkpoint):
    folder = tiny_checkpoint("qwen2_5_vl")
    few = load(folder, max_pixels=4 * 28 * 28).family.encode([[picture((200, 200))]], ["Why?"])
    many = load(folder, min_pixels=36 * 28 * 28).family.encode([[picture((40, 40))]], ["Why?"])
    assert len(few.geometry[0]) == 4
    assert len(many.geometry[0]) == 36
    with pytest.raises(UsageError, match="min_pixels 900 and max_pixels 800"):
        load(folder, min_pixels=900, max_pixels=800)
    with pytest.raises(UsageError, match="mean nothing to llava"):
        load(tiny_checkpoint("llava"), max_pixels=1000)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
def test_rows_are_the_same_under_offload_to_cpu_and_disk(tiny_checkpoint, tmp_path, kind):
    folder = tiny_checkpoint(kind)
    plain = _rows(load(folder))
    on_cpu, on_disk = load(folder), load(folder)
    cpu_offload(on_cpu.model, execution_device=torch.device("cpu"))
    disk_offload(on_disk.model, str(tmp_path), execution_device=torch.device("cpu"))
    for offloaded in (on_cpu, on_disk):
        assert all(p.device.type == "meta" for p in offloaded.model.model.language_model.layers.parameters())
        for mine, expected in zip(_rows(offloaded), plain, strict=True):
            torch.testing.assert_close(mine, expected, rtol=0, atol=1e-6)


def test_rows_are_the_same_under_a_device_map_with_the_disk(tiny_checkpoint):
    folder = tiny_checkpoint("llava")
    places = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu", "lm_head": "cpu"}
    mapped = load(folder, device_map={**places, "model.language_model": "disk"})
    assert mapped.device == torch.device("cpu")
    assert any(p.device.type == "meta" for p in mapped.model.parameters())
    for mine, expected in zip(_rows(mapped), _rows(load(folder)), strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-6)


def test_embedded_models_load_by_name():
    present = sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))
    if not present:
        pytest.skip("no embedded weights yet")
    for name in present:
        loaded = load(f"tiny:{name}")
        assert loaded.name == f"tiny:{name}"
        assert loaded.family.name == "qwen2_5_vl"


def _refusal(*args, kind: type[GapcheckError] = UsageError, **options) -> str:
    with pytest.raises(kind) as caught:
        load(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_names_that_lead_nowhere_are_refused_in_one_line(tmp_path):
    assert "'tiny:nobody' is not embedded; present: " in _refusal("tiny:nobody")
    assert "is not embedded" in _refusal("tiny:")
    assert "'/no/such/folder' does not exist: expected a folder, a hub id" in _refusal("/no/such/folder")
    assert "has no config.json" in _refusal(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"")
    assert "is a file: expected the folder" in _refusal(tmp_path / "weights.bin")


def test_an_unreachable_hub_fails_fast(monkeypatch):
    # Port 9 of this machine: nobody answers, so the connection is refused at once, as without a network.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    message = _refusal("nobody-here/no-such-model-of-gapcheck")
    assert time.monotonic() - start < 15
    assert "'nobody-here/no-such-model-of-gapcheck' is no folder" in message
    assert "hub id" in message


def test_unknown_settings_are_refused_with_the_known_ones(tiny_checkpoint):
    folder = tiny_checkpoint("llava")
    assert "dtype 'float8': expected auto, float32" in _refusal(folder, dtype="float8")
    assert "device 'gpu': expected auto, cpu" in _refusal(folder, device="gpu")
    assert "quantization '2bit'" in _refusal(folder, quantization="2bit")
    assert "does not load" in _refusal(folder, attn="no_such_kernel")
    if find_spec("bitsandbytes") is None:
        assert "pip install bitsandbytes" in _refusal(folder, quantization="4bit")
    if not torch.cuda.is_available():
        assert "no CUDA device" in _refusal(folder, device="cuda")


def test_architectures_without_image_tokens_or_family_are_refused(copied):
    def rewrite(**fields):
        (copied / "config.json").write_text(json.dumps(fields))

    rewrite(model_type="llama", hidden_size=8, num_attention_heads=2)
    assert "'llama' has no adapter here, and it is text-only" in _refusal(copied, kind=UnsupportedModelError)
    rewrite(model_type="llama", hidden_size=8, num_attention_heads=3)
    assert "does not understand" in _refusal(copied, kind=UnsupportedModelError)
    rewrite(model_type="blip-2")
    assert "'blip-2' has no adapter here, and " in _refusal(copied, kind=UnsupportedModelError)
    rewrite(model_type="not_a_model")
    assert "not_a_model" in _refusal(copied, kind=UnsupportedModelError)
    (copied / "config.json").write_text("{")
    assert "config.json" in _refusal(copied)


@pytest.mark.parametrize("missing", ["image processor", "tokenizer", "both"])
def test_a_checkpoint_without_its_processor_says_what_to_add(copied, missing):
    for path in copied.iterdir():
        of_images = path.name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
        of_text = "token" in path.name
        if (of_images and missing != "tokenizer") or (of_text and missing != "image processor"):
            path.unlink()
    assert "has no complete processor: expected tokenizer files and preprocessor_config.json" in _refusal(copied)


def test_damaged_or_incomplete_weights_are_refused(copied):
    from safetensors.torch import load_file, save_file

    weights = copied / "model.safetensors"
    tensors = load_file(weights)
    dropped = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file({n: t for n, t in tensors.items() if n != dropped}, weights, metadata={"format": "pt"})
    assert "lacks 1 of its weights" in _refusal(copied)
    weights.write_bytes(b"not a checkpoint")
    assert "not a whole safetensors file" in _refusal(copied, kind=DamagedError)
    weights.unlink()
    assert "has no model.safetensors" in _refusal(copied)
