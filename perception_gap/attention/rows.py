"""Attention weights of chosen queries over chosen keys: one pure, differentiable function."""

from __future__ import annotations

import torch
from torch import Tensor

# Scores of one slice stay below this many elements (8 MiB in float32), so a capture adds no peak of its own.
_SLICE = 2 * 2**20


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
    """softmax(query · keyᵀ · scaling + mask) over ALL keys, then the wanted columns only, mean over heads.

    query: [B, H, T, D], the wanted queries only (positions already encoded).
    key: [B, Hkv, K, D] with H a multiple of Hkv (grouped queries); all keys, since they share the softmax.
    mask: None (every key visible), bool (True = visible) or float (added); [B or 1, H or 1, T or 1, K].
    softcap: scores become softcap · tanh(scores / softcap) before the mask (Gemma 2).
    sinks: [H], one extra logit per head that takes mass and gives no column (gpt-oss).
    columns: int64 [B, N], the keys to return; None returns all K.
    Returns [B, T, N], or [B, H, T, N] with `per_head`, in [0, 1]; a row sums to at most 1, and a row without
    any visible key is 0. Computed and returned in float32 (float64 for float64 inputs); differentiable with
    respect to query, key, a float mask and sinks. Raises ValueError if H is no multiple of Hkv.
    """
    batch, heads, n_queries, _ = query.shape
    kv_heads, n_keys = key.shape[1:3]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads over {kv_heads} key heads: expected a multiple")
    keys = key.to(torch.promote_types(key.dtype, torch.float32)).transpose(2, 3)
    step = max(1, _SLICE // max(1, batch * heads * n_keys))
    slices = []
    for start in range(0, max(1, n_queries), step):
        part = query[:, :, start : start + step].to(keys.dtype) * scaling
        visible = mask if mask is None or mask.shape[2] == 1 else mask[:, :, start : start + step]
        weights = attention_weights(part, keys, visible, softcap, sinks)
        if not per_head:
            weights = weights.mean(dim=1)
        if columns is not None:
            index = columns[:, None, None] if per_head else columns[:, None]
            weights = torch.take_along_dim(weights, index, dim=-1)
        slices.append(weights)
    return slices[0] if len(slices) == 1 else torch.cat(slices, dim=-2)


def attention_weights(
    query: Tensor,
    keys: Tensor,
    mask: Tensor | None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Weights [B, H, T, K] of SCALED queries [B, H, T, D] over transposed keys [B, Hkv, D, K]; see `attention_rows`.

    bias: added to the logits last, broadcast to [B, H, T, K]; -inf hides a key (some other one must stay visible).

    One name for scores and weights, and the mask added in place, so that at most two tensors of this size live.
    """
    batch, heads, n_queries, width = query.shape
    # The heads that share a key head become rows of one product, instead of repeating the keys.
    folded = query.reshape(batch, keys.shape[1], heads // keys.shape[1] * n_queries, width)
    with torch.autocast(query.device.type, enabled=False):  # training in bf16 would round the scores to 8 bits
        weights = (folded @ keys).view(batch, heads, n_queries, keys.shape[3])
    if softcap is not None:
        weights = softcap * torch.tanh(weights / softcap)
    blind = None
    if mask is not None:
        lowest = torch.finfo(mask.dtype).min if mask.is_floating_point() else 0
        blind = (mask <= lowest).all(dim=-1, keepdim=True)  # transformers blocks by the lowest number or by -inf
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=weights.dtype).masked_fill_(~mask, float("-inf"))
        # A row that sees nothing (padding) would be NaN, and its NaN would reach every gradient.
        weights = weights.add_(mask.masked_fill(blind, 0.0))
    if bias is not None:
        weights = weights + bias
    if sinks is None:
        weights = torch.softmax(weights, dim=-1)
    else:
        extra = sinks.to(weights.dtype).view(1, -1, 1, 1).expand(*weights.shape[:-1], 1)
        weights = torch.softmax(torch.cat([weights, extra], dim=-1), dim=-1)[..., :-1]
    return weights if blind is None else weights.masked_fill(blind, 0.0)


def positions(mask: Tensor) -> Tensor:
    """Indices of the True entries of each row, padded with 0 to the longest: int64 [B, max(1, count)]."""
    longest = max(1, int(mask.sum(1).max()))
    order = torch.argsort(mask.int(), dim=1, descending=True, stable=True)[:, :longest]
    return torch.where(torch.arange(longest, device=mask.device) < mask.sum(1, keepdim=True), order, 0)


def mask_of_rows(mask: Tensor | None, rows: Tensor, n_queries: int, n_keys: int, *, causal: bool) -> Tensor | None:
    """The mask rows of chosen queries, [B, H or 1, T, K]; None when they see every key.

    mask: as a layer got it, [B or 1, H or 1, n_queries or 1, at least n_keys]; rows: int64 [B, T], indices of queries.
    causal: whether the absence of a mask means that a query sees no later key (a lone query sees all).
    """
    if mask is not None:
        mask = mask.expand(rows.shape[0], -1, n_queries, -1)[..., :n_keys]
        return torch.take_along_dim(mask, rows[:, None, :, None], dim=2)
    if not causal or n_queries == 1:
        return None
    return (torch.arange(n_keys, device=rows.device) <= rows[:, :, None])[:, None]
