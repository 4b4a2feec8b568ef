"""Answers under a cut: against a naive model, against always generating, and unmoved by the batch around them."""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.modeling_utils import AttentionInterface

from lavit.checkpoint import opener
from lavit.latents import LatentSpec, LatentTokens
from perception_gap.attention.capture import find_decoder
from perception_gap.attention.gate import Gate
from perception_gap.data.scenes import scenes
from perception_gap.gaze.answer import encode, generate, pad_id
from perception_gap.gaze.look import look
from perception_gap.knockout.batch import Batch, key_mask, read_under_cuts, under_cut
from perception_gap.knockout.conditions import CONDITIONS, CUTS, FIELDS, ROWS, Knockout
from perception_gap.knockout.reading import plain_greedy, read, remembering
from perception_gap.knockout.rows import rows_of
from perception_gap.knockout.tokens import token_sets
from perception_gap.measure.batch import verdict
from perception_gap.measure.settings import Settings
from perception_gap.models.loading import load
from perception_gap.sample import Sample, prompt_text
from tests.proofs import QUESTIONS, SIZES, picture
from tests.students import with_latents

LIMIT = 16
PLAIN = ("qwen2_5_vl", "llava")


def random_batch(loaded: Any, answers: list[list[int]] | None = None) -> Batch:
    """Two prompts of different length over pictures of different size; own answers unless others are given."""
    pictures = [picture(SIZES["landscape"]), picture(SIZES["portrait"], seed=1)]
    encoded = encode(loaded, [[p] for p in pictures], QUESTIONS, None)
    return Batch.of(loaded, encoded, answers or generate(loaded, encoded, 6), 6)


