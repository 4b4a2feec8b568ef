"""attention_rows: by hand, against plain loops, under invariances, and its gradients."""

import math
from typing import Any

import pytest
import torch

from perception_gap.attention import rows
from perception_gap.attention.rows import attention_rows, attention_weights, mask_of_rows, positions

# float32 sums in another order: a few units in the last place of weights below 1.
CLOSE: dict[str, Any] = {"atol": 1e-6, "rtol": 0}


def random_inputs(batch=2, heads=4, kv_heads=2, n_queries=3, n_keys=7, width=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, heads, n_queries, width, generator=generator, dtype=dtype)
    key = torch.randn(batch, kv_heads, n_keys, width, generator=generator, dtype=dtype)
    visible = torch.rand(batch, 1, n_queries, n_keys, generator=generator) < 0.6
    visible[..., 0] = True
    return query, key, visible


def loops(query, key, visible, scaling, softcap=None, sinks=None):
    """The definition, one number at a time, in Python floats: [B, H, T, K]."""
    batch, heads, n_queries, _ = query.shape
    n_keys, group = key.shape[2], heads // key.shape[1]
    result = torch.zeros(batch, heads, n_queries, n_keys, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for t in range(n_queries):
                powers = {}
                for k in range(n_keys):
                    if visible is None or visible[b, 0, t, k]:
                        product = zip(query[b, h, t].tolist(), key[b, h // group, k].tolist(), strict=True)
                        score = scaling * sum(x * y for x, y in product)
                        powers[k] = math.exp(score if softcap is None else softcap * math.tanh(score / softcap))
                total = sum(powers.values()) + (0.0 if sinks is None else math.exp(sinks[h].item()))
                for k, power in powers.items():
                    result[b, h, t, k] = power / total
    return result


def test_two_keys_by_hand():
    query = torch.tensor([2.0]).view(1, 1, 1, 1)
    key = torch.tensor([0.0, math.log(3.0)]).view(1, 1, 2, 1)
    # scores 0 and 2 · ln 3 · 0.5 = ln 3: weights 1/4 and 3/4
    torch.testing.assert_close(attention_rows(query, key, scaling=0.5), torch.tensor([[[0.25, 0.75]]]), **CLOSE)


def test_a_bias_is_added_to_the_logits_by_hand():
    query, keys = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 2, 2)  # two keys alike
    weights = attention_weights(query, keys, None, bias=torch.tensor([math.log(3), 0.0]).view(1, 1, 1, 2))
    assert weights.flatten().tolist() == pytest.approx([0.75, 0.25])
    hidden = attention_weights(query, keys, None, bias=torch.tensor([0.0, -math.inf]).view(1, 1, 1, 2))
    assert hidden.flatten().tolist() == [1, 0]


def test_a_sink_takes_mass_by_hand():
    query, key = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 2, 1)
    sinks = torch.tensor([math.log(2.0)])  # e^0 + e^0 + 2: each key keeps a quarter
    torch.testing.assert_close(attention_rows(query, key, scaling=1.0, sinks=sinks), torch.full((1, 1, 2), 0.25))


def test_softcap_by_hand():
    query = torch.ones(1, 1, 1, 1)
    key = torch.tensor([0.0, 1e4]).view(1, 1, 2, 1)  # capped at 5: the logistic function of 5
    weights = attention_rows(query, key, scaling=1.0, softcap=5.0)
    assert weights[0, 0, 1].item() == pytest.approx(1 / (1 + math.exp(-5)), abs=1e-6)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_definition_written_as_loops(softcap, with_sinks, masked):
    query, key, visible = random_inputs()
    mask = visible if masked else None
    sinks = torch.linspace(-1, 2, 4) if with_sinks else None
    expected = loops(query, key, mask, 0.3, softcap, sinks).float()
    options: dict[str, Any] = {"scaling": 0.3, "softcap": softcap, "sinks": sinks}
    torch.testing.assert_close(attention_rows(query, key, mask, per_head=True, **options), expected, **CLOSE)
    torch.testing.assert_close(attention_rows(query, key, mask, **options), expected.mean(1), **CLOSE)


def test_float_mask_equals_bool_mask():
    query, key, visible = random_inputs()
    expected = attention_rows(query, key, visible, scaling=0.3)
    for blocked in (torch.finfo(torch.float32).min, float("-inf")):
        added = torch.zeros(visible.shape).masked_fill(~visible, blocked)
        assert torch.equal(attention_rows(query, key, added, scaling=0.3), expected)


def test_a_float_mask_is_added_to_the_scores():
    query, key, _ = random_inputs()
    bias = torch.zeros(1, 1, 1, 7)
    bias[..., 3] = math.log(0.5)
    plain = attention_rows(query, key, scaling=0.3, per_head=True)
    biased = plain.clone()
    biased[..., 3] *= 0.5
    biased /= biased.sum(-1, keepdim=True)
    torch.testing.assert_close(attention_rows(query, key, bias, scaling=0.3, per_head=True), biased, **CLOSE)


def test_masks_broadcast_over_batch_heads_and_queries():
    query, key, visible = random_inputs()
    small = visible[:1, :, :1]
    whole = small.expand(2, 4, 3, 7)
    assert torch.equal(attention_rows(query, key, small, scaling=0.3), attention_rows(query, key, whole, scaling=0.3))


def test_grouped_queries_equal_repeated_keys():
    query, key, visible = random_inputs()
    repeated = key.repeat_interleave(2, dim=1)
    grouped = attention_rows(query, key, visible, scaling=0.3, per_head=True)
    torch.testing.assert_close(grouped, attention_rows(query, repeated, visible, scaling=0.3, per_head=True), **CLOSE)


@pytest.mark.parametrize("per_head", [False, True])
def test_columns_select_after_the_softmax(per_head):
    query, key, visible = random_inputs()
    columns = torch.tensor([[6, 0, 2], [1, 1, 5]])
    whole = attention_rows(query, key, visible, scaling=0.3, per_head=per_head)
    chosen = attention_rows(query, key, visible, scaling=0.3, per_head=per_head, columns=columns)
    for b in range(2):
        assert torch.equal(chosen[b], whole[b][..., columns[b]])


@pytest.mark.parametrize("n_queries_of_a_slice", [0, 1, 2, 3])
def test_slices_give_the_same_rows(monkeypatch, n_queries_of_a_slice):
    query, key, visible = random_inputs(n_queries=5)
    columns = torch.tensor([[6, 0, 2], [1, 1, 5]])
    options: dict[str, Any] = {"scaling": 0.3, "columns": columns, "softcap": 2.0}
    whole = [attention_rows(query, key, mask, **options) for mask in (visible, visible[:, :, :1], None)]
    monkeypatch.setattr(rows, "_SLICE", n_queries_of_a_slice * 2 * 4 * 7)
    sliced = [attention_rows(query, key, mask, **options) for mask in (visible, visible[:, :, :1], None)]
    for a, b in zip(sliced, whole, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)  # products of another shape may sum in another order


def test_permuting_the_keys_permutes_the_columns():
    query, key, visible = random_inputs()
    order = torch.tensor([3, 1, 6, 0, 5, 2, 4])
    permuted = attention_rows(query, key[:, :, order], visible[..., order], scaling=0.3)
    torch.testing.assert_close(permuted, attention_rows(query, key, visible, scaling=0.3)[..., order], **CLOSE)


def test_rows_sum_to_one_and_hidden_keys_get_exactly_nothing():
    query, key, visible = random_inputs()
    weights = attention_rows(query, key, visible, scaling=0.3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3), **CLOSE)
    assert (weights[~visible[:, 0]] == 0).all()


