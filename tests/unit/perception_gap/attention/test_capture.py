"""AttentionCapture on tiny real decoders: the rows equal eager's, the model's output stays bit for bit the same."""

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import AttentionInterface

from perception_gap.attention import interface
from perception_gap.attention.capture import AttentionCapture, causal_without_mask, find_decoder, parse_layers
from perception_gap.errors import UnsupportedModelError, UsageError

# float32 against float32, sums in another order: measured at most 1.2e-7 on these models.
ATOL = 1e-5
WINDOW = {"sliding_window": 6}  # shorter than every sequence here: it hides some wanted keys, not all
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "sdpa", {}),
    "qwen2": ("qwen2", "sdpa", {}),
    "qwen2-eager": ("qwen2", "eager", {}),
    "mistral-window": ("mistral", "sdpa", {"head_dim": 8, **WINDOW}),
    "gemma2-softcap": ("gemma2", "eager", {"head_dim": 8, "attn_logit_softcapping": 2.0, **WINDOW}),
    "gpt-oss-sinks": (
        "gpt_oss",
        "eager",
        {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, **WINDOW},
    ),
    "qwen3.5-hybrid": (
        "qwen3_5_text",
        "sdpa",
        {
            "head_dim": 8,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
            "num_hidden_layers": 4,
        },
    ),
}


def tiny(family="qwen2", seed=0, attention=None, **changes):
    model_type, implementation, own = FAMILIES[family]
    settings = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3, "use_cache": False,
        **own, **changes,
    }  # fmt: skip
    config = AutoConfig.for_model(model_type, **settings)
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention or implementation).eval()


def batch(side="right", lengths=(12, 9)):
    """Token ids and mask [B, S]; queries and keys of a different number in every sample, on real tokens only."""
    size = max(lengths)
    ids = torch.randint(3, 64, (len(lengths), size), generator=torch.Generator().manual_seed(1))
    mask, queries, keys = torch.zeros_like(ids), torch.zeros_like(ids).bool(), torch.zeros_like(ids).bool()
    for b, length in enumerate(lengths):
        start = size - length if side == "left" else 0
        mask[b, start : start + length] = 1
        keys[b, start + 1 : start + length - 4] = True
        queries[b, start + length - 3 + b : start + length] = True
    return {"input_ids": ids, "attention_mask": mask}, queries, keys


def eager_rows(model, inputs, queries, keys, layers):
    """The definition: whole matrices of eager attention, averaged over heads and layers, then the rows."""
    used = find_decoder(model).config._attn_implementation
    model.set_attn_implementation("eager")
    attentions = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation(used)
    mean = torch.stack([attentions[i] for i in layers]).float().mean(dim=(0, 2))
    return [mean[b][queries[b]][:, keys[b]] for b in range(len(mean))]


def assert_rows_close(rows, expected, atol=ATOL):
    assert len(rows) == len(expected)
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.fixture(autouse=True)
def _interface_stays_as_it_was():
    before = list(AttentionInterface._global_mapping.items())
    yield
    if interface._hooks:
        gc.collect()  # an attached capture may be part of a cycle
    after = list(AttentionInterface._global_mapping.items())
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(a is b for (_, a), (_, b) in zip(after, before, strict=True))
    assert not interface.listeners
    assert not interface._hooks


# --- the rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_rows_equal_eager_and_logits_do_not_change(family, side):
    model = tiny(family)
    inputs, queries, keys = batch(side)
    plain = model(**inputs).logits
    with AttentionCapture(model, queries, keys) as capture:
        captured = model(**inputs).logits
    assert torch.equal(captured, plain)
    layers = range(2) if family == "qwen3.5-hybrid" else range(3)  # the hybrid returns its full-attention layers
    expected = eager_rows(model, inputs, queries, keys, layers)
    assert [tuple(rows.shape) for rows in capture.attention] == [(3, 7), (2, 4)]
    assert_rows_close(capture.attention, expected)
    assert max(rows.std() for rows in expected) > 0.01  # far from uniform, or the comparison would say little


