"""The gate: what passes through it measured as attention mass; everything else bit for bit as it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import AttentionInterface

from perception_gap.attention import interface
from perception_gap.attention.capture import AttentionCapture, find_decoder
from perception_gap.attention.gate import Gate
from perception_gap.attention.interface import Call
from perception_gap.errors import UnsupportedModelError, UsageError
from perception_gap.models.loading import load
from tests.models import TRAINED as KINDS
from tests.proofs import QUESTIONS, SIZES, picture

# --- models, batches, and the weights by definition ------------------------------------------------------------------

WINDOW = {"sliding_window": 6}  # shorter than every sequence here: it hides some image keys, not all
DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen2": ("qwen2", "sdpa", {}),
    "qwen2-eager": ("qwen2", "eager", {}),
    "llama-no-groups": ("llama", "sdpa", {"num_key_value_heads": 4}),
    "mistral-window": ("mistral", "sdpa", {"head_dim": 8, **WINDOW}),
    "gemma2-softcap": ("gemma2", "eager", {"head_dim": 8, "attn_logit_softcapping": 2.0, **WINDOW}),
    "gpt-oss-sinks": ("gpt_oss", "eager", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, **WINDOW}),
}


def decoder(family: str = "qwen2", **changes: Any) -> Any:
    """A tiny text decoder with random weights wide enough that attention is far from uniform."""
    model_type, implementation, own = DECODERS[family]
    settings = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3, "use_cache": False, **own, **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **settings)
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


@dataclass
class Case:
    """inputs of one forward; rows and keys of the gate, and real (no padding), bool [B, S]."""

    inputs: dict[str, Tensor]
    rows: Tensor
    keys: Tensor

    @property
    def real(self) -> Tensor:
        return self.inputs["attention_mask"].bool()


def text_case(side: str = "left", lengths: tuple[int, ...] = (12, 9)) -> Case:
    """Keys of the gate ("image") near the start, its rows at the end, of a different number in every sample."""
    size = max(lengths)
    ids = torch.randint(3, 64, (len(lengths), size), generator=torch.Generator().manual_seed(1))
    mask, rows, keys = torch.zeros_like(ids), torch.zeros_like(ids).bool(), torch.zeros_like(ids).bool()
    for b, length in enumerate(lengths):
        start = size - length if side == "left" else 0
        mask[b, start : start + length] = 1
        keys[b, start + 1 : start + length - 4] = True
        rows[b, start + length - 3 + b : start + length] = True
    return Case({"input_ids": ids, "attention_mask": mask}, rows, keys)


def picture_case(loaded: Any, which: tuple[int, ...] = (0, 1), answers: tuple[list[int], ...] = ([9, 8, 7], [11])):
    """Two samples of different size: prompt left-padded, two latent tokens and a closing one, answers right-padded.

    Tokens of the vocabulary serve as latents: what they are called plays no part here.
    """
    pictures = [picture(SIZES["landscape"]), picture(SIZES["portrait"], seed=1)]
    prompt = loaded.family.encode([[pictures[i]] for i in which], [QUESTIONS[i] for i in which])
    prompt = prompt.with_latents([5, 6], [7])
    whole, _ = prompt.with_answers([answers[i] for i in which], 0)
    rows = whole.after_latents & whole.inputs["attention_mask"].bool()
    return Case(dict(whole.inputs), rows, whole.image), prompt


def weights_by_definition(call: Call, bias: Tensor | float, causal: bool = True) -> Tensor:
    """softmax(q kᵀ · scaling + mask + bias) as one whole matrix, [B, H, S, K], float64; bias [B, S, K]."""
    group = call.query.shape[1] // call.key.shape[1]
    keys = call.key.double().repeat_interleave(group, dim=1)
    scaling, cap, sinks = (call.kwargs.get(name) for name in ("scaling", "softcap", "s_aux"))
    logits = call.query.double() @ keys.mT * (call.query.shape[3] ** -0.5 if scaling is None else scaling)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    if call.mask is None:
        length, n_keys = logits.shape[2:]
        hidden = torch.ones(length, n_keys, dtype=torch.bool).triu(1) if causal and length > 1 else False
    else:
        hidden = ~call.mask if call.mask.dtype == torch.bool else call.mask < -1e30
    logits = logits.masked_fill(torch.as_tensor(hidden), -torch.inf)
    if isinstance(bias, Tensor):
        bias = bias[:, None].double()
    logits = logits + bias
    if sinks is not None:
        extra = sinks.double().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        return torch.cat([logits, extra], dim=-1).softmax(-1)[..., :-1]
    return logits.softmax(-1)


def bias_of(case: Case, value: float) -> Tensor:
    """[B, S, K]: ln γ where a gated row meets a gated key."""
    log = math.log(value) if value else -math.inf
    both = case.rows[:, :, None] & case.keys[:, None]
    return torch.zeros(both.shape).masked_fill(both, log)


class Spy:
    """An amender behind the gate: keeps each layer's call and what came out of it, changes nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Call, Tensor]] = []

    def amend(self, call: Call, output: Tensor) -> Tensor:
        self.calls.append((call, output.clone()))
        return output


