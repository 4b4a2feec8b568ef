"""One teacher on one batch, on real tiny checkpoints."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lavit.traces.look import pool, teacher_looks
from perception_gap.gaze.answer import encode, generate, pad_id
from perception_gap.gaze.look import look
from perception_gap.models.loading import LoadedModel, load
from perception_gap.sample import Sample
from tests.models import TRAINED as KINDS

TEXTS = ("what colour is the small star", "which of the two points is closer to the camera")


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint):
    return cache(lambda kind: load(tiny_checkpoint(kind)))


def picture(seed: int, width: int = 112, height: int = 84) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)


def ask(model: LoadedModel, pictures, texts=TEXTS, **options):
    samples = [Sample(str(i), (Path("x"),), text, "a") for i, text in enumerate(texts)]
    return teacher_looks(model, samples, [[p] for p in pictures], **{"max_new_tokens": 4, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_it_sees_what_plain_generation_and_the_analysis_see(kind, loaded):
    model, pictures = loaded(kind), [picture(1), picture(2, 84, 112)]
    found = ask(model, pictures, features=True)
    encoded = model.family.encode([[p] for p in pictures], TEXTS)  # with pixels: nothing is shared
    ids = generate(model, encoded, 4)
    gaze = look(model, encoded, ids, "all")
    whole, _ = encoded.with_answers(ids, pad_id(model))
    with torch.inference_mode():
        states = model.model(**whole.inputs, output_hidden_states=True).hidden_states[-1]
    for b, seen in enumerate(found):
        assert seen.answer == gaze[b].text.strip()
        assert seen.geometry == encoded.geometry[b]
        # The vision features are computed once instead of thrice, by the same kernels.
        assert np.abs(seen.attention - gaze[b].map).max() < 1e-6
        assert seen.mass == pytest.approx(gaze[b].mass, abs=1e-6)
        expected = states[b][whole.image[b]].numpy()
        assert np.abs(seen.features - expected).max() < 1e-4  # states reach 10 in these random models
        assert seen.v_sem == pytest.approx(expected.astype(np.float64).mean(0), abs=1e-4)


def test_the_images_features_take_the_place_of_their_pixels_where_the_model_allows(loaded):
    model = loaded("qwen2_5_vl")
    inputs = encode(model, [[picture(1)]], TEXTS[:1], None).inputs
    assert "mm_encoder_outputs" in inputs
    assert "pixel_values" not in inputs
    assert "mm_encoder_outputs" not in encode(model, [[]], TEXTS[:1], None).inputs


def test_the_mean_cannot_depend_on_the_question_and_the_weighted_one_does(loaded):
    model, same = loaded("qwen2_5_vl"), picture(1)
    first, second = (ask(model, [same], [text])[0] for text in TEXTS)
    assert np.abs(first.v_sem - second.v_sem).max() == 0.0
    assert np.abs(first.attention - second.attention).max() > 1e-3
    first, second = (ask(model, [same], [text], pooling="gaze")[0] for text in TEXTS)
    assert np.abs(first.v_sem - second.v_sem).max() > 1e-3
    # In one batch the longer question pads the shorter: other kernels, equal in half precision but for rounding.
    both = ask(model, [same, same])
    assert np.abs(both[0].v_sem - both[1].v_sem).max() < 1e-5


def test_pooling_by_hand_and_by_scale():
    states, attention = torch.tensor([[1.0, 0.0], [3.0, 8.0]]), torch.tensor([0.1, 0.3])
    assert pool(states, attention, "mean").tolist() == [2.0, 4.0]
    assert pool(states, attention, "gaze").tolist() == pytest.approx([2.5, 6.0])
    assert pool(states, 1e-30 * attention, "gaze").tolist() == pytest.approx([2.5, 6.0])
    assert pool(states, torch.ones(2), "gaze").tolist() == [2.0, 4.0]
    assert pool(states, None, "gaze") is None
    assert pool(states, torch.zeros(2), "gaze") is None
    assert pool(states[:0], attention[:0], "mean") is None