@torch.no_grad()
def test_without_padding_the_mask_is_none_and_rows_are_causal():
    model = tiny("qwen2")
    inputs, queries, keys = batch(lengths=(12, 12))
    queries[:, 2], keys[:, :9] = True, True  # a query before most keys
    for given in (inputs, {"input_ids": inputs["input_ids"]}):
        with AttentionCapture(model, queries, keys) as capture:
            model(**given)
        assert_rows_close(capture.attention, eager_rows(model, inputs, queries, keys, range(3)))
        assert (capture.attention[0][0, 3:] == 0).all()
        assert (capture.attention[0][0, :3] > 0).all()


@torch.no_grad()
def test_a_layer_that_is_not_causal_sees_every_key():
    model = tiny("llama")
    inputs, queries, keys = batch(lengths=(12,))
    queries[:, 0] = True
    for layer in model.model.layers:
        layer.self_attn.is_causal = False  # what sdpa falls back to when the call does not say
    with AttentionCapture(model, queries, keys) as capture:
        model(input_ids=inputs["input_ids"])
    everything = {"input_ids": inputs["input_ids"], "attention_mask": torch.zeros(1, 1, 12, 12)}
    assert_rows_close(capture.attention, eager_rows(model, everything, queries, keys, range(3)))
    assert (capture.attention[0] > 0).all()


def test_without_a_mask_the_call_decides_then_the_module_and_eager_sees_everything():
    plain, two_way, causal = (torch.nn.Identity() for _ in range(3))
    two_way.is_causal, causal.is_causal = False, True
    assert [causal_without_mask(module, {}, "sdpa") for module in (plain, two_way, causal)] == [True, False, True]
    assert causal_without_mask(two_way, {"is_causal": True}, "sdpa")
    assert not causal_without_mask(causal, {"is_causal": False}, "sdpa")
    assert not any(causal_without_mask(causal, kwargs, "eager") for kwargs in ({}, {"is_causal": True}))


@pytest.mark.parametrize(
    ("layers", "indices"), [("all", [0, 1, 2]), ("last2", [1, 2]), ([0, -1], [0, 2]), ("1", [1]), ((2,), [2])]
)
@torch.no_grad()
def test_chosen_layers_are_averaged(layers, indices):
    model = tiny()
    inputs, queries, keys = batch()
    with AttentionCapture(model, queries, keys, layers) as capture:
        model(**inputs)
    assert capture.layers == indices
    assert_rows_close(capture.attention, eager_rows(model, inputs, queries, keys, indices))


@torch.no_grad()
def test_a_hybrid_leaves_its_linear_layers_out():
    model = tiny("qwen3.5-hybrid")
    inputs, queries, keys = batch()
    assert AttentionCapture(model, queries, keys).layers == [1, 3]
    assert AttentionCapture(model, queries, keys, "last1").layers == [3]
    assert AttentionCapture(model, queries, keys, "0,-1").layers == [0, 3]  # numbers are the decoder's own
    with AttentionCapture(model, queries, keys, [0, 1]) as capture:
        model(**inputs)
    with pytest.raises(UnsupportedModelError, match=r"layers \[0\] did not pass"):
        _ = capture.attention


@torch.no_grad()
def test_per_head_keeps_layers_and_heads_apart():
    model = tiny()
    inputs, queries, keys = batch()
    with (
        AttentionCapture(model, queries, keys, per_head=True) as capture,
        AttentionCapture(model, queries, keys) as mean,
    ):
        model(**inputs)
    assert [tuple(rows.shape) for rows in capture.attention] == [(3, 4, 3, 7), (3, 4, 2, 4)]
    assert_rows_close([rows.mean(dim=(0, 1)) for rows in capture.attention], mean.attention)