def gated_forward(model: Any, case: Case, value: float, **options: Any) -> tuple[Any, list[tuple[Call, Tensor]], Gate]:
    """The forward inside the gate; every decoder layer's call with its (gated) output; the gate."""
    gate, spy = Gate(model, case.rows, case.keys, value), Spy()
    modules = list(find_decoder(model).layers.modules())
    with gate:
        for module in modules:
            interface.amenders.setdefault(module, []).append(spy)
        output = model(**case.inputs, **options)
        for module in modules:
            interface.amenders[module].remove(spy)
    assert len(spy.calls) == len(find_decoder(model).layers)
    return output, spy.calls, gate


def weights_of_the_gate(gate: Gate, call: Call) -> Tensor:
    """The weights [B, H, S, K] that the gate itself gives: with one-hot values its output IS them. Other rows: NaN."""
    batch, heads, length, _ = call.query.shape
    n_keys = call.key.shape[2]
    one_hot = torch.eye(n_keys).expand(batch, call.key.shape[1], n_keys, n_keys)
    untouched = torch.full((batch, length, heads, n_keys), torch.nan)
    return gate.amend(replace(call, value=one_hot), untouched).transpose(1, 2)


def mass(weights: Tensor, case: Case) -> Tensor:
    """[B, H, S]: each row's weight on the gate's keys."""
    return (weights * case.keys[:, None, None]).sum(-1)


def gated(values: Tensor, case: Case) -> Tensor:
    """[B, H, S, ..] → [R, H, ..] of the gated rows."""
    return values.transpose(1, 2)[case.rows]


def cases(tiny_checkpoint: Any, name: str, **changes: Any) -> tuple[Any, Case]:
    """A model and a batch for it: a name of DECODERS (with changes of its configuration) or KINDS, or KIND-eager."""
    if name in DECODERS:
        return decoder(name, **changes), text_case()
    kind, _, attention = name.partition("-")
    loaded = load(tiny_checkpoint(kind), attn=attention or "sdpa")
    return loaded.model, picture_case(loaded)[0]


EVERYWHERE = [*DECODERS, *KINDS, "qwen2_5_vl-eager", "llava-eager"]

