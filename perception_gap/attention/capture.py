"""Capture of attention rows from any transformers decoder, streamed while it runs.

The layer's own output is computed as always; beside it, only the wanted rows (text queries × image keys) are
computed, reduced over heads at once and summed over layers. Nothing here knows a model family.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from perception_gap.attention.interface import install, listeners, uninstall
from perception_gap.attention.rows import attention_rows, mask_of_rows, positions
from perception_gap.errors import UnsupportedModelError, UsageError

_SUPPORTED = ("sdpa", "eager")
# Keyword arguments of a layer that change its weights and that `attention_rows` does not know.
_UNREAD = ("position_bias", "sinks", "block_indices")
# Kinds in `config.layer_types` without attention weights. An unknown kind is taken for attention: if it is none,
# reading the result says so; left out, it would go unnoticed.
_NO_ATTENTION = ("linear_attention", "conv", "moe", "mamba", "recurrent")


def parse_layers(layers: str | Sequence[int], n_layers: int) -> list[int]:
    """`"all"`, `"lastN"`, listed or comma-separated indices (negative: from the end) → sorted indices."""
    if layers == "all":
        return list(range(n_layers))
    try:
        if isinstance(layers, str) and layers.startswith("last"):
            count = int(layers.removeprefix("last"))
            chosen = list(range(n_layers - count, n_layers)) if 0 < count <= n_layers else []
        else:
            listed = layers.split(",") if isinstance(layers, str) else layers
            chosen = sorted({i + n_layers if i < 0 else i for i in map(int, listed)})
    except ValueError:
        chosen = []
    if not chosen or chosen[0] < 0 or chosen[-1] >= n_layers:
        raise UsageError(f'layers {layers!r}: expected "all", "last1".."last{n_layers}" or indices below {n_layers}')
    return chosen


def find_decoder(model: nn.Module) -> Any:
    """The module whose `.layers` are the decoder layers of the text model; else UnsupportedModelError."""
    decoder: Any = model
    if hasattr(model, "get_decoder"):
        decoder = cast(Any, model).get_decoder()
    for _ in range(4):
        if isinstance(getattr(decoder, "layers", None), nn.ModuleList):
            return decoder
        for name in ("language_model", "text_model", "model", "decoder"):
            if isinstance(getattr(decoder, name, None), nn.Module):
                decoder = getattr(decoder, name)
                break
    raise UnsupportedModelError(
        f"{type(model).__name__}: no decoder with a list of layers; capture needs a transformers text decoder"
    )


def choose_layers(layers: str | Sequence[int], decoder: Any) -> list[int]:
    """`layers` as indices of the decoder's layers; "all" and "lastN" count the layers with attention only."""
    n_layers = len(decoder.layers)
    kinds = getattr(getattr(decoder, "config", None), "layer_types", None) or ()
    by_count = isinstance(layers, str) and (layers == "all" or layers.startswith("last"))
    if not by_count or len(kinds) != n_layers:
        return parse_layers(layers, n_layers)
    attending = [i for i, kind in enumerate(kinds) if kind not in _NO_ATTENTION]
    return [attending[i] for i in parse_layers(layers, len(attending))]


def attention_implementation(decoder: Any, model: nn.Module) -> str:
    """The name in the attention interface that the decoder uses; UnsupportedModelError unless sdpa or eager."""
    name = getattr(getattr(decoder, "config", None), "_attn_implementation", None) or "none"
    if name not in _SUPPORTED:
        raise UnsupportedModelError(
            f"{type(model).__name__} runs attention {name!r}: "
            f'capture reads {" and ".join(_SUPPORTED)}; load the model with attn="sdpa"'
        )
    return name


def check_readable(module: nn.Module, kwargs: dict[str, Any]) -> None:
    """UnsupportedModelError for a layer whose weights depend on more than `attention_weights` knows."""
    unread = [name for name in _UNREAD if kwargs.get(name) is not None]
    if unread:
        raise UnsupportedModelError(
            f"{type(module).__name__} weighs keys by {unread[0]!r}, which capture cannot "
            "read; leave that layer out with `layers`"
        )


def causal_without_mask(module: nn.Module, kwargs: dict[str, Any], implementation: str) -> bool:
    """Without a mask sdpa is causal if the call, else the module, says so; eager sees every key."""
    causal = kwargs.get("is_causal")
    return implementation == "sdpa" and bool(getattr(module, "is_causal", True) if causal is None else causal)


