"""A gate in front of chosen keys: chosen rows see them through a bias ln γ on their logits (paper eq. 4).

Only the gated rows are computed again, O(heads · rows · keys); the fast kernel keeps every other row. The gate closes
the direct path alone: what question tokens carry of the image still flows.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perception_gap.attention.capture import (
    attention_implementation,
    causal_without_mask,
    check_readable,
    choose_layers,
    find_decoder,
)
from perception_gap.attention.interface import Call, amenders, install, uninstall
from perception_gap.attention.rows import attention_weights, mask_of_rows, positions
from perception_gap.errors import UnsupportedModelError


class Gate:
    """The bias ln γ on the logits from gated rows to gated keys, in the chosen decoder layers.

    model: a transformers model whose attention is "sdpa" or "eager".
    rows, keys: bool [B, S]. A forward over S positions gates these rows; behind S (generation with a dynamic cache)
        every row is gated, or with `behind` off none, and no key. A sample without gated keys has no gated row, so it
        stays bit for bit as it is.
    gamma: 0..1; 1 leaves every layer bit for bit as it is, 0 hides the keys from the rows.
    layers: as `perception_gap.attention.capture.choose_layers` takes them.
    beginnings: whether a forward over fewer than S positions is a beginning of the sequence (the prompt that is read
        again for every continuous latent token); it is refused otherwise.

    As a context manager (inference, generation), or for training `Gate.attached(...)` passed to the forward as
    `attention_gate`, which survives gradient checkpointing. An AttentionCapture beside it reads the weights before the
    gate. Gates nest: a row that several gate carries the sum of their biases. UnsupportedModelError for attention that
    cannot be recomputed here.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: Tensor,
        keys: Tensor,
        gamma: float,
        layers: str | Sequence[int] = "all",
        *,
        behind: bool = True,
        beginnings: bool = False,
    ) -> None:
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
            {module: i for i in choose_layers(layers, decoder) for module in decoder.layers[i].modules()}
        )
        self._model_class, self._met = type(model).__name__, set[int]()
        self._keys, self._log = keys, math.log(gamma) if gamma else -math.inf
        cut = keys.any(1, keepdim=True)
        self._rows, self._behind, self._beginnings = rows & cut.to(rows.device), cut & behind, beginnings
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

    def __exit__(self, *exception: object) -> None:
        for module in list(self._layer_of):
            amenders[module].remove(self)
            if not amenders[module]:
                del amenders[module]
        uninstall(self._implementation)
        if exception[0] is None:
            self.require_met()

    def require_met(self) -> None:
        """After a forward: UnsupportedModelError unless every chosen layer has passed through the gate."""
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
        bias = plan.bias
        for gate in self._before(call.module):
            bias = bias + gate.bias_of(call, plan.index)
        rows = gated_rows(call, plan, bias, causal_without_mask(call.module, call.kwargs, self._implementation))
        return output.index_put((plan.batch, plan.row), rows[plan.batch, plan.place].to(output.dtype))

    def _before(self, module: nn.Module) -> list[Gate]:
        """The gates whose rows this one would overwrite: open ones that amend the module's output first."""
        gates = [amender for amender in amenders.get(module, ()) if isinstance(amender, Gate)]
        return gates[: gates.index(self)] if self in gates else gates

    def bias_of(self, call: Call, index: Tensor) -> Tensor:
        """[B, 1, T, K]: what this gate adds to the logits of chosen queries (int64 [B, T]); 0 where it gates none."""
        plan = self._plan(call) if self._log else None
        if plan is None:
            return torch.zeros((), device=index.device)
        gated = torch.take_along_dim(plan.rows, index, dim=1)[:, None, :, None]
        return torch.where(gated, plan.bias, 0.0)

    def _plan(self, call: Call) -> _Plan | None:
        """Which of a call's queries are gated, and the bias of its keys; kept, since all layers ask the same."""
        length, n_keys, device = call.query.shape[2], call.key.shape[2], call.query.device
        wanted = (length, n_keys, device)
        if wanted not in self._plans:
            batch, known = self._rows.shape
            begins = self._beginnings and length == n_keys
            short = n_keys < known and not begins
            if call.query.shape[0] != batch or short or n_keys - length not in (0, n_keys - 1):
                raise ValueError(
                    f"a forward of {call.query.shape[0]} × {length} positions over {n_keys} keys inside a gate of "
                    f"{batch} × {known}: expected the whole prompt at once, then one token at a time, one beam"
                )
            more = max(0, n_keys - known)
            keys = functional.pad(self._keys.to(device)[:, :n_keys], (0, more), value=False)
            rows = torch.cat([self._rows.to(device)[:, :n_keys], self._behind.to(device).expand(-1, more)], dim=1)
            rows = rows[:, n_keys - length :]
            self._plans = {wanted: _Plan.of(rows, keys, self._log) if bool(rows.any()) else None}
        return self._plans[wanted]


class _Plan:
    """Of R gated rows: `batch`, `row` and `place` [R] say where each goes in the output and lies among the computed.

    rows: bool [B, S], the gated queries. index: int64 [B, T], the same as positions, padded with 0.
    bias: [B, 1, 1, K], ln γ at gated keys.
    """

    def __init__(self, rows: Tensor, place: Tensor, bias: Tensor) -> None:
        self.rows, self.index, self.place, self.bias = rows, positions(rows), place, bias
        self.batch, self.row = rows.nonzero(as_tuple=True)

    @classmethod
    def of(cls, rows: Tensor, keys: Tensor, log: float) -> _Plan:
        bias = torch.zeros(keys.shape, device=keys.device).masked_fill_(keys, log)
        return cls(rows, (rows.cumsum(1) - 1)[rows], bias[:, None, None])


def gated_rows(call: Call, plan: _Plan, bias: Tensor, causal: bool) -> Tensor:
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
        bias.to(exact),
    )
    weights = functional.dropout(weights, kwargs.get("dropout") or 0.0, call.module.training)
    with torch.autocast(query.device.type, enabled=False):
        folded = weights.reshape(batch, kv_heads, -1, n_keys) @ value.to(exact)
    return folded.view(batch, heads, -1, value.shape[3]).transpose(1, 2)
