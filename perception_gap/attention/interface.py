"""Listening to the attention layers of any transformers model through the library's attention interface.

While somebody listens, a dispatcher stands in for the interface's own function: it shows listeners the queries and
keys of a layer, then calls the function it replaced, so that the layer's output stays bit for bit what it was. An
amender may then overwrite chosen rows of that output (a gate).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface

from perception_gap.errors import UnsupportedModelError

ROWS_KEYWORD = "attention_rows"
GATE_KEYWORD = "attention_gate"

T = TypeVar("T")


class Listener(Protocol):
    def record(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
    ) -> None:
        """query [B, H, S, D], key [B, Hkv, K, D], mask as the layer got it, kwargs as it passed them on."""


@dataclass(frozen=True)
class Call:
    """What one attention layer was called with.

    query [B, H, S, D], key and value [B, Hkv, K, D], mask as the layer got it, kwargs as it passed them on.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    kwargs: dict[str, Any]


class Amender(Protocol):
    def amend(self, call: Call, output: Tensor) -> Tensor:
        """The layer's output [B, S, H, D] with some rows replaced, or as it came."""


# Weak: listening keeps no model alive, and the id() of a module that is gone may be given to another.
listeners: weakref.WeakKeyDictionary[nn.Module, list[Listener]] = weakref.WeakKeyDictionary()
amenders: weakref.WeakKeyDictionary[nn.Module, list[Amender]] = weakref.WeakKeyDictionary()


@dataclass
class _Hook:
    """What stands in the interface in place of one of its functions, and for how many users."""

    original: Callable[..., Any] | None
    dispatcher: Callable[..., Any]
    users: int = 0


_hooks: dict[str, _Hook] = {}


def install(name: str) -> None:
    """Stand in for the function of the name ALREADY in use: under a new name models build other masks.

    Listeners are those of the module in `listeners`, and the one that a forward passes as `attention_rows`; amenders
    those in `amenders`, and the one passed as `attention_gate`.
    """
    if name not in _hooks:
        original = AttentionInterface._global_mapping.get(name)

        def dispatch(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
        ) -> tuple[Tensor, Tensor | None]:
            rows, gate = kwargs.pop(ROWS_KEYWORD, None), kwargs.pop(GATE_KEYWORD, None)
            # Another library may go on calling this one after its hook is gone: then it only passes on.
            active = name in _hooks and _hooks[name].dispatcher is dispatch
            for listener in _all(listeners, module, rows) if active else ():
                listener.record(module, query, key, attention_mask, kwargs)
            function = original or _eager_function(module)
            output, weights = function(module, query, key, value, attention_mask, **kwargs)
            for amender in _all(amenders, module, gate) if active else ():
                output = amender.amend(Call(module, query, key, value, attention_mask, kwargs), output)
            return output, weights

        _hooks[name] = _Hook(original, dispatch)
        AttentionInterface.register(name, dispatch)
    _hooks[name].users += 1


def _all(registered: Mapping[nn.Module, list[T]], module: nn.Module, requested: T | None) -> list[T]:
    """Those registered for a module, and the one that the forward itself brings."""
    return [*registered.get(module, ()), *([] if requested is None else [requested])]


def uninstall(name: str) -> None:
    """Undo one `install`; after the last one the interface holds what it held before."""
    hook = _hooks[name]
    hook.users -= 1
    if hook.users:
        return
    del _hooks[name]
    mapping = AttentionInterface._global_mapping
    if mapping.get(name) is not hook.dispatcher:
        return  # someone registered on top of us and still calls our dispatcher
    if hook.original is None:
        del mapping[name]
    else:
        mapping[name] = hook.original


def _eager_function(module: nn.Module) -> Callable[..., Any]:
    """Eager attention is no entry of the interface but a function of the modeling file (or its parent's)."""
    for parent in type(module).__mro__:
        function: Callable[..., Any] | None = getattr(
            sys.modules.get(parent.__module__), "eager_attention_forward", None
        )
        if function is not None:
            return function
    raise UnsupportedModelError(
        f'{type(module).__name__} has no eager attention to call; load the model with attn="sdpa"'
    )
