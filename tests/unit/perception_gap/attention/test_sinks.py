"""Attention sinks: the criterion by hand and against a naive reading of it, and one planted in a real tiny model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from perception_gap import metrics
from perception_gap.attention.capture import find_decoder
from perception_gap.attention.sinks import SinkFinder, sink_dimensions, sink_tokens
from perception_gap.gaze.answer import encode, encode_text
from perception_gap.gaze.look import look
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel, load
from perception_gap.runs.run import Run
from tests.command import gapcheck

WIDTH, PLANTED, TOKEN = 512, 77, 5  # of the state; the dimension and the image token of the planted activation
QUESTION = "what colour is the star"


def state(width=WIDTH, **large):
    values = torch.ones(width)
    for name, value in large.items():
        values[int(name[1:])] = value
    return values


# --- the criterion ----------------------------------------------------------------------------------------------------


def test_a_massive_activation_is_large_in_itself_and_beside_the_median():
    small = torch.full((3, WIDTH), 0.05)
    small[1, 9] = 101.0
    assert sink_dimensions(small).nonzero().flatten().tolist() == [9]
    small[1, 9] = -101.0  # a magnitude
    assert sink_dimensions(small)[9]
    small[1, 9] = 100.0  # not above 100
    assert not sink_dimensions(small).any()
    assert not sink_dimensions(state(_9=999.5)[None]).any()  # 999.5 × the median, which is 1
    assert sink_dimensions(state(_9=1001.0)[None])[9]


def test_a_sink_has_twenty_times_the_root_mean_square_of_its_own_state():
    dimensions = torch.zeros(WIDTH, dtype=torch.bool)
    dimensions[9] = True
    # x / √((x² + 511) / 512) = 20  →  x² (1 − 400/512) = 400 · 511/512
    edge = np.sqrt(400 * 511 / 512 / (1 - 400 / 512))
    states = torch.stack([state(_9=edge * 1.001), state(_9=edge * 0.999), state(_8=1e4), state(_9=-edge * 1.001)])
    assert sink_tokens(states, dimensions).tolist() == [True, False, False, True]
    assert sink_tokens(1e-3 * states, dimensions).tolist() == [True, False, False, True]  # its own scale, no other
    assert not sink_tokens(torch.zeros(2, WIDTH), dimensions).any()
    # Squares of the one would overflow, of the other vanish.
    extremes = torch.stack([state(_9=3e38), 3e38 * state(), 1e-30 * state(_9=1e3)])
    assert sink_tokens(extremes, dimensions).tolist() == [True, False, True]


def naive(states: np.ndarray, visible: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Both criteria as they are written, for one sample and layer; all but exact ties of the median."""
    seen = np.abs(states[visible])
    median = np.sort(seen.ravel())[(seen.size - 1) // 2]
    named = [d for d in range(states.shape[1]) if seen[:, d].max() > 100 and seen[:, d].max() > 1000 * median]
    tokens = states[image]
    return np.array([any(abs(x[d]) >= 20 * np.sqrt(np.mean(x**2)) for d in named) for x in tokens])


def test_random_states_with_some_large_ones_agree_with_the_naive_reading():
    rng, found = np.random.default_rng(0), 0
    for _ in range(20):
        states = rng.normal(size=(30, WIDTH)) * 0.1
        for token in rng.choice(30, 6, replace=False):
            states[token, rng.choice(WIDTH)] = rng.choice([30.0, 90.0, 150.0, 400.0])
        visible, image = np.arange(30) >= 4, (np.arange(30) >= 10) & (np.arange(30) < 22)
        tensor = torch.tensor(states, dtype=torch.float32)
        ours = sink_tokens(tensor[torch.tensor(image)], sink_dimensions(tensor[torch.tensor(visible)])).numpy()
        np.testing.assert_array_equal(ours, naive(states.astype(np.float32), visible, image))
        found += ours.sum()
    assert 10 < found < 100  # some are, most are not


def one_layer() -> torch.nn.Module:
    """A decoder of one layer that hands on what it is given first."""

    class First(torch.nn.Module):
        def forward(self, states, *rest):
            return states

    decoder = torch.nn.Module()
    decoder.layers = torch.nn.ModuleList([First()])
    return decoder


def test_padding_neither_names_a_dimension_nor_is_asked_and_samples_are_apart():
    states = torch.full((3, 6, WIDTH), 0.01)
    states[:, 3, 9] = 50.0  # 22 times the root mean square of its state, but not massive in itself
    states[0, 0, 9] = 1e5  # padding: names no dimension
    states[1, 4, 9] = 1e5  # a text token of another sample: names one for that sample alone
    states[2, :2] = 1e5  # padding does not lift the median either
    states[2, 5, 9] = 150.0
    visible = torch.tensor([[0, 1, 1, 1, 1, 1], [1] * 6, [0, 0, 1, 1, 1, 1]]).bool()
    image = torch.tensor([[0, 0, 1, 1, 0, 0]] * 3).bool()
    model = one_layer()
    with SinkFinder(model, visible, image) as finder:
        model.layers[0](states, torch.ones(3, 6))
    assert [mask.tolist() for mask in finder.sinks] == [[False, False], [False, True], [False, True]]


@pytest.mark.parametrize("shape", [(2, 6), (1, 6, WIDTH), (2, 5, WIDTH), (2, 6, 1, WIDTH)])
def test_states_of_another_shape_leave_sinks_undefined(shape):
    model, marks = one_layer(), torch.ones(2, 6, dtype=torch.bool)
    with SinkFinder(model, marks, marks) as finder:
        model.layers[0](torch.ones(shape))
    assert finder.sinks == [None, None]


def test_the_narrowest_state_that_has_an_answer_has_400_dimensions():
    model, marks = one_layer(), torch.ones(1, 2, dtype=torch.bool)
    for width, answer in ((399, None), (400, [False, False])):
        with SinkFinder(model, marks, marks) as finder:
            model.layers[0](torch.ones(1, 2, width))
        assert (finder.sinks[0] if answer is None else finder.sinks[0].tolist()) == answer


# --- in a model -------------------------------------------------------------------------------------------------------


def pictures() -> list[Image.Image]:
    """Three pictures of different shape, all unlike: 4 × 3, 3 × 4 and 2 × 2 tokens of 28 pixels."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in ((84, 112), (112, 84), (56, 56))
    ]


def encoded(loaded: LoadedModel, chosen: list[int]) -> Encoded:
    return encode(loaded, [[pictures()[i]] for i in chosen], [QUESTION] * len(chosen), None)


def layer_inputs(loaded: LoadedModel, batch: Encoded) -> dict[int, torch.Tensor]:
    """layer → the states that it takes in, [B, S, D]."""
    kept: dict[int, torch.Tensor] = {}

    def keep(i):
        return lambda module, args, kwargs: kept.__setitem__(i, (args[0] if args else kwargs["hidden_states"]).clone())

    hooks = [
        layer.register_forward_pre_hook(keep(i), with_kwargs=True)
        for i, layer in enumerate(find_decoder(loaded.model).layers)
    ]
    with torch.inference_mode():
        loaded.model.base_model(**batch.inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.fixture(scope="module")
def wide(tiny_checkpoint, tmp_path_factory):
    """The tiny Qwen2.5-VL with states of 512 dimensions, random and saved; its processor is the tiny one's."""
    source, folder = tiny_checkpoint("qwen2_5_vl"), tmp_path_factory.mktemp("wide")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(source)
    config.text_config.hidden_size = config.vision_config.out_hidden_size = WIDTH
    config.text_config.initializer_range = 0.02
    config.text_config.rope_parameters["mrope_section"] = [32, 16, 16]
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def planted(wide, tmp_path_factory):
    """The same with a massive activation written by the MLP of layer 0 where it reads image token 5 of picture 0.

    Its first neuron is a linear readout that is 1 for this token's state and 0 for all others of all three prompts.
    """
    loaded = load(wide)
    decoder = find_decoder(loaded.model)
    with torch.no_grad():
        decoder.layers[0].self_attn.o_proj.weight.zero_()  # the MLP reads the embeddings
    batch = encoded(loaded, [0, 1, 2])
    visible = batch.inputs["attention_mask"].bool()
    states = layer_inputs(loaded, batch)[0]
    target = torch.zeros(visible.shape)
    target[0, batch.image[0].nonzero().flatten()[TOKEN]] = 1
    mlp = decoder.layers[0].mlp
    with torch.no_grad():
        read = decoder.layers[0].post_attention_layernorm(states)[visible]
        readout = torch.linalg.lstsq(read, target[visible][:, None], driver="gelsd").solution.flatten()
        assert torch.allclose(read @ readout, target[visible], atol=1e-2)
        for projection in (mlp.gate_proj, mlp.up_proj):
            projection.weight.zero_()
            projection.weight[0] = 4 * readout
        mlp.down_proj.weight[PLANTED, 0] = 300.0  # silu(4) · 4 · 300 = 4700
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(wide, folder, dirs_exist_ok=True)
    loaded.model.save_pretrained(folder)
    return folder


def looks(loaded: LoadedModel, chosen: list[int], layers: str = "all"):
    answers = [encode_text(loaded, "the star is red")[: 2 + i] for i in range(len(chosen))]
    return look(loaded, encoded(loaded, chosen), answers, layers, sinks=True)


def test_the_planted_token_is_the_sink_and_nothing_else(planted):
    loaded = load(planted)
    found = [gaze.sinks for gaze in looks(loaded, [0, 1, 2])]
    assert [mask.dtype for mask in found] == [bool] * 3
    assert found[0].nonzero()[0].tolist() == [TOKEN]
    assert [int(mask.sum()) for mask in found[1:]] == [0, 0]  # a sink of one sample is none of another's
    batch = encoded(loaded, [0, 1, 2])
    visible, expected = batch.inputs["attention_mask"].bool().numpy(), np.zeros(12, dtype=bool)
    for states in layer_inputs(loaded, batch).values():
        expected |= naive(states[0].numpy(), visible[0], batch.image[0].numpy())
    np.testing.assert_array_equal(found[0], expected)


def test_it_does_not_matter_what_else_is_in_the_batch(planted):
    loaded = load(planted)
    alone = {i: looks(loaded, [i])[0].sinks for i in range(3)}
    for chosen in ([0, 1], [2, 0], [1, 2, 0]):
        for i, gaze in zip(chosen, looks(loaded, chosen), strict=True):
            np.testing.assert_array_equal(gaze.sinks, alone[i])
    assert alone[0].any()


def test_only_the_layers_asked_for_are_looked_at(planted):
    loaded = load(planted)
    assert not looks(loaded, [0], "0")[0].sinks.any()  # what enters layer 0 is before the plant
    assert looks(loaded, [0], "1")[0].sinks.any()
    assert looks(loaded, [0], "last1")[0].sinks.any()  # it stays in the residual stream


def test_looking_changes_nothing_and_leaves_no_hook(planted):
    loaded = load(planted)
    batch = encoded(loaded, [0, 1])
    answers = [encode_text(loaded, "red")] * 2
    plain, watched = (look(loaded, batch, answers, "all", sinks=asked) for asked in (False, True))
    for a, b in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(a.map, b.map)
        assert a.sinks is None
    assert not any(layer._forward_pre_hooks for layer in find_decoder(loaded.model).layers)


def test_an_ordinary_random_model_has_none(wide):
    assert [int(gaze.sinks.sum()) for gaze in looks(load(wide), [0, 1, 2])] == [0, 0, 0]


def test_narrow_states_have_no_answer_rather_than_none(tiny_checkpoint):
    # √32 = 5.7: no element of a state of 32 dimensions reaches 20 times its root mean square.
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    assert [gaze.sinks for gaze in looks(loaded, [0, 1])] == [None, None]


def test_a_forward_that_never_ran_has_no_answer(wide):
    loaded = load(wide)
    batch = encoded(loaded, [0])
    with SinkFinder(loaded.model, batch.inputs["attention_mask"].bool(), batch.image) as finder:
        pass
    assert finder.sinks == [None]


def test_a_run_keeps_the_sinks_their_share_and_every_measure_without_them(planted, tmp_path):
    records = []
    for i, picture in enumerate(pictures()):
        picture.save(tmp_path / f"{i}.png")
        records.append({"id": f"s{i}", "image": f"{i}.png", "question": QUESTION, "answer": "red",
                        "boxes": [[2, 2, 40, 50]]})  # fmt: skip
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    command = ("analyze", planted, "--teacher", planted, "--data", tmp_path / "data.jsonl", "--out", tmp_path / "run",
               "--text", "reference", "--max-new-tokens", 3, "--no-figures")  # fmt: skip
    status, said = gapcheck(*command)
    assert status == 0, said
    run = Run.open(tmp_path / "run")
    rows = run.samples.set_index("sample_id")
    assert rows["n_sinks"].tolist() == [1, 0, 0]
    assert run.sinks("s0").nonzero()[0].tolist() == [TOKEN]
    share = run.map("s0")[TOKEN]
    assert rows["sink_share"].tolist() == [pytest.approx(share, abs=1e-6), 0, 0]
    kept, box = np.where(run.sinks("s0"), 0, run.map("s0")), np.array([[2 / 112, 2 / 84, 40 / 112, 50 / 84]])
    expected = {
        "focus_score": metrics.focus_score(kept, run.geometry("s0"), box), "entropy": metrics.entropy(kept),
        "pointing_game": metrics.pointing_game(kept, run.geometry("s0"), box),
        "relative_entropy": metrics.entropy(kept) / np.log(12),
        "focus_lift": metrics.focus_lift(kept, run.geometry("s0"), box),
        "salient_regions": metrics.salient_region_count(kept),
        "salient_fraction": metrics.salient_region_fraction(kept),
        "kl": 0, "js": 0, "emd": 0, "cc": 1, "similarity": 1, "top_k_overlap": 1,
    }  # fmt: skip
    for name, value in expected.items():
        assert rows[f"{name}_without_sinks"]["s0"] == pytest.approx(value, abs=2e-6), name
        assert rows[f"{name}_without_sinks"]["s1"] == pytest.approx(rows[name]["s1"], abs=2e-6), name
    assert rows["entropy_without_sinks"]["s0"] != pytest.approx(rows["entropy"]["s0"], abs=1e-3)
    assert run.summary["sinks"]["n_sinks"]["mean"] == pytest.approx(1 / 3)
    assert run.summary["sinks"]["without"]["focus_score"]["n"] == 3
    assert "attention sinks" in said