# --- what passes the gate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERYWHERE)
@torch.no_grad()
def test_epsilon_lets_less_than_a_thousandth_of_the_image_mass_through_and_zero_none(tiny_checkpoint, name):
    # A row that sees hardly anything else must look at the image whatever the bias: milder weights than elsewhere.
    model, case = cases(tiny_checkpoint, name, initializer_range=0.15)
    _, plain, _ = gated_forward(model, case, 1.0)
    before = torch.stack([mass(weights_by_definition(call, 0.0).nan_to_num(), case) for call, _ in plain])
    rows = case.rows[None, :, None].expand_as(before)
    open_mass = before[rows].mean()
    assert open_mass > 0.1, "hardly anything to gate: the comparison would say little"
    for value in (1e-6, 0.0):
        _, calls, gate = gated_forward(model, case, value)
        passed = torch.stack([mass(weights_of_the_gate(gate, call), case) for call, _ in calls])[rows]
        assert passed.mean() < 1e-3 * open_mass
        assert (passed.max() > 0) == (value > 0)
        # Of the mass m that the same logits give an open gate, γ m / (γ m + 1 − m) is left.
        ungated = torch.stack([mass(weights_by_definition(call, 0.0).nan_to_num(), case) for call, _ in calls])[rows]
        left = value * ungated / (value * ungated + 1 - ungated)
        torch.testing.assert_close(passed, left.float(), atol=1e-8, rtol=1e-3)  # 1 − m cancels; float32 logits


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("value", [1e-6, 0.1, 0.7, 0.0])
@torch.no_grad()
def test_rows_of_every_layer_equal_the_definition_and_the_others_are_not_touched(tiny_checkpoint, name, value):
    model, case = cases(tiny_checkpoint, name)
    _, calls, gate = gated_forward(model, case, value)
    for call, output in calls:
        expected = weights_by_definition(call, bias_of(case, value))
        found = weights_of_the_gate(gate, call)
        # float32 softmax against float64: logits of up to about 30 are rounded to 2e-6, weights with them.
        torch.testing.assert_close(gated(found, case), gated(expected, case).float(), atol=1e-5, rtol=0)
        assert found.transpose(1, 2)[~case.rows].isnan().all()
        group = call.query.shape[1] // call.value.shape[1]
        naive = expected @ call.value.double().repeat_interleave(group, dim=1)
        # Outputs are sums of values of up to about 10.
        torch.testing.assert_close(output[case.rows], gated(naive, case).float(), atol=1e-4, rtol=0)
        if not name.endswith("eager") and DECODERS.get(name, ("", "sdpa"))[1] == "sdpa":
            kernel = AttentionInterface._global_mapping["sdpa"]
            fast, _ = kernel(call.module, call.query, call.key, call.value, call.mask, **call.kwargs)
            assert torch.equal(output[~case.rows], fast[~case.rows])


@torch.no_grad()
def test_two_keys_by_hand():
    """One query that likes three keys equally, one of them an image: γ/(γ + 2) of the mass is left for it."""
    model = decoder("llama-no-groups", num_hidden_layers=1)
    rows, keys = torch.tensor([[False, False, True]]), torch.tensor([[True, False, False]])
    value = torch.tensor([1.0, 0.0, 0.0]).view(1, 1, 3, 1).expand(1, 4, 3, 1)
    call = Call(
        find_decoder(model).layers[0].self_attn, torch.zeros(1, 4, 3, 8), torch.zeros(1, 4, 3, 8), value, None, {}
    )
    for passing, left in ((1e-6, 1e-6 / (2 + 1e-6)), (0.5, 0.2), (0.0, 0.0)):
        output = Gate(model, rows, keys, passing).amend(call, torch.full((1, 3, 4, 1), -1.0))
        torch.testing.assert_close(output[0, 2], torch.full((4, 1), left), atol=0, rtol=1e-5)
        assert (output[0, :2] == -1).all()


@pytest.mark.parametrize("name", EVERYWHERE)
@torch.no_grad()
def test_gamma_one_is_the_plain_model_bit_for_bit_and_near_one_nearly(tiny_checkpoint, name):
    model, case = cases(tiny_checkpoint, name)
    plain = model(**case.inputs).logits
    assert torch.equal(gated_forward(model, case, 1.0)[0].logits, plain)
    nearly = gated_forward(model, case, 1 - 1e-9)[0].logits  # recomputed rows with a bias of nearly nothing
    # float32 sums in another order, through three layers, of logits of up to about 30.
    torch.testing.assert_close(nearly[case.real], plain[case.real], atol=1e-4, rtol=0)
    closed = gated_forward(model, case, 1e-6)[0].logits
    assert (closed - plain)[case.rows].abs().max() > 0.1


@pytest.mark.parametrize("name", EVERYWHERE)
@torch.no_grad()
def test_rows_before_the_gated_ones_are_untouched_through_all_layers(tiny_checkpoint, name):
    model, case = cases(tiny_checkpoint, name)
    plain = model(**case.inputs, output_hidden_states=True).hidden_states
    closed = gated_forward(model, case, 1e-6, output_hidden_states=True)[0].hidden_states
    before = case.real & (case.rows.cumsum(1) == 0)
    assert before.sum() > 10
    for one, other in zip(plain, closed, strict=True):
        assert torch.equal(one[before], other[before])
    assert (plain[-1] - closed[-1])[case.rows].abs().max() > 0.01


@pytest.mark.parametrize("name", ["qwen2", "mistral-window", "qwen2-eager", "qwen2_5_vl", "llava"])
@torch.no_grad()
def test_a_later_token_changes_no_earlier_row_under_the_gate(tiny_checkpoint, name):
    model, case = cases(tiny_checkpoint, name)
    last = int(case.rows[0].nonzero().max())
    before = gated_forward(model, case, 0.01)[0].logits
    case.inputs["input_ids"][0, last] = 20
    after = gated_forward(model, case, 0.01)[0].logits
    assert case.rows[0, :last].sum() >= 2
    assert torch.equal(before[0, :last], after[0, :last])
    assert not torch.equal(before[0, last], after[0, last])


