"""The three terms of the loss (paper eq. 6, 7, 9), each as one value a sample, so that none can vanish unseen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

# The student's weight where it does not look at all: KL stays finite, and below this it has no gradient.
SMALLEST = 1e-12


def ntp(logits: Tensor, targets: Tensor, sample: Tensor, batch: int) -> Tensor:
    """Next-token prediction: sum over a sample's answer tokens of −ln p, nats, [B].

    logits [T, V] of the queries that predict, targets int64 [T], sample int64 [T]: whose token each is.
    """
    each = functional.cross_entropy(_exact(logits), targets, reduction="none")
    return torch.zeros(batch, dtype=each.dtype, device=each.device).index_add(0, sample, each)


def concept(projected: Tensor, v_sem: Tensor) -> Tensor:
    """Semantic reconstruction (eq. 6): 1 − mean over the K supervised latents of cos(MLP(h), V_sem), 0..2, [B].

    projected [B, K, D]; v_sem [B, D], of the teacher, without gradient.
    """
    ours = _exact(projected)
    return 1 - functional.cosine_similarity(ours, v_sem.detach()[:, None].to(ours.dtype), dim=-1).mean(1)


def trajectory(attention: Tensor, target: Tensor) -> Tensor:
    """Trajectory alignment (eq. 7): sum over the supervised latents of KL(target ‖ attention), nats, >= 0, [B].

    attention [B, K, N]: raw rows over the image tokens, normalised here; target [B, N], of the teacher, sums to 1;
    padding tokens are 0 in both.
    """
    student = attention / attention.sum(-1, keepdim=True).clamp_min(SMALLEST)
    teacher = target.detach()[:, None].to(student.dtype)
    return (torch.xlogy(teacher, teacher) - teacher * student.clamp_min(SMALLEST).log()).sum((1, 2))


def total(terms: dict[str, Tensor], weights: Mapping[str, float], counts: Mapping[str, Tensor | float]) -> Tensor:
    """Eq. 9: Σ weight · (sum of the term) / count. A term of count 0 (missing for every sample) adds nothing.

    terms: name -> [B] (or a scalar sum); counts: what to divide by: answer tokens, or samples that have the term. They
    are those of the whole optimiser step, over all processes and accumulated batches, so that a step is the same
    however it is divided.
    """
    parts = [weights[name] * term.sum() / max(float(counts[name]), 1.0) for name, term in terms.items()]
    return torch.stack(parts).sum()


def _exact(values: Tensor) -> Tensor:
    """In float32, float64 as it is: sums of half precision lose the small terms."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
