"""The three terms and their sum: by hand, against plain loops, under invariances, and their gradients in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck

from lavit import losses

# float32 sums in another order than Python's floats.
CLOSE: dict[str, Any] = {"rel": 1e-5, "abs": 1e-6}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def attention(batch: int = 3, k: int = 2, n: int = 7, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Raw rows: positive, summing to well below 1."""
    return torch.rand(batch, k, n, generator=rng(), dtype=dtype) * 0.05 + 0.001


def targets(batch: int = 3, n: int = 7, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Distributions with zeros, as top-k targets are."""
    values = torch.rand(batch, n, generator=rng(1), dtype=dtype).masked_fill_(torch.arange(n) % 3 == 0, 0)
    return values / values.sum(1, keepdim=True)


# --- next-token prediction -------------------------------------------------------------------------------------------


def test_ntp_by_hand():
    # Sample 0: a uniform choice of four, ln 4, and a sure one, 0. Sample 1: odds of 3 : 1 : 1 : 1, a 1 is right.
    logits = torch.tensor([[0.0, 0, 0, 0], [100.0, 0, 0, 0], [math.log(3), 0, 0, 0]])
    found = losses.ntp(logits, torch.tensor([2, 0, 1]), torch.tensor([0, 0, 1]), 3)
    assert found.tolist() == pytest.approx([math.log(4), math.log(6), 0.0], **CLOSE)  # sample 2 has no token


def test_ntp_equals_loops_and_ignores_the_order_of_tokens_and_a_shift_of_logits():
    logits, wanted = torch.randn(6, 11, generator=rng()), torch.randint(0, 11, (6,), generator=rng(1))
    sample = torch.tensor([0, 0, 0, 1, 3, 3])
    expected = [0.0] * 4
    for row, token, b in zip(logits.tolist(), wanted.tolist(), sample.tolist(), strict=True):
        expected[b] += math.log(sum(math.exp(x) for x in row)) - row[token]
    found = losses.ntp(logits, wanted, sample, 4)
    assert found.tolist() == pytest.approx(expected, **CLOSE)
    order = torch.randperm(6, generator=rng(2))
    shuffled = losses.ntp(logits[order] + 5, wanted[order], sample[order], 4)
    torch.testing.assert_close(shuffled, found, atol=1e-5, rtol=1e-5)


def test_ntp_of_no_tokens_is_zero_and_half_precision_counts_in_float32():
    assert losses.ntp(torch.zeros(0, 5), torch.zeros(0).long(), torch.zeros(0).long(), 2).tolist() == [0, 0]
    logits = torch.zeros(2048, 8, dtype=torch.bfloat16)  # summed in bfloat16 these would stick at 512
    found = losses.ntp(logits, torch.zeros(2048).long(), torch.zeros(2048).long(), 1)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(2048 * math.log(8), rel=1e-4)  # float32, one addition after the other


def test_ntp_gradient():
    logits = torch.randn(4, 5, generator=rng(), dtype=torch.float64, requires_grad=True)
    wanted, sample = torch.tensor([0, 4, 2, 2]), torch.tensor([0, 1, 1, 0])
    assert gradcheck(lambda x: losses.ntp(x, wanted, sample, 2), (logits,))


# --- semantic reconstruction -----------------------------------------------------------------------------------------


def test_concept_by_hand():
    teacher = torch.tensor([[1.0, 0.0]]).expand(5, 2)
    ours = torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]], [[-1.0, 0.0]], [[1.0, 1.0]], [[-4.0, 4.0]]])
    half = math.sqrt(0.5)
    assert losses.concept(ours, teacher).tolist() == pytest.approx([0, 1, 2, 1 - half, 1 + half], **CLOSE)
    together = ours.transpose(0, 1)  # the same five as the latents of one sample: their mean
    assert losses.concept(together, teacher[:1]).tolist() == pytest.approx([1.0], **CLOSE)


def test_concept_equals_loops_and_ignores_lengths_and_the_order_of_latents():
    ours, teacher = torch.randn(2, 3, 5, generator=rng()), torch.randn(2, 5, generator=rng(1))
    expected = []
    for rows, v in zip(ours.tolist(), teacher.tolist(), strict=True):
        cosines = [sum(x * y for x, y in zip(row, v, strict=True)) / math.hypot(*row) / math.hypot(*v) for row in rows]
        expected.append(1 - sum(cosines) / 3)
    found = losses.concept(ours, teacher)
    assert found.tolist() == pytest.approx(expected, **CLOSE)
    scaled = losses.concept(ours.flip(1) * 7, teacher * 0.1)
    torch.testing.assert_close(scaled, found, atol=1e-6, rtol=0)
    rounded = losses.concept(ours, teacher.half())  # traces keep V_sem in half precision
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, found, atol=1e-3, rtol=0)


def test_concept_gradient_reaches_the_student_alone():
    ours = torch.randn(2, 3, 5, generator=rng(), dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 5, generator=rng(1), dtype=torch.float64)
    assert gradcheck(lambda x: losses.concept(x, teacher), (ours,))
    teacher.requires_grad_()
    losses.concept(ours, teacher).sum().backward()
    assert teacher.grad is None
    assert ours.grad is not None


def test_a_sample_without_v_sem_has_no_gradient_and_no_nan():
    ours = torch.randn(1, 2, 5, generator=rng(), requires_grad=True)
    losses.concept(ours, torch.zeros(1, 5)).sum().backward()
    assert torch.equal(ours.grad, torch.zeros_like(ours))


# --- trajectory alignment --------------------------------------------------------------------------------------------


def test_trajectory_by_hand():
    # KL([1/2, 1/2] ‖ [1/4, 3/4]) = ln(2)/2 + ln(2/3)/2; raw rows are normalised, their scale says nothing.
    rows = torch.tensor([[[0.01, 0.03]], [[0.2, 0.2]], [[0.25, 0.75]]])
    target = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    expected = [math.log(4 / 3) / 2, 0.0, math.log(4 / 3)]
    assert losses.trajectory(rows, target).tolist() == pytest.approx(expected, **CLOSE)
    # A sum over latents, not a mean (eq. 7).
    assert losses.trajectory(rows[:1].expand(1, 3, 2), target[:1]).item() == pytest.approx(3 * expected[0], **CLOSE)


def test_trajectory_equals_loops_and_is_never_negative():
    rows, target = attention(), targets()
    expected = []
    for latents, p in zip(rows.tolist(), target.tolist(), strict=True):
        each = [sum(t * math.log(t / (a / sum(row))) for t, a in zip(p, row, strict=True) if t > 0) for row in latents]
        assert min(each) >= 0
        expected.append(sum(each))
    assert losses.trajectory(rows, target).tolist() == pytest.approx(expected, **CLOSE)
    assert losses.trajectory(target[:, None] * 0.3, target).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_trajectory_ignores_scale_order_of_tokens_and_padding():
    rows, target = attention(), targets()
    found = losses.trajectory(rows, target)
    same: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
    scale = torch.tensor([1e-3, 1.0, 20.0])[:, None, None]
    torch.testing.assert_close(losses.trajectory(rows * scale, target), found, **same)
    order = torch.randperm(7, generator=rng(3))
    torch.testing.assert_close(losses.trajectory(rows[..., order], target[:, order]), found, **same)
    torch.testing.assert_close(losses.trajectory(rows.flip(1), target), found, **same)
    padded = torch.nn.functional.pad(rows, (0, 5)), torch.nn.functional.pad(target, (0, 5))
    torch.testing.assert_close(losses.trajectory(*padded), found, **same)


def test_a_student_that_does_not_look_at_all_has_a_finite_loss_and_gradient():
    rows = torch.tensor([[[0.0, 0.4]], [[0.0, 0.0]]], requires_grad=True)
    found = losses.trajectory(rows, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    # −ln of the smallest weight; the teacher's own entropy is 0 and ln 2.
    smallest = -math.log(losses.SMALLEST)
    assert found.tolist() == pytest.approx([smallest, smallest - math.log(2)], rel=1e-5)
    found.sum().backward()
    assert rows.grad.isfinite().all()


def test_trajectory_gradient_reaches_the_student_alone():
    rows = attention(dtype=torch.float64).requires_grad_()
    target = targets(dtype=torch.float64)
    assert gradcheck(lambda x: losses.trajectory(x, target), (rows,))
    target.requires_grad_()
    losses.trajectory(rows, target).sum().backward()
    assert target.grad is None
    # It pulls towards where the teacher looks more than the student does, and only there.
    share = (rows / rows.sum(-1, keepdim=True)).detach()
    assert ((rows.grad < 0) == (share < target.detach()[:, None])).all()


# --- the sum ---------------------------------------------------------------------------------------------------------

WEIGHTS = {"ntp": 1.0, "concept": 0.3, "trajectory": 0.3}


def test_total_by_hand():
    terms = {
        "ntp": torch.tensor([2.0, 4.0]),
        "concept": torch.tensor([1.0, 0.0]),
        "trajectory": torch.tensor([0.5, 1.5]),
    }
    found = losses.total(terms, WEIGHTS, {"ntp": 3, "concept": 1, "trajectory": 2.0})
    assert found.item() == pytest.approx(6 / 3 + 0.3 * 1 / 1 + 0.3 * 2 / 2, **CLOSE)
    scalars = {name: term.sum() for name, term in terms.items()}
    counts = {"ntp": 3, "concept": torch.tensor(1.0), "trajectory": torch.tensor(2)}
    assert losses.total(scalars, WEIGHTS, counts).item() == pytest.approx(found.item(), **CLOSE)


def test_a_term_of_count_zero_adds_nothing_in_value_and_gradient():
    ntp = torch.tensor([2.0, 4.0], requires_grad=True)
    rows = attention(2).requires_grad_()
    each = torch.where(torch.tensor([False, False]), losses.trajectory(rows, torch.zeros(2, 7)), 0.0)
    found = losses.total({"ntp": ntp, "trajectory": each}, WEIGHTS, {"ntp": 2, "trajectory": 0})
    found.backward()
    assert found.item() == 3.0
    assert torch.equal(rows.grad, torch.zeros_like(rows))
    assert ntp.grad.tolist() == [0.5, 0.5]


def test_a_batch_in_parts_with_the_counts_of_the_whole_has_the_same_total_and_gradient():
    """Parts of different sizes, in which one sample lacks a gaze: means of means would differ."""
    rows, target = attention(5, dtype=torch.float64).requires_grad_(), targets(5, dtype=torch.float64)
    logits = torch.randn(9, 6, generator=rng(), dtype=torch.float64, requires_grad=True)
    wanted, sample = torch.arange(9) % 6, torch.tensor([0, 1, 1, 1, 1, 2, 3, 3, 4])
    has = torch.tensor([True, False, True, True, True])
    counts = {"ntp": 9, "trajectory": int(has.sum())}

    def part(chosen: list[int]) -> torch.Tensor:
        mine = torch.isin(sample, torch.tensor(chosen))
        own = torch.searchsorted(torch.tensor(chosen), sample[mine])
        terms = {
            "ntp": losses.ntp(logits[mine], wanted[mine], own, len(chosen)),
            "trajectory": torch.where(has[chosen], losses.trajectory(rows[chosen], target[chosen]), 0.0),
        }
        return losses.total(terms, WEIGHTS, counts)

    def gradients(value: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(value, [rows, logits]))

    whole = part([0, 1, 2, 3, 4])
    parts = [part([0, 1]), part([2]), part([3, 4])]
    torch.testing.assert_close(sum(parts), whole, atol=1e-12, rtol=0)
    for one, other in zip(gradients(sum(parts)), gradients(whole), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
