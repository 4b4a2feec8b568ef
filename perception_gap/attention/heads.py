"""Attention of every layer and head apart, averaged over the rows of one text while the forward runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perception_gap.attention.capture import AttentionCapture


class HeadCapture(AttentionCapture):
    """An AttentionCapture whose rows are averaged over chosen queries at once, layers and heads apart.

    queries: bool [B, S], the rows to average (a sample may have none).
    """

    def __init__(self, model: nn.Module, queries: Tensor, keys: Tensor, layers: str | Sequence[int] = "all") -> None:
        super().__init__(model, queries, keys, layers, per_head=True)

    def _compute(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
    ) -> Tensor:
        rows = super()._compute(module, query, key, mask, kwargs)
        counts = torch.tensor([t for t, _ in self._counts], device=rows.device)
        chosen = torch.arange(rows.shape[2], device=rows.device) < counts[:, None]  # the rest fills up the batch
        weights = chosen / counts.clamp_min(1)[:, None]
        return torch.einsum("bhtn,bt->bhn", rows, weights.to(rows.dtype))[:, :, None]

    @property
    def heads(self) -> list[np.ndarray]:
        """float32 [L, H, N_b] a sample, raw, over `self.layers`; NaN for a sample without queries."""
        # [L, H, 1, N] each, or [L, H, 0, N] without queries
        means = [rows[:, :, 0] if rows.shape[2] else torch.full_like(rows.sum(2), torch.nan) for rows in self.attention]
        return [mean.float().cpu().numpy() for mean in means]