@pytest.mark.parametrize("kind", ["bool", "lowest", "-inf"])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_a_row_that_sees_nothing_is_zero_and_leaves_gradients_finite(kind, with_sinks):
    query, key, visible = random_inputs()
    visible[1, :, 2] = False
    blocked = torch.finfo(torch.float32).min if kind == "lowest" else float("-inf")
    mask = visible if kind == "bool" else torch.zeros(visible.shape).masked_fill(~visible, blocked)
    query.requires_grad_()
    key.requires_grad_()
    weights = attention_rows(query, key, mask, scaling=0.3, sinks=torch.zeros(4) if with_sinks else None)
    assert (weights[1, 2] == 0).all()
    weights.square().sum().backward()
    assert torch.isfinite(query.grad).all()
    assert torch.isfinite(key.grad).all()
    assert (query.grad[1, :, 2] == 0).all()
    assert (query.grad[1, :, 1] != 0).any()


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_finite_differences(masked):
    query, key, visible = random_inputs(n_queries=2, n_keys=4, width=3, dtype=torch.float64)
    visible[1, :, 1] = False
    sinks = torch.linspace(-1, 1, 4, dtype=torch.float64)
    bias = torch.zeros(visible.shape, dtype=torch.float64).masked_fill(~visible, float("-inf")) if masked else None
    columns = torch.tensor([[0, 3], [2, 2]])
    inputs = [tensor.requires_grad_() for tensor in (query, key, sinks)]
    assert torch.autograd.gradcheck(
        lambda q, k, s: attention_rows(q, k, bias, scaling=0.5, softcap=3.0, sinks=s, columns=columns), inputs
    )