def some_tokens(batch: Batch, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random(len(geometry)) < 0.6 for geometry in batch.encoded.geometry]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_rows_by_hand(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    batch = random_batch(loaded, [[9, 8, 7], [11]])
    start = batch.encoded.image.shape[1]
    whole, own = batch.encoded.with_answers(batch.answers, 0)
    rows = {name: rows_of(name, whole, start) for name in ROWS}
    answer = [row.nonzero().flatten().tolist() for row in rows["answer"]]
    assert answer == [[start - 1, start, start + 1, start + 2], [start - 1, start]]
    assert torch.equal(rows["question"], whole.question)
    for b in range(2):
        last = int(whole.image[b].nonzero().max())
        visible = whole.inputs["attention_mask"][b].bool().nonzero().flatten()
        assert rows["text"][b].nonzero().flatten().tolist() == [p for p in visible.tolist() if p > last]
    assert (rows["text"] | ~rows["question"]).all()
    assert (rows["text"] | ~rows["answer"]).all()
    assert (rows["text"] | ~own).all()


def test_keys_lie_at_the_image_tokens_in_their_order(tiny_checkpoint):
    batch = random_batch(load(tiny_checkpoint("qwen2_5_vl")), [[9], [8]])
    first = np.zeros(len(batch.encoded.geometry[0]), dtype=bool)
    first[[0, 3]] = True
    keys = key_mask(batch.encoded, [first, None])
    places = batch.encoded.image[0].nonzero().flatten()
    assert keys[0].nonzero().flatten().tolist() == [int(places[0]), int(places[3])]
    assert not keys[1].any()


# --- log-probability -------------------------------------------------------------------------------------------------


def by_definition(loaded: Any, batch: Batch, b: int) -> float:
    """One sample alone, logits of all positions, log-softmax in float64, token by token."""
    alone = loaded.family.encode([[(picture(SIZES["landscape"]), picture(SIZES["portrait"], seed=1))[b]]],
                                 [QUESTIONS[b]])  # fmt: skip
    whole, _ = alone.with_answers([batch.answers[b]], 0)
    with torch.no_grad():
        logits = loaded.model(**whole.inputs, use_cache=False).logits[0].double().log_softmax(-1)
    start = alone.image.shape[1]
    return sum(float(logits[start - 1 + t, token]) for t, token in enumerate(batch.answers[b]))


@pytest.mark.parametrize("kind", PLAIN)
def test_the_log_probability_is_the_sum_over_the_answers_tokens(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    batch = random_batch(loaded, [[9, 8, 7, 30], [11]])
    for b in range(2):  # padding moves positions and sums: logits of up to 30 round to 1e-5, five of them
        assert batch.base.log_probability[b] == pytest.approx(by_definition(loaded, batch, b), abs=2e-3)


def test_an_empty_answer_has_no_log_probability(tiny_checkpoint):
    found = random_batch(load(tiny_checkpoint("qwen2_5_vl")), [[], [11, 12]]).base.log_probability
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


@contextmanager
def naive_attention(model: Any, rows: torch.Tensor, keys: torch.Tensor, layers: list[int]):
    """While open, the chosen layers are plain eager attention whose logits of cut keys are −∞ in the cut rows."""
    kernel = AttentionInterface._global_mapping["sdpa"]
    decoder = find_decoder(model)
    chosen = {module for i in layers for module in decoder.layers[i].modules()}

    def naive(module, query, key, value, attention_mask, scaling=None, **kwargs):
        if module not in chosen:
            return kernel(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        groups = query.shape[1] // key.shape[1]
        key, value = (t.repeat_interleave(groups, dim=1).double() for t in (key, value))
        logits = query.double() @ key.mT * (query.shape[3] ** -0.5 if scaling is None else scaling)
        size = logits.shape[-1]
        seen = torch.ones(size, size, dtype=torch.bool).tril() if attention_mask is None else attention_mask
        seen = seen if seen.dtype == torch.bool else seen > -1e30
        logits = logits.masked_fill(~seen, -torch.inf)
        logits = logits.masked_fill((rows[:, :, None] & keys[:, None])[:, None], -torch.inf)
        return (logits.softmax(-1).nan_to_num() @ value).transpose(1, 2).to(query.dtype), None

    AttentionInterface.register("sdpa", naive)
    try:
        yield
    finally:
        AttentionInterface.register("sdpa", kernel)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layers", ["all", "1"])
def test_a_cut_equals_eager_attention_with_the_keys_logits_at_minus_infinity(tiny_checkpoint, kind, rows, layers):
    loaded = load(tiny_checkpoint(kind))
    batch = random_batch(loaded, [[9, 8, 7], [11]])
    chosen = some_tokens(batch)
    defined, reading, _ = under_cut(batch, rows, chosen, layers)
    assert defined.all()
    start = batch.encoded.image.shape[1]
    whole, _ = batch.encoded.with_answers(batch.answers, pad_id(loaded))
    keys, _ = replace(batch.encoded, image=key_mask(batch.encoded, chosen)).with_answers(batch.answers, 0)
    where = list(range(len(find_decoder(loaded.model).layers))) if layers == "all" else [1]
    with naive_attention(loaded.model, rows_of(rows, whole, start), keys.image, where):
        naive = read(loaded, batch.encoded, batch.answers, 6)
    # float64 softmax against float32, through three layers, of logits of up to about 30.
    assert reading.log_probability == pytest.approx(naive.log_probability, abs=2e-3)
    assert np.abs(reading.log_probability - batch.base.log_probability).max() > 0.02


@pytest.mark.parametrize("rows", ROWS)
def test_cutting_nothing_changes_no_bit(tiny_checkpoint, rows):
    batch = random_batch(load(tiny_checkpoint("qwen2_5_vl")))
    nothing = [np.zeros(len(geometry), dtype=bool) for geometry in batch.encoded.geometry]
    _, reading, given = under_cut(batch, rows, nothing, "all", shortcut=False)
    assert np.array_equal(reading.log_probability, batch.base.log_probability)
    assert given == batch.answers
    one = [nothing[0], some_tokens(batch)[1]]
    _, reading, given = under_cut(batch, rows, one, "all", shortcut=False)
    assert reading.log_probability[0] == batch.base.log_probability[0]
    assert given[0] == batch.answers[0]
    assert reading.log_probability[1] != batch.base.log_probability[1]


def test_a_sample_without_the_set_keeps_its_answer_and_is_not_defined(tiny_checkpoint):
    batch = random_batch(load(tiny_checkpoint("qwen2_5_vl")))
    defined, _, given = under_cut(batch, "text", [None, some_tokens(batch)[1]], "all")
    assert defined.tolist() == [False, True]
    assert given[0] == batch.answers[0]
    defined, _, given = under_cut(batch, "text", [None, None], "all")
    assert not defined.any()
    assert given == batch.answers


# --- the trained tiny models: the shortcut, the batch ----------------------------------------------------------------


def asked(n: int, folder) -> list[Sample]:
    found = []
    for s in scenes(n=n):
        Image.fromarray(s.image).save(folder / f"{s.id}.png")
        boxes = tuple(tuple(float(v) for v in box) for box in s.boxes)
        found.append(Sample(s.id, (folder / f"{s.id}.png",), s.question, s.answer, boxes, (0,) * len(boxes), s.options,
                            s.task, s.pair))  # fmt: skip
    return found


def answered(loaded: Any, samples: list[Sample]) -> tuple[Any, list[list[int]], list[np.ndarray]]:
    prompts = [prompt_text(s.question, s.options) for s in samples]
    encoded = encode(loaded, [[Image.open(s.images[0])] for s in samples], prompts, None)
    answers = generate(loaded, encoded, LIMIT)
    return encoded, answers, [g.map for g in look(loaded, encoded, answers, "all")]


@pytest.mark.parametrize("name", ["tiny:student", "tiny:lavit"])
def test_answers_by_the_shortcut_are_those_of_always_generating(name, tmp_path):
    loaded = opener(name, Settings(load={"device": "cpu"}))
    samples = asked(24, tmp_path)
    encoded, answers, maps = answered(loaded, samples)
    batch = Batch.of(loaded, encoded, answers, LIMIT)
    assert batch.settled.mean() > 0.9, "the shortcut would hardly be used"
    spared = changed = 0
    for rows, tokens in CUTS:
        chosen = [
            token_sets(g, s.unit_boxes([(256, 256)]), np.zeros(len(s.boxes), int), m, 8, 0, s.id).get(tokens)
            for g, s, m in zip(encoded.geometry, samples, maps, strict=True)
        ]
        _, reading, quick = under_cut(batch, rows, chosen, "all")
        _, _, slow = under_cut(batch, rows, chosen, "all", shortcut=False)
        assert quick == slow
        spared += int((batch.settled & reading.greedy).sum())
        changed += sum(a != b for a, b in zip(quick, answers, strict=True))
    assert spared > 100
    assert changed > 20


def test_a_repetition_penalty_leaves_nothing_to_the_shortcut(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    assert plain_greedy(loaded)
    loaded.model.generation_config = copy.deepcopy(loaded.model.generation_config)
    loaded.model.generation_config.repetition_penalty = 1.3
    assert not plain_greedy(loaded)
    assert not random_batch(loaded).settled.any()


def test_an_answer_that_is_not_the_greedy_one_settles_nothing(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    own = random_batch(loaded)
    assert own.answers[0] != [9, 8, 7]
    assert not random_batch(loaded, [[9, 8, 7], [11]]).settled.any()


def test_neither_the_batch_nor_its_order_changes_a_sample(tmp_path):
    loaded = load("tiny:student", device="cpu")
    samples = asked(8, tmp_path)
    settings = Settings(max_new_tokens=LIMIT, knockout=Knockout(seed=5))

    def of(some: list[Sample]) -> dict[str, Any]:
        encoded, answers, maps = answered(loaded, some)
        pictures = [[Image.open(s.images[0])] for s in some]
        cuts = read_under_cuts(
            loaded, settings.knockout, settings.prompting, some, pictures, encoded, answers, maps, verdict
        )
        return {s.id: cut for s, cut in zip(some, cuts, strict=True)}

    fours = of(samples[:4]) | of(samples[4:])
    others = {"backwards": of(samples[::-1]), "alone": {k: v for s in samples for k, v in of([s]).items()}}
    for found in others.values():
        for s in samples:
            # Padding moves the start of positions: float32 sums differ, log-probabilities by less than 1e-3.
            np.testing.assert_allclose(found[s.id].values, fours[s.id].values, atol=1e-3, rtol=0)
            assert found[s.id].answers == fours[s.id].answers
    values = np.stack([fours[s.id].values for s in samples])
    assert values.shape == (8, 1 + len(CONDITIONS), len(FIELDS))
    undefined = np.isnan(values[:, -1, FIELDS.index("log_probability")])
    assert [s.task for s, u in zip(samples, undefined, strict=True) if u] == ["relative_reflectance"]
    for cut in fours.values():
        for row, text in zip(cut.values[1:], cut.answers, strict=True):
            assert (text is not None) == (row[FIELDS.index("changed")] == 1)


# --- latent tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["token", "continuous"])
@pytest.mark.parametrize("rows", ROWS)
def test_latents_are_read_under_the_cut_as_well(tiny_checkpoint, kind, rows):
    """The cut answer, read teacher-forced, is the one that is written token by token under the same cut."""
    spec = LatentSpec.numbered(3, kind=kind)
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), spec, device="cpu")
    loaded.latents = LatentTokens(spec, loaded.processor.tokenizer)
    batch = random_batch(loaded)
    chosen = [np.ones(len(geometry), dtype=bool) for geometry in batch.encoded.geometry]
    _, reading, given = under_cut(batch, rows, chosen, "all", shortcut=False)
    again = Batch.of(loaded, batch.encoded, given, 6)
    _, forced, _ = under_cut(again, rows, chosen, "all")
    # An answer that lost a special token on the way is not what was written, and never taken for it.
    whole_answers = [len(ids) == 6 for ids in given]
    assert any(whole_answers)
    assert forced.greedy.tolist() == whole_answers
    if rows == "text":
        # By hand: latents, template and answer are behind the image, so nothing but the image itself is read by it.
        start = batch.encoded.image.shape[1]
        whole, _ = batch.encoded.with_answers(batch.answers, pad_id(loaded))
        with Gate(loaded.model, rows_of("text", whole, start), whole.image, 0.0, beginnings=True):
            by_hand = read(loaded, batch.encoded, batch.answers, 6)
        assert np.array_equal(by_hand.log_probability, reading.log_probability)
    assert np.abs(reading.log_probability - batch.base.log_probability).max() > 1e-3


def test_a_cut_holds_beside_latents_that_are_hidden_from_the_answer(tiny_checkpoint):
    """Two gates on the same rows: with the image cut from all text, its pixels must not matter at all."""
    spec = LatentSpec.numbered(2)
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), spec, device="cpu")
    loaded.latents = LatentTokens(spec, loaded.processor.tokenizer, "mask")
    found = []
    for seed in (0, 5):
        encoded = encode(loaded, [[picture(SIZES["square"], seed=seed)]], QUESTIONS[:1], None)
        batch = Batch.of(loaded, encoded, [[9, 8, 7]], 6)
        everything = [np.ones(len(encoded.geometry[0]), dtype=bool)]
        found.append((batch.base.log_probability[0], under_cut(batch, "text", everything, "all")[1].log_probability[0]))
    assert abs(found[0][0] - found[1][0]) > 1e-3
    assert found[0][1] == found[1][1]


# --- caches that forget ----------------------------------------------------------------------------------------------


def test_models_with_a_window_generate_without_a_cache_once_it_is_too_short(tiny_checkpoint):
    loaded = load(tiny_checkpoint("llava"))
    config, generation = find_decoder(loaded.model).config, loaded.model.generation_config
    before = generation.use_cache
    for window, length, without in ((None, 500, False), (64, 60, False), (64, 65, True)):
        config.sliding_window = window
        config.layer_types = ["full_attention"] if window is None else ["full_attention", "sliding_attention"]
        with remembering(loaded, length) if length else nullcontext():
            assert (generation.use_cache is False) == without
        assert generation.use_cache == before