@pytest.mark.parametrize("family", ["qwen2", "qwen2-eager", "mistral-window", "gpt-oss-sinks"])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(family, side):
    model = decoder(family)
    together = text_case(side)
    logits = gated_forward(model, together, 0.05)[0].logits
    for b in range(2):
        real = together.real[b]
        inputs = {"input_ids": together.inputs["input_ids"][b, real][None], "attention_mask": torch.ones(1, real.sum())}
        alone = Case(inputs, together.rows[b, real][None], together.keys[b, real][None])
        # Positions are counted from another start, so rotations and sums round differently.
        torch.testing.assert_close(logits[b, real], gated_forward(model, alone, 0.05)[0].logits[0], atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_padded_batch_of_prompts_and_answers_gives_what_each_sample_gives(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    case, _ = picture_case(loaded)
    logits = gated_forward(loaded.model, case, 0.05)[0].logits
    for b in range(2):
        alone, _ = picture_case(loaded, (b,))
        single = gated_forward(loaded.model, alone, 0.05)[0].logits
        torch.testing.assert_close(logits[b, case.real[b]], single[0, alone.real[0]], atol=5e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_eager_and_sdpa_agree(tiny_checkpoint, kind):
    logits = {}
    for attention in ("sdpa", "eager"):
        loaded = load(tiny_checkpoint(kind), attn=attention)
        case, _ = picture_case(loaded)
        logits[attention] = gated_forward(loaded.model, case, 0.05)[0].logits[case.real]
    torch.testing.assert_close(logits["eager"], logits["sdpa"], atol=5e-4, rtol=0)


@contextmanager
def by_definition(model: Any, case: Case, value: float) -> Iterator[None]:
    """While open, every decoder layer computes the whole biased matrix, in the dtype of the model (differentiable)."""
    kernel = AttentionInterface._global_mapping["sdpa"]
    layers, bias = set(find_decoder(model).layers.modules()), bias_of(case, value)

    def naive(module, query, key, value, attention_mask, **kwargs):
        if module not in layers:
            return kernel(module, query, key, value, attention_mask, **kwargs)
        weights = weights_by_definition(Call(module, query, key, value, attention_mask, kwargs), bias)
        group = query.shape[1] // key.shape[1]
        output = torch.nan_to_num(weights) @ value.double().repeat_interleave(group, dim=1)
        return output.transpose(1, 2).to(query.dtype), None

    AttentionInterface.register("sdpa", naive)
    try:
        yield
    finally:
        AttentionInterface.register("sdpa", kernel)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [1e-6, 0.3])
@torch.no_grad()
def test_hidden_states_of_the_whole_model_equal_the_definition(tiny_checkpoint, kind, value):
    loaded = load(tiny_checkpoint(kind))
    case, _ = picture_case(loaded)
    ours = gated_forward(loaded.model, case, value, output_hidden_states=True)[0].hidden_states
    with by_definition(loaded.model, case, value):
        theirs = loaded.model(**case.inputs, output_hidden_states=True).hidden_states
    for one, other in zip(ours, theirs, strict=True):
        # One layer after the other rounds; hidden states before the last norm reach about 100.
        torch.testing.assert_close(one[case.real], other[case.real], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_half_precision_rows_are_computed_in_float32():
    case = text_case()
    logits = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = decoder().to(dtype)
        output, calls, _ = gated_forward(model, case, 0.05)
        assert output.logits.dtype == dtype
        logits[dtype] = output.logits.float()
        for call, rows in calls:
            expected = weights_by_definition(call, bias_of(case, 0.05)) @ call.value.double().repeat_interleave(2, 1)
            # One rounding to 8 bits at the end: values of up to 4 are exact to 0.4 %.
            error = (rows[case.rows].double() - gated(expected, case)).abs()
            assert (error <= 0.005 * gated(expected, case).abs() + 1e-3).all()
    assert not torch.equal(logits[torch.float32], logits[torch.bfloat16])


@pytest.mark.parametrize("name", ["qwen2", "qwen2_5_vl", "llava"])
@torch.no_grad()
def test_training_in_bf16_weighs_gated_and_captured_rows_in_float32(tiny_checkpoint, name):
    """Trainer's bf16 is autocast, which would round the scores, of up to 30, to 8 bits."""
    model, case = cases(tiny_checkpoint, name)
    with torch.autocast("cpu", torch.bfloat16):
        with AttentionCapture(model, case.rows, case.keys, per_head=True) as capture:
            _, calls, gate = gated_forward(model, case, 0.05)
        found = [weights_of_the_gate(gate, call) for call, _ in calls]
    for layer, (call, output) in enumerate(calls):
        assert output.dtype == torch.bfloat16
        expected = weights_by_definition(call, bias_of(case, 0.05))
        torch.testing.assert_close(gated(found[layer], case), gated(expected, case).float(), atol=1e-5, rtol=0)
        before = weights_by_definition(call, 0.0).float()
        for b in range(2):
            rows = before[b][:, case.rows[b]][:, :, case.keys[b]]
            torch.testing.assert_close(capture.attention[b][layer], rows, atol=1e-5, rtol=0)


def test_attention_dropout_falls_on_gated_rows_as_on_the_others():
    model, case = decoder(attention_dropout=0.5).train(), text_case()
    with torch.no_grad():
        _, calls, gate = gated_forward(model, case, 0.3)
    call = calls[0][0]
    kept = gated(weights_by_definition(call, bias_of(case, 0.3)), case).float()
    torch.manual_seed(3)
    found = gated(weights_of_the_gate(gate, call), case)
    dropped = (found == 0) & (kept > 0)
    assert 0.2 < dropped.float().sum() / (kept > 0).sum() < 0.8
    torch.testing.assert_close(found[~dropped], 2 * kept[~dropped], atol=1e-5, rtol=0)  # what stays counts twice
    model.eval()
    _, calls, gate = gated_forward(model, case, 0.3)
    torch.testing.assert_close(gated(weights_of_the_gate(gate, calls[0][0]), case).detach(), kept, atol=1e-5, rtol=0)


# --- beside captures, and inside generation --------------------------------------------------------------------------


@pytest.mark.parametrize("gate_first", [True, False])
@torch.no_grad()
def test_a_capture_beside_a_gate_reads_the_weights_before_it_and_changes_nothing(tiny_checkpoint, gate_first):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    case, _ = picture_case(loaded)
    alone = gated_forward(loaded.model, case, 0.05)[0].logits
    with AttentionCapture(loaded.model, case.rows, case.keys, [0]) as plain:
        loaded.model(**case.inputs)
    gate = Gate(loaded.model, case.rows, case.keys, 0.05)
    first = AttentionCapture(loaded.model, case.rows, case.keys, [0])
    every = AttentionCapture(loaded.model, case.rows, case.keys, per_head=True)
    outer, inner = (gate, first) if gate_first else (first, gate)
    with outer, inner, every:
        logits = loaded.model(**case.inputs).logits
    assert torch.equal(logits, alone)
    _, calls, _ = gated_forward(loaded.model, case, 0.05)
    for b in range(2):
        assert torch.equal(first.attention[b], plain.attention[b])  # layer 0 comes before any gated row
        for layer, (call, _) in enumerate(calls):
            naive = weights_by_definition(call, 0.0)[b][:, case.rows[b]][:, :, case.keys[b]]
            torch.testing.assert_close(every.attention[b][layer], naive.float(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_behind_the_masks_every_row_is_gated_and_no_key(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    case, prompt = picture_case(loaded)
    behind = torch.ones_like(case.rows)
    behind[:, : prompt.image.shape[1]] = prompt.after_latents
    whole = gated_forward(loaded.model, replace(case, rows=behind), 0.05)[0].logits
    with Gate(loaded.model, prompt.after_latents, prompt.image, 0.05):
        assert torch.equal(loaded.model(**case.inputs).logits, whole)


@pytest.mark.parametrize("kind", [*KINDS, "qwen2_5_vl-eager"])
@torch.no_grad()
def test_generation_inside_the_gate_equals_one_teacher_forced_gated_forward(tiny_checkpoint, kind):
    kind, _, attention = kind.partition("-")
    loaded = load(tiny_checkpoint(kind), attn=attention or "sdpa")
    model: Any = loaded.model
    _, prompt = picture_case(loaded)
    options = {
        "max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "output_logits": True,
        "return_dict_in_generate": True, "eos_token_id": None, "pad_token_id": 0,
    }  # fmt: skip
    with Gate(model, prompt.after_latents, prompt.image, 1e-6):
        produced = model.generate(**prompt.inputs, **options)
    free = model.generate(**prompt.inputs, **options)
    steps = torch.stack(produced.logits, dim=1)  # [B, 5, V]
    assert (torch.stack(free.logits, dim=1) - steps).abs().max() > 0.1, "the gate did nothing"
    length = prompt.image.shape[1]
    whole, answer = prompt.with_answers(produced.sequences[:, length:].tolist(), 0)
    assert answer.sum() == 10
    forced, _, _ = gated_forward(model, Case(dict(whole.inputs), whole.after_latents, whole.image), 1e-6)
    expected = forced.logits[:, length - 1 : -1]
    torch.testing.assert_close(steps, expected, atol=5e-4, rtol=0)  # with the cache, sums in another order
    assert torch.equal(expected.argmax(-1), produced.sequences[:, length:])


# --- cutting (γ = 0), some layers, nesting ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERYWHERE)
@torch.no_grad()
def test_what_gamma_zero_hides_cannot_reach_the_output_and_no_other_row_moves_by_a_bit(tiny_checkpoint, name):
    """Replace the values under the hidden keys by others: a weight of any size would show in the layer's output."""
    model, case = cases(tiny_checkpoint, name)
    _, calls, gate = gated_forward(model, case, 0.0)
    for call, output in calls:
        other = torch.where(case.keys[:, None, :, None], torch.randn_like(call.value) * 1e6, call.value)
        plain = torch.zeros_like(output)
        assert torch.equal(gate.amend(replace(call, value=other), plain), gate.amend(call, plain))
        assert torch.equal(output[case.rows], gate.amend(call, plain)[case.rows])
        kernel = AttentionInterface._global_mapping.get(model.config._attn_implementation)
        if kernel is not None:
            ungated, _ = kernel(call.module, call.query, call.key, call.value, call.mask, **call.kwargs)
            assert torch.equal(output[~case.rows], ungated[~case.rows])


@torch.no_grad()
def test_only_chosen_layers_are_gated(tiny_checkpoint):
    model, case = cases(tiny_checkpoint, "qwen2")
    kernel = AttentionInterface._global_mapping["sdpa"]
    gate, spy = Gate(model, case.rows, case.keys, 0.0, "last1"), Spy()
    modules = list(find_decoder(model).layers.modules())
    with gate:
        for module in modules:
            interface.amenders.setdefault(module, []).append(spy)
        model(**case.inputs)
        for module in modules:
            interface.amenders[module].remove(spy)
    changed = []
    for call, output in spy.calls:
        plain, _ = kernel(call.module, call.query, call.key, call.value, call.mask, **call.kwargs)
        changed.append(not torch.equal(output, plain))
    assert changed == [False, False, True]
    with pytest.raises(UsageError, match='expected "all"'):
        Gate(model, case.rows, case.keys, 0.0, "last9")


@torch.no_grad()
def test_a_sample_without_gated_keys_stays_bit_for_bit():
    model, case = decoder(), text_case()
    plain = model(**case.inputs).logits
    keys = case.keys.clone()
    keys[1] = False
    logits = gated_forward(model, replace(case, keys=keys), 0.0)[0].logits
    assert torch.equal(logits[1], plain[1])
    assert not torch.equal(logits[0], plain[0])
    assert torch.equal(gated_forward(model, replace(case, keys=keys & False), 0.0)[0].logits, plain)


@torch.no_grad()
def test_rows_behind_the_masks_may_be_left_alone(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    case, prompt = picture_case(loaded)
    only = torch.zeros_like(case.rows)
    only[:, : prompt.image.shape[1]] = prompt.question
    expected = gated_forward(loaded.model, replace(case, rows=only), 0.0)[0].logits
    with Gate(loaded.model, prompt.question, prompt.image, 0.0, behind=False):
        assert torch.equal(loaded.model(**case.inputs).logits, expected)
    with Gate(loaded.model, prompt.question, prompt.image, 0.0):
        assert not torch.equal(loaded.model(**case.inputs).logits, expected)


@pytest.mark.parametrize("names", [("rows", "keys"), ("keys", "rows")])
@torch.no_grad()
def test_gates_nest_to_the_sum_of_their_biases(names):
    """One hides keys 1 to 3 from two rows, the other weakens keys 3 to 5 for three: by definition, both at once."""
    model, size = decoder(num_hidden_layers=1), 12
    inputs = {"input_ids": torch.arange(3, 3 + size)[None], "attention_mask": torch.ones(1, size).long()}
    place = torch.arange(size)[None]
    first = Case(inputs, (place >= 8) & (place < 10), (place >= 1) & (place <= 3))
    second = Case(inputs, place >= 9, (place >= 3) & (place <= 5))
    gates = {"rows": (first, 0.0), "keys": (second, 0.2)}
    with ExitStack() as stack:
        for name in names:
            case, value = gates[name]
            stack.enter_context(Gate(model, case.rows, case.keys, value))
        spy = Spy()
        module = find_decoder(model).layers[0].self_attn
        interface.amenders[module].append(spy)
        model(**inputs)
        interface.amenders[module].remove(spy)
    ((call, output),) = spy.calls
    weights = weights_by_definition(call, bias_of(first, 0.0) + bias_of(second, 0.2))
    expected = (weights @ call.value.double().repeat_interleave(2, dim=1)).transpose(1, 2)
    torch.testing.assert_close(output, expected.float(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_beginning_of_the_sequence_is_gated_only_where_that_is_asked_for():
    model, case = decoder(), text_case(lengths=(12,))
    rows = case.rows.clone()
    rows[:, 5:] = True
    shorter = {name: tensor[:, :9] for name, tensor in case.inputs.items()}
    expected = gated_forward(model, Case(shorter, rows[:, :9], case.keys[:, :9]), 0.0)[0].logits
    with Gate(model, rows, case.keys, 0.0, beginnings=True):
        assert torch.equal(model(**shorter).logits, expected)


# --- training --------------------------------------------------------------------------------------------------------


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def loss_of(logits: Tensor, case: Case) -> Tensor:
    """A smooth loss on every real row, gated ones included."""
    return logits[case.real].double().log_softmax(-1)[:, 5].mean()


@pytest.mark.parametrize("family", ["qwen2", "mistral-window", "llama-no-groups"])
@pytest.mark.parametrize("value", [0.0, 1e-6, 0.3])
def test_gradients_equal_those_of_the_definition_in_float64(family, value):
    model, case = decoder(family).double().train(), text_case()
    gate = Gate.attached(model, case.rows, case.keys, value)
    ours = gradients(model, loss_of(model(**case.inputs, attention_gate=gate).logits, case))
    with by_definition(model, case, value):
        theirs = gradients(model, loss_of(model(**case.inputs).logits, case))
    assert ours.keys() == theirs.keys()
    assert min(g.abs().max() for g in ours.values()) > 1e-6
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-10, rtol=1e-8, msg=name)


def test_gradients_of_a_vision_language_model_equal_those_of_the_definition(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    model = loaded.model.double().train()
    case, _ = picture_case(loaded)
    case.inputs["pixel_values"] = case.inputs["pixel_values"].double()
    gate = Gate.attached(model, case.rows, case.keys, 0.01)
    ours = gradients(model, loss_of(model(**case.inputs, attention_gate=gate).logits, case))
    with by_definition(model, case, 0.01):
        theirs = gradients(model, loss_of(model(**case.inputs).logits, case))
    assert any(name.startswith("model.visual") for name in ours)
    for name in ours:
        # Rotary tables are float32 whatever the model's dtype, the same in both: the rest is float64.
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-9, rtol=1e-7, msg=name)


@pytest.mark.parametrize("name", ["qwen2", "mistral-window", "qwen2-eager", *KINDS])
def test_checkpointing_recomputes_gate_and_capture_to_identical_gradients(tiny_checkpoint, name):
    model, case = cases(tiny_checkpoint, name)
    model.train()
    before = case.real & (case.rows.cumsum(1) == 0) & ~case.keys
    latents = before & (before.flip(1).cumsum(1).flip(1) <= 2)

    def step() -> dict[str, Tensor]:
        gate = Gate.attached(model, case.rows, case.keys, 0.05)
        capture = AttentionCapture.attached(model, latents, case.keys)
        # Without a cache, as in training: with one, the plain graph sums the same gradients in another order.
        logits = model(**case.inputs, attention_gate=gate, attention_rows=capture, use_cache=False).logits
        return gradients(model, loss_of(logits, case) + sum(rows.square().sum() for rows in capture.attention))

    plain = step()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert model.is_gradient_checkpointing
    checkpointed = step()
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_an_attached_gate_equals_the_context_and_ends_with_the_object(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    case, _ = picture_case(loaded)
    original = AttentionInterface._global_mapping["sdpa"]
    plain = loaded.model(**case.inputs).logits
    inside = gated_forward(loaded.model, case, 0.05)[0].logits
    assert AttentionInterface._global_mapping["sdpa"] is original
    gate = Gate.attached(loaded.model, case.rows, case.keys, 0.05)
    assert AttentionInterface._global_mapping["sdpa"] is not original
    assert torch.equal(loaded.model(**case.inputs, attention_gate=gate).logits, inside)
    assert torch.equal(loaded.model(**case.inputs).logits, plain)  # only forwards that bring it are gated
    del gate
    assert AttentionInterface._global_mapping["sdpa"] is original


@pytest.mark.parametrize("family", ["qwen2", "qwen2-eager"])
def test_an_exception_inside_leaves_the_interface_as_it_was(family):
    model, case = decoder(family), text_case()

    def fail():
        with Gate(model, case.rows, case.keys, 0.5):
            model(**case.inputs)
            raise KeyError("boom")

    before = dict(AttentionInterface._global_mapping)
    plain = model(**case.inputs).logits
    with pytest.raises(KeyError, match="boom"):
        fail()
    assert before == AttentionInterface._global_mapping
    assert not interface.amenders
    assert torch.equal(model(**case.inputs).logits, plain)


@torch.no_grad()
def test_a_gate_leaves_other_models_alone():
    mine, other, case = decoder(), decoder("llama-no-groups"), text_case()
    plain = other(**case.inputs).logits
    with Gate(mine, case.rows, case.keys, 1e-6):
        mine(**case.inputs)
        assert torch.equal(other(**case.inputs).logits, plain)


@torch.no_grad()
def test_a_gate_that_no_layer_passed_through_says_so():
    mine, other, case = decoder(), decoder("llama-no-groups"), text_case()
    gate = Gate(mine, case.rows, case.keys, 0.5)
    with (
        pytest.raises(UnsupportedModelError, match=r"layers \[0, 1, 2\] did not pass .* the gate did nothing there"),
        gate,
    ):
        other(**case.inputs)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        (torch.ones(1, 4), torch.ones(1, 4)),
        (torch.ones(1, 4).bool(), torch.ones(1, 5).bool()),
        (torch.ones(4).bool(), torch.ones(4).bool()),
        (torch.ones(1, 4).bool(), torch.ones(1, 4).int()),
    ],
)
def test_masks_that_are_not_boolean_or_differ_are_refused(rows, keys):
    with pytest.raises(ValueError, match=r"expected two boolean masks \[B, S\]"):
        Gate(decoder(), rows, keys, 0.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_gamma_outside_its_range_is_refused(value):
    case = text_case()
    with pytest.raises(ValueError, match=rf"gamma {value}: expected 0 to 1"):
        Gate(decoder(), case.rows, case.keys, value)


def test_other_kernels_are_refused():
    model, case = decoder(), text_case()
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(UnsupportedModelError, match=r"runs attention 'flex_attention'.*sdpa"):
        Gate(model, case.rows, case.keys, 0.5)


@torch.no_grad()
def test_forwards_that_do_not_fit_the_masks_are_refused():
    model, case = decoder(use_cache=True), text_case(lengths=(12,))
    gate = Gate(model, case.rows, case.keys, 0.5)
    shorter = {name: tensor[:, :7] for name, tensor in case.inputs.items()}
    with pytest.raises(ValueError, match="1 × 7 positions over 7 keys inside a gate of 1 × 12"), gate:
        model(**shorter)
    with pytest.raises(ValueError, match=r"2 × 12 positions over 12 keys inside a gate of 1 × 12.*one beam"), gate:
        model.generate(**case.inputs, num_beams=2, max_new_tokens=2, do_sample=False)
    cache = model(**shorter).past_key_values
    with pytest.raises(ValueError, match=r"1 × 5 positions over 12 keys.*the whole prompt at once"), gate:
        model(input_ids=case.inputs["input_ids"][:, 7:], past_key_values=cache)
