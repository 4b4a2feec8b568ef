"""Attention weights of chosen queries over chosen keys: one pure, differentiable function."""

from __future__ import annotations

import torch
from torch import Tensor

# Scores of one slice stay below this many elements (32 MiB in float32), so a capture adds no peak of its own.
_SLICE = 8 * 2**20


def attention_rows(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    *,
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    columns: Tensor | None = None,
    per_head: bool = False,
) -> Tensor:
    """softmax(query · keyᵀ · scaling + mask) over ALL keys, then only the wanted columns, averaged over heads.

    query: [B, H, T, D], the wanted queries only (positions already encoded).
    key: [B, Hkv, K, D] with H a multiple of Hkv (grouped-query attention); all keys, since they share the softmax.
    mask: None (every key visible), bool (True = visible) or float (added); [B or 1, H or 1, T or 1, K].
    softcap: scores become softcap · tanh(scores / softcap) before the mask (Gemma 2).
    sinks: [H], one extra logit per head that takes mass and gives no column (gpt-oss).
    columns: int64 [B, N], the keys to return; None returns all K.
    Returns float32 [B, T, N], or [B, H, T, N] with `per_head`; a row sums to at most 1. Rows without any visible
    key are 0. Computed in float32 whatever the inputs' dtype; differentiable with respect to query, key and mask.
    """
    batch, heads, n_queries, width = query.shape
    kv_heads, n_keys = key.shape[1:3]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads over {kv_heads} key heads: expected a multiple")
    group = heads // kv_heads
    keys = key.float().transpose(2, 3)
    if mask is not None:
        mask = mask.expand(batch, mask.shape[1], n_queries, n_keys)
    step = max(1, _SLICE // max(1, batch * heads * n_keys))
    slices = []
    for start in range(0, n_queries, step):
        part = query[:, :, start : start + step].float() * scaling
        t = part.shape[2]
        # Fold the heads that share a key head into rows instead of repeating the keys.
        scores = (part.reshape(batch, kv_heads, group * t, width) @ keys).view(batch, heads, t, n_keys)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        weights = _softmax(scores, None if mask is None else mask[:, :, start : start + step], sinks)
        if not per_head:
            weights = weights.mean(dim=1)
        if columns is not None:
            index = columns[:, None] if not per_head else columns[:, None, None]
            weights = torch.take_along_dim(weights, index.expand(*weights.shape[:-1], -1), dim=-1)
        slices.append(weights)
    return slices[0] if len(slices) == 1 else torch.cat(slices, dim=-2)


def _softmax(scores: Tensor, mask: Tensor | None, sinks: Tensor | None) -> Tensor:
    if mask is not None:
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, float("-inf"))
            blind = ~mask.any(dim=-1, keepdim=True)
        else:
            scores = scores + mask.float()
            blind = (mask <= torch.finfo(mask.dtype).min).all(dim=-1, keepdim=True)
        # A row that sees nothing (padding) has no distribution; keep NaN out of the values and of their gradients.
        scores = scores.masked_fill(blind, 0.0)
    if sinks is None:
        weights = torch.softmax(scores, dim=-1)
    else:
        extra = sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat([scores, extra], dim=-1), dim=-1)[..., :-1]
    return weights if mask is None else weights.masked_fill(blind, 0.0)