@torch.no_grad()
def test_samples_without_queries_or_keys_have_empty_rows():
    model = tiny()
    inputs, queries, keys = batch()
    queries[0], keys[1] = False, False
    with AttentionCapture(model, queries, keys) as capture:
        model(**inputs)
    assert [tuple(rows.shape) for rows in capture.attention] == [(0, 7), (2, 0)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_models_give_float32_rows_near_those_of_float32(dtype):
    inputs, queries, keys = batch("left")
    rows = {}
    for precision in (torch.float32, dtype):
        model = tiny().to(precision)
        with AttentionCapture(model, queries, keys) as capture:
            model(**inputs)
        rows[precision] = capture.attention
    # Measured on this model, whose largest weight is 0.26: bf16 0.0036, fp16 0.0005. It is the error of the hidden
    # states: rows themselves are computed in float32.
    assert_rows_close(rows[dtype], rows[torch.float32], atol={torch.bfloat16: 0.02, torch.float16: 0.0025}[dtype])
    assert not torch.equal(rows[dtype][0], rows[torch.float32][0])


@torch.no_grad()
def test_weights_offloaded_by_accelerate_give_the_same_rows(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    inputs, queries, keys = batch()
    for offload in ("cpu", "disk"):
        model = tiny()
        with AttentionCapture(model, queries, keys) as before:
            model(**inputs)
        if offload == "cpu":
            accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
        else:
            accelerate.disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
        with AttentionCapture(model, queries, keys) as after:
            model(**inputs)
        assert_rows_close(after.attention, before.attention, atol=0)


# --- several captures, and nothing left behind ---------------------------------------------------------------------


@torch.no_grad()
def test_captures_nest_on_one_model_and_across_models():
    first, second = tiny(seed=0), tiny("llama", seed=1)
    inputs, queries, keys = batch()
    other = queries.roll(-1, 1) & inputs["attention_mask"].bool()
    with AttentionCapture(first, queries, keys) as outer, AttentionCapture(second, queries, keys) as across:
        with AttentionCapture(first, other, keys, "last1") as inner:
            first(**inputs)
        second(**inputs)
    assert_rows_close(outer.attention, eager_rows(first, inputs, queries, keys, range(3)))
    assert_rows_close(inner.attention, eager_rows(first, inputs, other, keys, [2]))
    assert_rows_close(across.attention, eager_rows(second, inputs, queries, keys, range(3)))


@torch.no_grad()
def test_the_last_forward_counts_and_a_closed_capture_may_be_used_again():
    model = tiny()
    inputs, queries, keys = batch()
    changed = {**inputs, "input_ids": inputs["input_ids"].flip(1)}
    capture = AttentionCapture(model, queries, keys)
    with capture:
        model(**changed)
        model(**inputs)
    assert_rows_close(capture.attention, eager_rows(model, inputs, queries, keys, range(3)))
    with capture:
        model(**changed)
    assert_rows_close(capture.attention, eager_rows(model, changed, queries, keys, range(3)))


def test_entering_twice_raises():
    _, queries, keys = batch()
    capture = AttentionCapture(tiny(), queries, keys)
    with capture, pytest.raises(RuntimeError, match="in use already: make a new one for every block"):
        capture.__enter__()


@pytest.mark.parametrize("family", ["qwen2", "qwen2-eager"])
def test_an_exception_inside_leaves_the_interface_as_it_was(family):
    model = tiny(family)
    inputs, queries, keys = batch()
    before = dict(AttentionInterface._global_mapping)
    inside = {}

    def fail_after_a_forward():
        with AttentionCapture(model, queries, keys):
            model(**inputs)
            inside.update(AttentionInterface._global_mapping)
            raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        fail_after_a_forward()
    assert inside != before
    assert before == AttentionInterface._global_mapping
    assert not interface.listeners


@torch.no_grad()
def test_a_function_registered_on_top_of_a_capture_survives_its_end():
    model = tiny()
    inputs, queries, keys = batch()
    mapping, plain = AttentionInterface._global_mapping, model(**inputs).logits
    original, calls = mapping["sdpa"], []
    capture = AttentionCapture.attached(model, queries, keys)
    below = mapping["sdpa"]

    def on_top(*arguments, **options):
        calls.append(1)
        return below(*arguments, **options)

    AttentionInterface.register("sdpa", on_top)
    try:
        model(**inputs, attention_rows=capture)
        expected = capture.attention
        del capture
        gc.collect()
        assert mapping["sdpa"] is on_top
        with AttentionCapture(model, queries, keys) as again:  # above on_top, which calls the old dispatcher
            assert torch.equal(model(**inputs).logits, plain)
        assert_rows_close(again.attention, expected, atol=0)
        assert len(calls) == 6
    finally:
        AttentionInterface.register("sdpa", original)


# --- what is refused -----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_another_shape_and_generation_inside_are_refused():
    model = tiny(use_cache=True)
    inputs, queries, keys = batch(lengths=(12,))
    shorter = {name: tensor[:, :7] for name, tensor in inputs.items()}
    with (
        AttentionCapture(model, queries, keys),
        pytest.raises(ValueError, match="a forward of 1 × 7 positions over 7 keys inside a capture of 1 × 12"),
    ):
        model(**shorter)
    with (
        AttentionCapture(model, queries, keys),
        pytest.raises(ValueError, match=r"1 × 1 positions over 13 keys.*gener"),
    ):
        model.generate(**inputs, max_new_tokens=3, do_sample=False)


@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        (torch.ones(1, 4), torch.ones(1, 4)),
        (torch.ones(1, 4).bool(), torch.ones(1, 5).bool()),
        (torch.ones(4).bool(), torch.ones(4).bool()),
    ],
)
def test_masks_that_are_not_boolean_or_differ_are_refused(queries, keys):
    with pytest.raises(ValueError, match="expected two boolean masks"):
        AttentionCapture(tiny(), queries, keys)


