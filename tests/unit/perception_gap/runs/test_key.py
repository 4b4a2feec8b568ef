"""The key of a row changes with everything that decides it, and with nothing else."""

import numpy as np
from PIL import Image

from perception_gap.data.images import Contents
from perception_gap.runs import key as keys
from perception_gap.runs.key import image_hashes, key_of, provenance, sample_content, versions
from perception_gap.sample import Sample


def test_equal_values_have_one_key_and_others_another():
    assert key_of(3, {"a": 1, "b": (2,)}) == key_of(3, {"b": [2], "a": 1})
    assert len({key_of(*decided) for decided in [(3,), (4,), ("3",), (None,), (3, None), ([3],), ({"a": 3},)]}) == 7
    assert len(key_of()) == 32
    assert set(key_of(1)) <= set("0123456789abcdef")


def test_a_sample_is_another_one_by_each_of_its_parts(tmp_path):
    whole = {"id": "a", "question": "q?", "answer": "red", "options": ("red", "blue"), "task": "t", "pair": "p"}
    sample = Sample(images=(tmp_path / "a.png",), **whole)
    others = [
        Sample(images=(tmp_path / "a.png",), **(whole | change))
        for change in (
            {"id": "b"},
            {"question": "q"},
            {"answer": "blue"},
            {"options": ("blue", "red")},
            {"task": "u"},
            {"pair": None},
        )
    ]
    seen = {key_of(sample_content(tmp_path, each, "hash")) for each in [sample, *others]}
    assert len(seen) == 1 + len(others)
    assert key_of(sample_content(tmp_path, sample, "other")) not in seen


def test_pictures_of_one_set_of_files_are_read_once(tmp_path, monkeypatch):
    for i, name in enumerate(("a.png", "b.png")):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / name)
    a, b = (tmp_path / "a.png",), (tmp_path / "b.png",)
    read = []
    plain = Contents.of
    monkeypatch.setattr(keys.Contents, "of", lambda paths: read.append(paths) or plain(paths))
    hashes = image_hashes([Sample(str(i), paths, "q", "r") for i, paths in enumerate((a, b, a, a))])
    assert hashes == [plain(a).hash, plain(b).hash, plain(a).hash, plain(a).hash]
    assert read == [a, b]


def test_a_run_says_what_made_it():
    made_by = provenance(4, "gapcheck analyze x", "numpy")
    assert (made_by["schema_version"], made_by["command"]) == (4, "gapcheck analyze x")
    assert made_by["created"].endswith("+00:00")
    assert made_by["versions"] == versions() | {"numpy": np.__version__}
    assert {"python", "gapcheck", "torch", "transformers"} <= set(versions())
    assert "no-such-package" not in versions("no-such-package")
