"""Curriculum sensory gating (paper eq. 4, 5): answer rows see image tokens through a bias ln γ on their logits.

Only the gated rows are computed again, O(heads · rows · keys); the fast kernel keeps every other row. The gate closes
the direct path alone: what question tokens carry of the image still flows.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perception_gap.capture import (
    attention_implementation,
    causal_without_mask,
    check_readable,
    choose_layers,
    find_decoder,
)
from perception_gap.errors import UnsupportedModelError, UsageError
from perception_gap.interface import Call, amenders, install, uninstall
from perception_gap.rows import attention_weights, mask_of_rows, positions

SCHEDULES = ("cosine", "hard", "constant")


def gamma(step: int, warmup_steps: int = 400, epsilon: float = 1e-6, schedule: str = "cosine") -> float:
    """γ at a training step (0, 1, ..), 0..1: how much of the image answer rows see directly.

    cosine: ε + (1 − ε)/2 · (1 − cos(π t / T_w)) before T_w = `warmup_steps`, then 1 (paper eq. 5; ε = 1e-6, T_w = 400
    in appendix A). hard: 0 before T_w, then 1 (the ablation "w/o curriculum"). constant: 1 (the single stage).
    UsageError for an unknown schedule, a negative step or T_w, ε outside 0..1.
    """
    if schedule not in SCHEDULES:
        raise UsageError(f"gate schedule {schedule!r}: expected one of {', '.join(SCHEDULES)}")
    if step < 0 or warmup_steps < 0 or not 0 <= epsilon <= 1:
        raise UsageError(
            f"gate at step {step}, warm-up {warmup_steps}, epsilon {epsilon}: expected numbers of at least 0, "
            "epsilon at most 1"
        )
    if schedule == "constant" or step >= warmup_steps:
        return 1.0
    if schedule == "hard":
        return 0.0
    return epsilon + (1 - epsilon) / 2 * (1 - math.cos(math.pi * step / warmup_steps))


class Gate:
    """The bias ln γ on the logits from gated rows to gated keys, in every decoder layer.

    model: a transformers model whose attention is "sdpa" or "eager".
    rows, keys: bool [B, S]. A forward over S positions gates these rows; behind S (generation with a dynamic cache)
        every row is gated and no key.
    gamma: 0..1; 1 leaves every layer bit for bit as it is, 0 hides the keys from the rows.

    As a context manager (inference, generation), or for training `Gate.attached(...)` passed to the forward as
    `attention_gate`, which survives gradient checkpointing. An AttentionCapture beside it reads the weights before the
    gate. UnsupportedModelError for attention that cannot be recomputed here.
    """

    def __init__(self, model: nn.Module, rows: Tensor, keys: Tensor, gamma: float) -> None:
        if rows.shape != keys.shape or rows.ndim != 2 or not rows.dtype == keys.dtype == torch.bool:
            raise ValueError(
                f"rows {tuple(rows.shape)} {rows.dtype}, keys {tuple(keys.shape)} {keys.dtype}: "
                "expected two boolean masks [B, S]"
            )
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma {gamma}: expected 0 to 1")
        decoder = find_decoder(model)
        self._implementation = attention_implementation(decoder, model)
        self._layer_of: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary(
            {module: i for i in choose_layers("all", decoder) for module in decoder.layers[i].modules()}
        )
        self._model_class, self._met = type(model).__name__, set[int]()
        self._rows, self._keys, self._log = rows, keys, math.log(gamma) if gamma else -math.inf
        self._plans: dict[tuple[int, int, torch.device], _Plan | None] = {}

    @classmethod
    def attached(cls, model: nn.Module, rows: Tensor, keys: Tensor, gamma: float) -> Gate:
        """A gate for one training forward, passed to it as `attention_gate`; it ends with the object."""
        gate = cls(model, rows, keys, gamma)
        install(gate._implementation)
        weakref.finalize(gate, uninstall, gate._implementation)
        return gate

    def __enter__(self) -> Gate:
        install(self._implementation)
        for module in self._layer_of:
            amenders.setdefault(module, []).append(self)
        return self

    def __exit__(self, *exception) -> None:
        for module in list(self._layer_of):
            amenders[module].remove(self)
            if not amenders[module]:
                del amenders[module]
        uninstall(self._implementation)
        if exception[0] is None:
            self.check()

    def check(self) -> None:
        """After a forward: UnsupportedModelError unless every layer with attention has passed through the gate."""
        missing = sorted(set(self._layer_of.values()) - self._met)
        if missing:
            raise UnsupportedModelError(
                f"{self._model_class}: layers {missing} did not pass through transformers' attention interface, so the "
                'gate did nothing there; use a model whose layers do (attn="sdpa")'
            )

    def amend(self, call: Call, output: Tensor) -> Tensor:
        """Amender of the attention interface: the layer's output [B, S, H, D] with its gated rows computed anew."""
        layer = self._layer_of.get(call.module)
        if layer is None:
            return output
        self._met.add(layer)
        if self._log == 0.0:
            return output
        plan = self._plan(call)
        if plan is None:
            return output
        check_readable(call.module, call.kwargs)
        rows = gated_rows(call, plan, causal_without_mask(call.module, call.kwargs, self._implementation))
        return output.index_put((plan.batch, plan.row), rows[plan.batch, plan.place].to(output.dtype))

    def _plan(self, call: Call) -> _Plan | None:
        """Which of a call's queries are gated, and the bias of its keys; kept, since all layers ask the same."""
        length, n_keys, device = call.query.shape[2], call.key.shape[2], call.query.device
        wanted = (length, n_keys, device)
        if wanted not in self._plans:
            batch, known = self._rows.shape
            if call.query.shape[0] != batch or n_keys < known or n_keys - length not in (0, n_keys - 1):
                raise ValueError(
                    f"a forward of {call.query.shape[0]} × {length} positions over {n_keys} keys inside a gate of "
                    f"{batch} × {known}: expected the whole prompt at once, then one token at a time, one beam"
                )
            behind = (0, n_keys - known)
            keys = functional.pad(self._keys.to(device), behind, value=False)
            rows = functional.pad(self._rows.to(device), behind, value=True)[:, n_keys - length :]
            self._plans = {wanted: _Plan.of(rows, keys, self._log) if bool(rows.any()) else None}
        return self._plans[wanted]


