"""Prompts and vision features on disk: what comes back, what is damaged, and that nothing is unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lavit.traces import Trace
from lavit.vision_cache import VisionCache, prompt_of, vision_features
from perception_gap.errors import DamagedError, UnsupportedModelError
from perception_gap.models.loading import load
from perception_gap.sample import Sample
from tests.models import TRAINED as KINDS

SIZES = [(154, 266), (266, 154), (112, 112)]


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> list[Trace]:
    """Thirty-five traces of three pictures: more than one file."""
    folder, found = tmp_path_factory.mktemp("pictures"), []
    for i in range(35):
        height, width = SIZES[i % 3]
        path = folder / f"{i % 3}.png"
        Image.fromarray(np.random.default_rng(i % 3).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
        sample = Sample(str(i), (path,), f"What is number {i}?", "red")
        found.append(Trace(sample, "red", str(i % 3), None, None, None, [(height, width)]))
    return found


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "qwen3_vl"])
def test_every_prompt_comes_back_with_the_features_of_its_picture(tiny_checkpoint, traces, tmp_path, kind):
    loaded = load(tiny_checkpoint(kind))
    cache = VisionCache.build(tmp_path, loaded, traces[:3], "Briefly.", None)
    for i in (2, 0, 1):
        found, expected = cache[i], prompt_of(loaded.family, traces[i], "Briefly.", None)
        kept = {name: value for name, value in expected.inputs.items() if name != "pixel_values"}
        assert found.inputs.keys() == kept.keys() | {"image_features"}
        for name, value in kept.items():
            assert torch.equal(found.inputs[name], value)
            assert found.inputs[name].dtype == value.dtype
        assert torch.equal(found.image, expected.image)
        assert torch.equal(found.question, expected.question)
        assert found.geometry == expected.geometry
        assert found.geometry[0].grid_shape == expected.geometry[0].grid_shape
        assert found.appended_type == expected.appended_type
        features = vision_features(loaded, expected)
        assert len(found.inputs["image_features"]) == int(expected.image.sum())
        # The tower saw one picture at a time here, three there.
        torch.testing.assert_close(found.inputs["image_features"], features, atol=1e-3, rtol=0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def test_a_cache_is_built_once_and_damaged_files_are_named(tiny_checkpoint, traces, tmp_path):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    build = lambda: VisionCache.build(tmp_path, loaded, traces, "", None)  # noqa: E731
    folder = build().folder
    assert sorted(p.name for p in folder.iterdir()) == ["000000.safetensors", "000032.safetensors", "manifest.json"]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    cache = build()
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    flip(folder / "000032.safetensors")
    assert cache[31].image.any()
    with pytest.raises(DamagedError, match=r"000032.safetensors: damaged \(its checksum differs\); delete the folder"):
        cache[32]
    (folder / "000000.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"000000.safetensors: damaged"):
        build()[0]
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DamagedError, match=r"manifest.json: damaged .*delete the folder"):
        build()


def test_a_pickle_in_a_shared_cache_is_not_opened(tiny_checkpoint, traces, tmp_path):
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (ran,)

    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    folder = VisionCache.build(tmp_path, loaded, traces[:2], "", None).folder
    for name in ("prompts.pkl", "000000.safetensors"):
        (folder / name).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DamagedError, match="damaged"):
        VisionCache.build(tmp_path, loaded, traces[:2], "", None)[0]
    assert not ran.exists()


def test_a_tower_that_gives_more_than_a_vector_a_token_leaves_nothing_behind(tiny_checkpoint, traces, tmp_path):
    with pytest.raises(UnsupportedModelError, match="leave --cache-vision out"):
        VisionCache.build(tmp_path, load(tiny_checkpoint("qwen3_vl")), traces[:2], "", None)
    assert list(tmp_path.iterdir()) == []