class OwnAttention(torch.nn.Module):
    """A layer as custom code has it: it calls torch directly, past the interface."""

    def __init__(self, width):
        super().__init__()
        self.projection = torch.nn.Linear(width, 3 * width)

    def forward(self, hidden_states, **kwargs):
        query, key, value = self.projection(hidden_states)[:, None].chunk(3, dim=-1)
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)[:, 0], None


@torch.no_grad()
def test_layers_past_the_interface_raise_with_the_class_and_the_remedy():
    model = tiny("llama")
    inputs, queries, keys = batch()
    model.model.layers[1].self_attn = OwnAttention(32)
    with AttentionCapture(model, queries, keys) as capture:
        model(**inputs)
    with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM: layers \[1\] did not .*leave such layers out"):
        _ = capture.attention
    with AttentionCapture(model, queries, keys, [0, 2]) as capture:
        model(**inputs)
    assert len(capture.attention) == 2


@torch.no_grad()
def test_a_model_wholly_past_the_interface_and_a_capture_without_forward_raise():
    model = tiny("llama")
    inputs, queries, keys = batch()
    with AttentionCapture(model, queries, keys) as capture:
        pass
    with pytest.raises(UnsupportedModelError, match="no forward ran in the capture, or its layers did not"):
        _ = capture.attention
    for layer in model.model.layers:
        layer.self_attn = OwnAttention(32)
    with AttentionCapture(model, queries, keys) as capture:
        model(**inputs)
    with pytest.raises(UnsupportedModelError, match=r'LlamaForCausalLM: no forward ran .*attn="sdpa"'):
        _ = capture.attention


@torch.no_grad()
def test_weights_by_something_unknown_are_refused():
    class Biased(torch.nn.Module):
        def forward(self, hidden_states, **kwargs):
            heads = hidden_states[:, None]
            bias = torch.zeros(1, 1, 12, 12)
            attend = AttentionInterface._global_mapping["sdpa"]
            return attend(self, heads, heads, heads, None, position_bias=bias)[0][:, :, 0], None

    model = tiny("llama")
    inputs, queries, keys = batch()
    model.model.layers[2].self_attn = Biased()
    with AttentionCapture(model, queries, keys), pytest.raises(UnsupportedModelError, match=r"Biased .*position_bias"):
        model(**inputs)


def test_another_attention_and_a_module_that_is_no_decoder_are_refused():
    _, queries, keys = batch()
    model = tiny()
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(UnsupportedModelError, match=r"Qwen2ForCausalLM runs attention 'flex_attention'.*sdpa"):
        AttentionCapture(model, queries, keys)
    with pytest.raises(UnsupportedModelError, match="Linear: no decoder with a list of layers"):
        AttentionCapture(torch.nn.Linear(2, 2), queries, keys)


@pytest.mark.parametrize("layers", ["last0", "last4", "first2", "", [], [3], [-4], "0,9"])
def test_layers_that_do_not_exist_are_refused(layers):
    with pytest.raises(UsageError, match=r'expected "all", "last1".."last3" or indices below 3'):
        parse_layers(layers, 3)


