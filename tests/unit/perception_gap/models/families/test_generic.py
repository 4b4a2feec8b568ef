"""A model type without an adapter: what is checked, what is said, what is refused; and the example of the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import Blip2Config, LlamaConfig, MllamaConfig

from perception_gap.errors import UnsupportedModelError, UsageError
from perception_gap.models.families import FAMILIES, family_for
from perception_gap.models.families.base import Family
from perception_gap.models.families.generic import Generic
from perception_gap.models.loading import load
from tests.proofs import SIZES, picture

ROOT = Path(__file__).parents[5]
DOCS = ROOT / "docs" / "families.md"


@pytest.mark.parametrize(("kind", "grids"), [("vipllava", "6 × 6 and 6 × 6"), ("paddleocr_vl", "5 × 7 and 7 × 5")])
def test_a_plain_grid_is_read_and_what_was_assumed_is_said(tiny_checkpoint, kind, grids):
    family = load(tiny_checkpoint(kind)).family
    assert isinstance(family, Generic)
    assert family.assumed == (
        f"model type {kind!r} has no adapter here: its image tokens are taken for one grid ({grids} for pictures of "
        "320 × 240 and 200 × 300), row by row from the top left"
    )


def test_families_with_an_adapter_assume_nothing(tiny_checkpoint):
    assert load(tiny_checkpoint("qwen2_5_vl")).family.assumed is None


def test_a_grid_by_hand(tiny_checkpoint):
    # 112 × 56 in patches of 14, merged 2 × 2: 2 rows of 4 tokens.
    geometry = load(tiny_checkpoint("paddleocr_vl")).family.encode([[picture((112, 56))]], ["What?"]).geometry[0]
    assert geometry.grid_shape == (2, 4)
    # 210 × 120 resized to 147 × 84, cropped to 84 from column 31, as LLaVA-1.5 does it.
    boxes = load(tiny_checkpoint("vipllava")).family.encode([[picture((210, 120))]], ["What?"]).geometry[0].boxes
    assert boxes[0, :2].tolist() == pytest.approx([31 / 147, 0])
    assert boxes[-1, 2:].tolist() == pytest.approx([115 / 147, 1])


def test_pixel_limits_whose_meaning_is_not_known_are_refused(tiny_checkpoint):
    with pytest.raises(UsageError, match="paddleocr_vl has no adapter here, so what its limits mean is not known"):
        load(tiny_checkpoint("paddleocr_vl"), max_pixels=10000)


def test_tokens_that_are_no_grid_are_refused_with_the_list_and_the_way(tiny_checkpoint, monkeypatch):
    folder = tiny_checkpoint("llava_next")
    monkeypatch.delitem(FAMILIES, "llava_next")
    with pytest.raises(
        UnsupportedModelError,
        match=r"'llava_next' has no adapter here, and its processor gives pixel_values of shape \(1, .*, 3, 56, 56\), "
        r"not one canvas a picture; known families: .*qwen2_5_vl.*; docs/families\.md says how to add one \(one file\)",
    ):
        load(folder)
    loaded = load(tiny_checkpoint("vipllava"))
    loaded.processor.num_additional_image_tokens = 3  # 38 tokens of a canvas of 36 patches
    with pytest.raises(UnsupportedModelError, match="38 image tokens for a canvas of 84 × 84 in patches of 14 are no"):
        family_for(loaded.model.config, loaded.processor)


@pytest.mark.parametrize("config", [Blip2Config, MllamaConfig, LlamaConfig])
def test_models_without_image_tokens_of_a_place_are_refused(config, tiny_checkpoint):
    processor = load(tiny_checkpoint("llava")).processor
    with pytest.raises(UnsupportedModelError, match="known families"):
        family_for(config(), processor)


def test_the_example_of_the_docs_is_an_adapter(tiny_checkpoint, monkeypatch):
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    there: dict = {"__name__": "example"}
    exec(compile(code[1], str(DOCS), "exec"), there)
    guessed = load(tiny_checkpoint("paddleocr_vl")).family
    monkeypatch.setitem(FAMILIES, "paddleocr_vl", there["PaddleOcr"])
    family: Family = load(tiny_checkpoint("paddleocr_vl")).family
    assert type(family).__name__ == "PaddleOcr"
    assert family.largest_area() == guessed.largest_area() == 28 * 28 * 40
    for size in SIZES.values():
        mine, theirs = (f.encode([[picture(size)]], ["What?"]).geometry[0] for f in (family, guessed))
        assert mine == theirs


def test_the_readme_names_every_model_type():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Models")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z0-9_]+)`", table)) >= set(FAMILIES)
