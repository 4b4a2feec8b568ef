"""Capture of attention rows from any transformers decoder, streamed while it runs.

The layer's own output is computed as always; beside it, only the wanted rows (text queries × image keys) are
computed, reduced over heads at once and summed over layers. Nothing here knows a model family.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface

from perception_gap.errors import UnsupportedModelError, UsageError
from perception_gap.rows import attention_rows

ROWS_KEYWORD = "attention_rows"
_SUPPORTED = ("sdpa", "eager")
_originals: dict[str, Callable | None] = {}  # interface key -> what stood there before us
_users: dict[str, int] = {}
_listeners: dict[int, list[tuple[AttentionCapture, int]]] = {}  # id(attention module) -> (capture, layer)


def parse_layers(layers: str | Sequence[int], n_layers: int) -> list[int]:
    """`"all"`, `"lastN"`, comma-separated or listed indices (negative count from the end) → sorted layer indices."""
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


def find_decoder(model: nn.Module) -> nn.Module:
    """The module whose `.layers` are the decoder layers of the text model."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    for _ in range(4):
        if isinstance(getattr(decoder, "layers", None), nn.ModuleList):
            return decoder
        for name in ("language_model", "text_model", "model", "decoder"):
            if isinstance(getattr(decoder, name, None), nn.Module):
                decoder = getattr(decoder, name)
                break
    raise UnsupportedModelError(
        f"{type(model).__name__}: no decoder with a list of layers was found; capture needs a transformers decoder"
    )


def _attention_layers(decoder: nn.Module) -> list[int]:
    """Indices of the layers that do attention at all (hybrids such as Qwen3.5 also have linear layers)."""
    kinds = getattr(getattr(decoder, "config", None), "layer_types", None)
    n = len(decoder.layers)
    if not kinds or len(kinds) != n:
        return list(range(n))
    return [i for i, kind in enumerate(kinds) if "attention" in kind and "linear" not in kind]


def _original(key: str, module: nn.Module) -> Callable:
    original = _originals[key]
    if original is None:  # "eager" is no entry of the interface: every modeling file has its own function
        original = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if original is None:
        raise UnsupportedModelError(f'{type(module).__name__} has no eager attention to call; load with attn="sdpa"')
    return original


def _dispatcher(interface_key: str) -> Callable:
    def attention(module, query, key, value, attention_mask, **kwargs):
        requested = kwargs.pop(ROWS_KEYWORD, None)
        for capture, layer in _listeners.get(id(module), ()):
            capture._record(layer, interface_key, module, query, key, attention_mask, kwargs)
        if requested is not None and id(module) in requested._layer_of:
            layer = requested._layer_of[id(module)]
            requested._record(layer, interface_key, module, query, key, attention_mask, kwargs)
        return _original(interface_key, module)(module, query, key, value, attention_mask, **kwargs)

    return attention


def _install(key: str) -> None:
    if _users.get(key, 0) == 0:
        mapping = AttentionInterface._global_mapping
        _originals[key] = mapping.get(key)
        AttentionInterface.register(key, _dispatcher(key))
    _users[key] = _users.get(key, 0) + 1


def _uninstall(key: str) -> None:
    _users[key] -= 1
    if _users[key] == 0:
        original = _originals.pop(key)
        if original is None:
            del AttentionInterface._global_mapping[key]
        else:
            AttentionInterface.register(key, original)