class _Plan:
    """Of R gated rows: `batch`, `row` and `place` [R] say where each goes in the output and lies among the computed.

    index: int64 [B, T], the gated queries of every sample, padded with 0. bias: [B, 1, 1, K], ln γ at gated keys.
    """

    def __init__(self, index: Tensor, batch: Tensor, row: Tensor, place: Tensor, bias: Tensor) -> None:
        self.index, self.batch, self.row, self.place, self.bias = index, batch, row, place, bias

    @classmethod
    def of(cls, rows: Tensor, keys: Tensor, log: float) -> _Plan:
        batch, row = rows.nonzero(as_tuple=True)
        bias = torch.zeros(keys.shape, device=keys.device).masked_fill_(keys, log)
        return cls(positions(rows), batch, row, (rows.cumsum(1) - 1)[batch, row], bias[:, None, None])


def gated_rows(call: Call, plan: _Plan, causal: bool) -> Tensor:
    """The attention output of the planned rows, [B, T, H, D], by the same softmax with the bias added; float32."""
    query, key, value, kwargs = call.query, call.key, call.value, call.kwargs
    batch, heads, length, width = query.shape
    n_keys, kv_heads = key.shape[2], key.shape[1]
    scaling: Any = kwargs.get("scaling")
    exact = torch.promote_types(query.dtype, torch.float32)
    wanted = torch.take_along_dim(query, plan.index[:, None, :, None], dim=2).to(exact)
    weights = attention_weights(
        wanted * (width**-0.5 if scaling is None else scaling),
        key.to(exact).transpose(2, 3),
        mask_of_rows(call.mask, plan.index, length, n_keys, causal=causal),
        kwargs.get("softcap"),
        kwargs.get("s_aux"),
        plan.bias.to(exact),
    )
    weights = functional.dropout(weights, kwargs.get("dropout") or 0.0, call.module.training)
    with torch.autocast(query.device.type, enabled=False):
        folded = weights.reshape(batch, kv_heads, -1, n_keys) @ value.to(exact)
    return folded.view(batch, heads, -1, value.shape[3]).transpose(1, 2)