def test_parse_layers_sorts_and_counts_from_the_end():
    assert parse_layers("all", 3) == [0, 1, 2]
    assert parse_layers("last8", 10) == list(range(2, 10))
    assert parse_layers("-1,0", 3) == [0, 2]
    assert parse_layers([1, 1, -2], 3) == [1]


# --- training: the attached form -----------------------------------------------------------------------------------


def gradients(model, loss):
    """Gradients of the q and k projections of a loss on rows and logits."""
    model.zero_grad()
    loss().backward()
    layers = find_decoder(model).layers
    return [p.weight.grad.clone() for layer in layers for p in (layer.self_attn.q_proj, layer.self_attn.k_proj)]


def loss_of(rows, logits, inputs):
    # Without the padding's logits: eager lets a padding token see everything, sdpa nothing.
    return sum(row.square().sum() for row in rows) + logits[inputs["attention_mask"].bool()].square().mean()


def attached_loss(model, inputs, queries, keys):
    capture = AttentionCapture.attached(model, queries, keys)
    logits = model(**inputs, attention_rows=capture).logits
    return loss_of(capture.attention, logits, inputs)


@pytest.mark.parametrize("family", ["qwen2", "mistral-window"])
def test_attached_rows_equal_the_context_managers_and_carry_eagers_gradients(family):
    model = tiny(family).train()
    inputs, queries, keys = batch("left")
    with torch.no_grad(), AttentionCapture(model, queries, keys) as inside:
        plain = model(**inputs).logits
    capture = AttentionCapture.attached(model, queries, keys)
    assert torch.equal(model(**inputs, attention_rows=capture).logits, plain)
    assert_rows_close([rows.detach() for rows in capture.attention], inside.attention, atol=0)

    def eager_loss():
        model.set_attn_implementation("eager")
        output = model(**inputs, output_attentions=True)
        model.set_attn_implementation("sdpa")
        mean = torch.stack(output.attentions).mean(dim=(0, 2))
        rows = [mean[b][queries[b]][:, keys[b]] for b in range(2)]
        return loss_of(rows, output.logits, inputs)

    ours = gradients(model, lambda: attached_loss(model, inputs, queries, keys))
    theirs = gradients(model, eager_loss)
    for a, b in zip(ours, theirs, strict=True):
        # float32 back through three layers, sums in another order: measured 7e-7, of gradients up to 0.5.
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert all(a.abs().max() > 1e-3 for a in ours)


def test_recomputed_layers_count_once_and_gradients_are_identical():
    model = tiny().train()
    inputs, queries, keys = batch("left")
    plain = gradients(model, lambda: attached_loss(model, inputs, queries, keys))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    checkpointed = gradients(model, lambda: attached_loss(model, inputs, queries, keys))
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))


def test_reentrant_checkpointing_is_refused():
    model = tiny().train()
    inputs, queries, keys = batch()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.raises(UsageError, match=r'gradient_checkpointing_kwargs=\{"use_reentrant": False\}'):
        attached_loss(model, inputs, queries, keys)


def test_an_attached_capture_cannot_be_entered():
    _, queries, keys = batch()
    with pytest.raises(RuntimeError, match="in use already"):
        AttentionCapture.attached(tiny(), queries, keys).__enter__()


def test_release_frees_an_attached_capture_whose_backward_never_ran():
    model = tiny().train()
    inputs, queries, keys = batch()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    capture = AttentionCapture.attached(model, queries, keys)
    model(**inputs, attention_rows=capture)
    capture.release()
    gone = weakref.ref(capture)
    del capture
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_interface_is_restored_once_an_attached_capture_is_gone(checkpointed):
    model = tiny().train()
    inputs, queries, keys = batch()
    if checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    original = AttentionInterface._global_mapping["sdpa"]
    capture = AttentionCapture.attached(model, queries, keys)
    assert AttentionInterface._global_mapping["sdpa"] is not original
    model(**inputs, attention_rows=capture)
    torch.cat([rows.flatten() for rows in capture.attention]).sum().backward()
    del capture
    gc.collect()
    assert AttentionInterface._global_mapping["sdpa"] is original