class AttentionCapture:
    """Rows of chosen text tokens over the image tokens, averaged over heads and layers, for one forward.

    model: a transformers model whose attention is "sdpa" (or "eager").
    queries, keys: bool [B, S] over the positions of the forward, on any device: T_b queries and N_b keys a sample.
    layers: `"all"`, `"last8"` or indices; layers without attention are left out of "all" and "lastN".

    As a context manager (inference, any forward inside is recorded, the last one counts):

        with AttentionCapture(model, queries, keys) as capture:
            model(**inputs)
        capture.attention  # list of B tensors [T_b, N_b], float32, raw (a row sums to its text–image mass)

    For training, `AttentionCapture.attached(...)` is passed per forward, `model(**inputs, attention_rows=capture)`,
    so that non-reentrant gradient checkpointing may recompute layers after the forward has returned.

    Raises UnsupportedModelError if a chosen layer does not pass through transformers' attention interface.
    """

    def __init__(
        self, model: nn.Module, queries: Tensor, keys: Tensor, layers: str | Sequence[int] = "all", *, per_head: bool = False
    ) -> None:
        if queries.shape != keys.shape or queries.ndim != 2 or queries.dtype != torch.bool or keys.dtype != torch.bool:
            raise ValueError(
                f"queries {tuple(queries.shape)} {queries.dtype}, keys {tuple(keys.shape)} {keys.dtype}: "
                "expected two boolean masks [B, S]"
            )
        decoder = find_decoder(model)
        self._model_class = type(model).__name__
        self._implementation = getattr(decoder.config, "_attn_implementation", None)
        if self._implementation not in _SUPPORTED:
            raise UnsupportedModelError(
                f"{self._model_class} runs attention {self._implementation!r}: capture reads {' and '.join(_SUPPORTED)}; "
                'load the model with attn="sdpa"'
            )
        able = _attention_layers(decoder)
        if isinstance(layers, str) and (layers == "all" or layers.startswith("last")):
            self.layers = [able[i] for i in parse_layers(layers, len(able))]
        else:
            self.layers = parse_layers(layers, len(decoder.layers))
        self._layer_of = {id(m): i for i in self.layers for m in decoder.layers[i].modules()}
        self._shape = tuple(queries.shape)
        self._counts = list(zip(queries.sum(1).tolist(), keys.sum(1).tolist(), strict=True))
        self._rows, self._columns = _positions(queries), _positions(keys)
        self._per_head = per_head
        self._keep_first = False
        self._open = False
        self._reset()

    @classmethod
    def attached(cls, model: nn.Module, queries: Tensor, keys: Tensor, layers: str | Sequence[int] = "all") -> AttentionCapture:
        """A capture for one training forward, passed as the keyword `attention_rows`; a recomputed layer counts once."""
        capture = cls(model, queries, keys, layers)
        capture._keep_first = True
        _install(capture._implementation)
        weakref.finalize(capture, _uninstall, capture._implementation)
        return capture

    def _reset(self) -> None:
        self._sum: Tensor | list[Tensor] | None = None
        self._seen: set[int] = set()

    def __enter__(self) -> AttentionCapture:
        if self._open or self._keep_first:
            raise RuntimeError("this AttentionCapture is in use already: make a new one for every block")
        self._open = True
        self._reset()
        _install(self._implementation)
        for module_id, layer in self._layer_of.items():
            _listeners.setdefault(module_id, []).append((self, layer))
        return self

    def __exit__(self, *exception) -> None:
        for module_id, layer in self._layer_of.items():
            _listeners[module_id].remove((self, layer))
            if not _listeners[module_id]:
                del _listeners[module_id]
        self._open = False
        _uninstall(self._implementation)

    def _record(self, layer: int, interface_key: str, module, query, key, attention_mask, kwargs) -> None:
        if query.shape[0] != self._shape[0] or query.shape[2] != self._shape[1] or key.shape[2] != self._shape[1]:
            raise ValueError(
                f"a forward of {query.shape[0]} × {query.shape[2]} positions over {key.shape[2]} keys inside a capture of "
                f"{self._shape[0]} × {self._shape[1]}: generate first, then capture ONE whole teacher-forced forward"
            )
        repeated = layer in self._seen
        if repeated and not self._keep_first:
            self._reset()  # a new forward began
        if self._keep_first and module.training and not torch.is_grad_enabled():
            raise UsageError(
                "gradient checkpointing in reentrant mode gives attention rows without gradient: "
                'pass gradient_checkpointing_kwargs={"use_reentrant": False}'
            )
        # Computed even when recomputed and dropped: checkpointing must see the same operations twice.
        rows = self._compute(interface_key, module, query, key, attention_mask, kwargs)
        if repeated and self._keep_first:
            return
        self._seen.add(layer)
        if self._per_head:
            self._sum = [*(self._sum or []), rows]
        else:
            self._sum = rows if self._sum is None else self._sum + rows.to(self._sum.device)

    def _compute(self, interface_key: str, module, query, key, attention_mask, kwargs) -> Tensor:
        device = query.device
        wanted, columns = self._rows.to(device), self._columns.to(device)
        batch, heads, length, width = query.shape
        picked = torch.take_along_dim(query, wanted[:, None, :, None], dim=2)
        mask = None
        if attention_mask is not None:
            whole = attention_mask.expand(batch, attention_mask.shape[1], length, attention_mask.shape[-1])
            mask = torch.take_along_dim(whole, wanted[:, None, :, None], dim=2)[..., : key.shape[2]]
        elif interface_key == "sdpa":
            causal = kwargs.get("is_causal")
            if causal is None:
                causal = getattr(module, "is_causal", True)
            if causal and length > 1:  # what sdpa makes of "no mask"
                mask = (torch.arange(length, device=device) <= wanted[:, :, None])[:, None]
        scaling = kwargs.get("scaling")
        return attention_rows(
            picked, key, mask, scaling=width**-0.5 if scaling is None else scaling,
            softcap=kwargs.get("softcap"), sinks=kwargs.get("s_aux"), columns=columns, per_head=self._per_head,
        )  # fmt: skip

    @property
    def attention(self) -> list[Tensor]:
        """B tensors [T_b, N_b] (or [L, H, T_b, N_b] with `per_head`), float32; rows and columns in sequence order."""
        missing = [i for i in self.layers if i not in self._seen]
        if len(missing) == len(self.layers) == 0 or (missing and self._sum is None and not self._seen):
            hint = "no forward ran inside the capture, or"
        else:
            hint = ""
        if missing:
            raise UnsupportedModelError(
                f"{self._model_class}: {hint} layers {missing[:4]} do not pass through transformers' attention interface; "
                'use a model whose attention is dispatched by it (attn="sdpa"), or leave those layers out with `layers`'
            )
        if self._per_head:
            whole = torch.stack([rows.to(self._sum[0].device) for rows in self._sum], dim=1)
            return [whole[b, :, :, :t, :n] for b, (t, n) in enumerate(self._counts)]
        mean = self._sum / len(self._seen)
        return [mean[b, :t, :n] for b, (t, n) in enumerate(self._counts)]


def _positions(mask: Tensor) -> Tensor:
    """Indices of the True entries of each row, padded with 0 to the longest: int64 [B, max count (at least 1)]."""
    longest = max(1, int(mask.sum(1).max()))
    order = torch.argsort(mask.int(), dim=1, descending=True, stable=True)[:, :longest]
    return torch.where(torch.arange(longest, device=mask.device) < mask.sum(1, keepdim=True), order, 0)
