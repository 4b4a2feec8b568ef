"""Attention sinks among the image tokens: they draw mass whatever they show, so that a map of them looks like gaze.

Two criteria are combined, both on the states that a decoder layer takes in (its residual stream, before any norm):

1. Massive activations (Sun et al. 2024, arXiv 2402.17762) name the sink dimensions of a layer: dimension d is one where
   some visible token of the sample has |x_d| > 100 and |x_d| > 1000 × the median magnitude in the layer, over all
   visible tokens of the sample and all dimensions (of an even number the lower of the two middle ones).
2. An image token is a sink (Kang et al. 2025, arXiv 2503.03321) where, in any chosen layer, its magnitude in one of
   that layer's sink dimensions is at least τ = 20 times the root mean square of its own state.

No element exceeds √D times the root mean square of a state of D dimensions, so below D = τ² = 400 the criterion cannot
be met: there sinks are undefined (None), which is not the same as none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perception_gap.attention.capture import choose_layers, find_decoder

MASSIVE, MASSIVE_RATIO, TAU = 100.0, 1000.0, 20.0


def sink_dimensions(states: Tensor) -> Tensor:
    """bool [D]: the dimensions in which a token has a massive activation. states: [T, D], all visible tokens."""
    magnitude = states.abs().float()
    largest = magnitude.amax(dim=0)
    massive = largest > MASSIVE
    # Most layers of most models end here; the median is the costly part.
    return massive & (largest > MASSIVE_RATIO * magnitude.median()) if massive.any() else massive


def sink_tokens(states: Tensor, dimensions: Tensor) -> Tensor:
    """bool [N]: whose magnitude in one of the dimensions (bool [D]) is at least τ times its own root mean square.

    states: [N, D]. A zero state is no sink.
    """
    magnitude = states.abs().float()
    # Relative to the token's largest element, or the squares of a half precision's range would overflow.
    magnitude = magnitude / magnitude.amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    rms = magnitude.square().mean(dim=1, keepdim=True).sqrt()
    return ((magnitude >= TAU * rms) & (magnitude > 0) & dimensions).any(dim=1)


class SinkFinder:
    """Finds the sinks of one forward, streamed from layer to layer: no state is kept.

    model: a transformers model. visible, image: bool [B, S] over the positions of the forward, the tokens that are not
    padding and the image tokens. layers: as `AttentionCapture`'s; what enters these is looked at.

        with SinkFinder(model, visible, image) as finder:
            model(**inputs)
        finder.sinks  # B bool arrays [N_b], or None each
    """

    def __init__(self, model: nn.Module, visible: Tensor, image: Tensor, layers: str | Sequence[int] = "all") -> None:
        self._decoder = find_decoder(model)
        self._layers = choose_layers(layers, self._decoder)
        self._visible, self._image = visible, image
        self._is_sink: list[Tensor] | None = None
        self._seen: set[int] = set()
        self._hooks: list[Any] = []

    def __enter__(self) -> SinkFinder:
        self._seen, self._is_sink = set(), [torch.zeros(int(n), dtype=torch.bool) for n in self._image.sum(1)]
        for i in self._layers:
            hook = self._decoder.layers[i].register_forward_pre_hook(self._look(i), with_kwargs=True)
            self._hooks.append(hook)
        return self

    def __exit__(self, *exception: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _look(self, layer: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states: Any = args[0] if args else kwargs.get("hidden_states")
            if not isinstance(states, Tensor) or states.shape[:2] != self._visible.shape or states.ndim != 3:
                self._is_sink = None  # several streams, say: nothing that the criterion speaks of
            if self._is_sink is None or states.shape[2] < TAU**2:
                return
            self._seen.add(layer)
            visible, image = self._visible.to(states.device), self._image.to(states.device)
            for b, is_sink in enumerate(self._is_sink):
                dimensions = sink_dimensions(states[b][visible[b]])
                if dimensions.any():
                    is_sink |= sink_tokens(states[b][image[b]], dimensions).to(is_sink.device)

        return hook

    @property
    def sinks(self) -> list[np.ndarray | None]:
        """bool [N_b] a sample, over its image tokens in their order.

        None where sinks are undefined: a state of fewer than τ² = 400 dimensions, or layers that do not take one state
        [B, S, D] as their first argument.
        """
        if self._is_sink is None or self._seen != set(self._layers):
            return [None] * len(self._image)
        return [is_sink.numpy() for is_sink in self._is_sink]