class AttentionCapture:
    """Rows of chosen text tokens over the image tokens, averaged over heads and layers, for one forward.

    model: a transformers model whose attention is "sdpa" (or "eager").
    queries, keys: bool [B, S] over the positions of the forward: T_b queries and N_b keys a sample.
    layers: `"all"`, `"last8"` or indices; layers without attention are left out of "all" and "lastN".
    per_head: keep layers and heads apart.

    As a context manager (inference, any forward inside is recorded, the last one counts):

        with AttentionCapture(model, queries, keys) as capture:
            model(**inputs)
        capture.attention  # list of B tensors [T_b, N_b], float32, raw (a row sums to its text–image mass)

    For training, `AttentionCapture.attached(...)` goes into each forward, `model(**inputs, attention_rows=capture)`,
    so that non-reentrant gradient checkpointing may recompute layers after the forward has returned.

    Weights are those before attention dropout; captures nest, also on one model. Raises ValueError for masks or
    forwards of another shape, UnsupportedModelError if a chosen layer weighs by something unknown here or (on
    reading `attention`) does not pass through transformers' attention interface.
    """

    def __init__(
        self,
        model: nn.Module,
        queries: Tensor,
        keys: Tensor,
        layers: str | Sequence[int] = "all",
        *,
        per_head: bool = False,
    ) -> None:
        boolean = queries.dtype == keys.dtype == torch.bool
        if queries.shape != keys.shape or queries.ndim != 2 or not boolean:
            raise ValueError(
                f"queries {tuple(queries.shape)} {queries.dtype}, keys {tuple(keys.shape)} {keys.dtype}: "
                "expected two boolean masks [B, S]"
            )
        decoder = find_decoder(model)
        self._model_class = type(model).__name__
        self._implementation = attention_implementation(decoder, model)
        self.layers = choose_layers(layers, decoder)
        self._layer_of: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary(
            {module: i for i in self.layers for module in decoder.layers[i].modules()}
        )
        self._shape = tuple(queries.shape)
        self._counts = list(zip(queries.sum(1).tolist(), keys.sum(1).tolist(), strict=True))
        self._positions = {queries.device: (positions(queries), positions(keys.to(queries.device)))}
        self._per_head = per_head
        self._attached = False
        self._open = False
        self._reset()

    @classmethod
    def attached(
        cls,
        model: nn.Module,
        queries: Tensor,
        keys: Tensor,
        layers: str | Sequence[int] = "all",
        *,
        per_head: bool = False,
    ) -> AttentionCapture:
        """A capture for one training forward, passed to it as `attention_rows`; a recomputed layer counts once.

        Its rows carry gradients; the interface is as before once the capture is gone. Under reentrant gradient
        checkpointing, whose rows have no gradient, the forward raises UsageError. Under checkpointing a step that
        is given up before its backward (out of memory) needs `release()`.
        """
        capture = cls(model, queries, keys, layers, per_head=per_head)
        capture._attached = True
        install(capture._implementation)
        weakref.finalize(capture, uninstall, capture._implementation)
        return capture

    def _reset(self) -> None:
        self._rows: list[Tensor] = []  # one sum over layers, or with `per_head` one entry a layer
        self._seen: dict[int, int] = {}  # id of a recorded attention module -> its layer

    def release(self) -> None:
        """Let go of the rows. Checkpointing holds the capture, the rows hold the graph: backward alone unties them."""
        self._rows = []

    def __enter__(self) -> AttentionCapture:
        if self._open or self._attached:
            raise RuntimeError("this AttentionCapture is in use already: make a new one for every block")
        self._open = True
        self._reset()
        install(self._implementation)
        for module in self._layer_of:
            listeners.setdefault(module, []).append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        for module in list(self._layer_of):
            listeners[module].remove(self)
            if not listeners[module]:
                del listeners[module]
        uninstall(self._implementation)
        self._open = False

    def record(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
    ) -> None:
        """Listener of the attention interface: adds the rows of one layer."""
        layer = self._layer_of.get(module)
        if layer is None:
            return
        batch, length = self._shape
        if query.shape[0] != batch or query.shape[2] != length or key.shape[2] != length:
            raise ValueError(
                f"a forward of {query.shape[0]} × {query.shape[2]} positions over {key.shape[2]} keys inside a "
                f"capture of {batch} × {length}: generate first, then capture ONE whole teacher-forced forward"
            )
        if self._attached and module.training and not torch.is_grad_enabled():
            raise UsageError(
                "reentrant gradient checkpointing (or no_grad) leaves attention rows without gradient: pass "
                'gradient_checkpointing_kwargs={"use_reentrant": False}, or call model.eval() to evaluate'
            )
        repeated = id(module) in self._seen
        if repeated and not self._attached:
            self._reset()  # a new forward began
        # Computed also when recomputed and dropped: checkpointing must see the same operations twice.
        rows = self._compute(module, query, key, mask, kwargs)
        if repeated and self._attached:
            return
        self._seen[id(module)] = layer
        if self._rows:
            rows = rows.to(self._rows[0].device)  # layers may lie on several devices
        if self._rows and not self._per_head:
            self._rows[0] = self._rows[0] + rows
        else:
            self._rows.append(rows)

    def _compute(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
    ) -> Tensor:
        check_readable(module, kwargs)
        rows, columns = self._positions_on(query.device)
        length, width = query.shape[2:]
        causal = causal_without_mask(module, kwargs, self._implementation)
        scaling = kwargs.get("scaling")
        return attention_rows(
            torch.take_along_dim(query, rows[:, None, :, None], dim=2),
            key,
            mask_of_rows(mask, rows, length, key.shape[2], causal=causal),
            scaling=width**-0.5 if scaling is None else scaling,
            softcap=kwargs.get("softcap"),
            sinks=kwargs.get("s_aux"),
            columns=columns,
            per_head=self._per_head,
        )

    def _positions_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        # Kept per device: copying them in every layer would make the host wait for an accelerator each time.
        if device not in self._positions:
            rows, columns = next(iter(self._positions.values()))
            self._positions[device] = rows.to(device), columns.to(device)
        return self._positions[device]

    @property
    def attention(self) -> list[Tensor]:
        """B tensors [T_b, N_b] (or [L, H, T_b, N_b] with `per_head`), float32, in sequence order.

        Raises UnsupportedModelError unless every chosen layer was recorded.
        """
        missing = sorted(set(self.layers) - set(self._seen.values()))
        if missing:
            what = f"layers {missing}" if self._seen else "no forward ran in the capture, or its layers"
            raise UnsupportedModelError(
                f"{self._model_class}: {what} did not pass through transformers' attention interface; use a "
                'model whose layers do (attn="sdpa"), or leave such layers out with `layers`'
            )
        if self._per_head:
            whole = torch.stack(self._rows, dim=1)
            return [whole[b, :, :, :t, :n] for b, (t, n) in enumerate(self._counts)]
        mean = self._rows[0] / len(self._seen)
        return [mean[b, :t, :n] for b, (t, n) in enumerate(self._counts)]