def test_half_precision_inputs_are_computed_in_float32():
    query, key, visible = random_inputs()
    for dtype in (torch.bfloat16, torch.float16):
        low = attention_rows(query.to(dtype), key.to(dtype), visible, scaling=0.3)
        assert low.dtype == torch.float32
        exact = attention_rows(query.to(dtype).float(), key.to(dtype).float(), visible, scaling=0.3)
        assert torch.equal(low, exact)


def test_no_queries_give_no_rows():
    query, key, _ = random_inputs()
    assert attention_rows(query[:, :, :0], key, scaling=1.0).shape == (2, 0, 7)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="4 query heads over 3 key heads: expected a multiple"):
        attention_rows(torch.zeros(1, 4, 1, 2), torch.zeros(1, 3, 5, 2), scaling=1.0)


def test_positions_are_the_marked_ones_in_order_filled_up_with_0():
    mask = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]).bool()
    assert positions(mask).tolist() == [[1, 3, 4], [4, 0, 0], [0, 0, 0]]
    assert positions(mask[1:]).tolist() == [[4], [0]]
    assert positions(mask[2:]).tolist() == [[0]]  # one place at least, so that no row is empty


def test_the_mask_of_chosen_queries_by_hand():
    rows = torch.tensor([[2, 0], [1, 1]])
    whole = torch.arange(2 * 3 * 5).reshape(2, 1, 3, 5)
    found = mask_of_rows(whole, rows, 3, 4, causal=True)
    assert found.tolist() == [[[[10, 11, 12, 13], [0, 1, 2, 3]]], [[[20, 21, 22, 23], [20, 21, 22, 23]]]]
    # One mask for all samples and queries is that of each.
    shared = mask_of_rows(whole[:1, :, :1], rows, 3, 4, causal=False)
    assert shared.tolist() == [[[[0, 1, 2, 3]] * 2]] * 2
    by_head = mask_of_rows(torch.arange(10).reshape(1, 2, 1, 5), rows, 3, 4, causal=False)
    assert by_head.tolist() == [[[[0, 1, 2, 3]] * 2, [[5, 6, 7, 8]] * 2]] * 2


def test_without_a_mask_a_causal_query_sees_itself_and_what_came_before():
    rows = torch.tensor([[2, 0]])
    found = mask_of_rows(None, rows, 3, 4, causal=True)
    assert found.tolist() == [[[[True, True, True, False], [True, False, False, False]]]]
    assert mask_of_rows(None, rows, 3, 4, causal=False) is None
    assert mask_of_rows(None, torch.tensor([[0]]), 1, 4, causal=True) is None  # a lone query sees all
