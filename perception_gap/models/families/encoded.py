"""A batch of prompts as a model takes it, with the role of every token: what latents and answers are appended to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from perception_gap.geometry import TokenGeometry

_MASKS = ("image", "question", "latent")
# Inputs with one number a position; all others hold images, one after another along their first dimension.
_PER_POSITION = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


def predicting(answer_mask: Tensor) -> Tensor:
    """The queries that predict the answer: bool [B, S] → bool [B, S], shifted left by one.

    The logits at position p − 1 choose the token at p, so an answer token's attention is the row of p − 1. The row of
    p itself belongs to a token already chosen: it looks for the NEXT word.
    """
    shifted = torch.zeros_like(answer_mask)
    shifted[:, :-1] = answer_mask[:, 1:]
    return shifted


@dataclass(frozen=True)
class Encoded:
    """A batch of B prompts of S positions, ready for `generate` or one forward.

    inputs: the processor's whole output, left-padded (Qwen's positions depend on `mm_token_type_ids`).
    image: bool [B, S], the image tokens; those of sample b are in the order of `geometry[b]`, N_b = image[b].sum().
    question: bool [B, S], tokens of the question's text (neither template nor system prompt).
    geometry: one TokenGeometry per sample.
    latent: bool [B, S], latent tokens behind the prompt (see `with_latents`); None for a model that has none.
    appended_type: what `token_type_ids` say of latent and answer tokens (PaliGemma: 1, read causally; the prompt is 0).
    """

    inputs: dict[str, Tensor]
    image: Tensor
    question: Tensor
    geometry: list[TokenGeometry]
    latent: Tensor | None = None
    appended_type: int = 0

    def with_latents(self, latent_ids: Sequence[int], closing_ids: Sequence[int] = ()) -> Encoded:
        """The prompts followed by the same latent tokens, and by tokens that close them; both belong to the prompt."""
        tail = [*latent_ids, *closing_ids]
        whole, own = self.with_answers([tail] * len(self.geometry), pad_id=0)
        latent = own.clone()
        latent[:, latent.shape[1] - len(closing_ids) :] = False
        return replace(whole, latent=latent)

    def until(self, stop: int) -> Encoded:
        """The first `stop` positions of every prompt; images must lie within them."""
        inputs = {name: value[:, :stop] if name in _PER_POSITION else value for name, value in self.inputs.items()}
        masks: dict[str, Any] = {name: None if (m := getattr(self, name)) is None else m[:, :stop] for name in _MASKS}
        return replace(self, inputs=inputs, **masks)

    @classmethod
    def join(cls, parts: Sequence[Encoded], pad_id: int) -> Encoded:
        """One batch of several, left-padded to the longest; ValueError unless all are of one kind of model."""
        longest = max(part.image.shape[1] for part in parts)
        names = parts[0].inputs.keys()
        if any(part.inputs.keys() != names for part in parts):
            raise ValueError(f"inputs {[sorted(part.inputs) for part in parts]}: expected the same names in all parts")
        inputs = {}
        for name in names:
            values = [part.inputs[name] for part in parts]
            if name in _PER_POSITION:
                values = [_left_padded(v, longest, pad_id if name == "input_ids" else 0) for v in values]
            elif values[0].ndim > 3:  # pictures, or their tiles: padded with nothing to the largest, to the most
                values = _filled(values)
            inputs[name] = torch.cat(values)
        masks: dict[str, Any] = {
            name: _joined_masks([getattr(part, name) for part in parts], longest) for name in _MASKS
        }
        geometry = [g for part in parts for g in part.geometry]
        return cls(inputs, geometry=geometry, appended_type=parts[0].appended_type, **masks)

    @property
    def after_latents(self) -> Tensor:
        """bool [B, S]: the positions behind the last latent token (all False without latents)."""
        latent = torch.zeros_like(self.image) if self.latent is None else self.latent
        return (latent.cumsum(1) == latent.sum(1, keepdim=True)) & ~latent & latent.any(1, keepdim=True)

    def with_answers(self, answer_ids: Sequence[Sequence[int]], pad_id: int) -> tuple[Encoded, Tensor]:
        """The prompts followed by their answers, right-padded to the longest answer A.

        Returns the batch of S + A positions and bool [B, S + A], the answer tokens' OWN positions; the queries that
        predict them are `predicting(mask)`. Raises ValueError if there is not one answer per prompt.
        """
        batch = len(self.geometry)
        if len(answer_ids) != batch:
            raise ValueError(f"{len(answer_ids)} answers for {batch} prompts: expected one each")
        device = self.image.device
        longest = max((len(ids) for ids in answer_ids), default=0)
        tokens = torch.full((batch, longest), pad_id, device=device)
        own = torch.zeros(batch, longest, dtype=torch.bool, device=device)
        for b, ids in enumerate(answer_ids):
            tokens[b, : len(ids)] = torch.as_tensor(list(ids), dtype=tokens.dtype, device=device)
            own[b, : len(ids)] = True
        types = torch.full_like(tokens, self.appended_type)
        tails = dict(zip(_PER_POSITION, (tokens, own, torch.zeros_like(tokens), types), strict=True))
        inputs = {
            name: torch.cat([value, tails[name].to(value.dtype)], dim=1) if name in tails else value
            for name, value in self.inputs.items()
        }
        nothing = torch.zeros_like(own)
        whole = replace(
            self,
            inputs=inputs,
            image=torch.cat([self.image, nothing], dim=1),
            question=torch.cat([self.question, nothing], dim=1),
            latent=None if self.latent is None else torch.cat([self.latent, nothing], dim=1),
        )
        return whole, torch.cat([torch.zeros_like(self.image), own], dim=1)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Encoded:
        """The same batch on another device; floating inputs (pixels) also take `dtype`."""
        moved = {
            name: value.to(device, dtype if dtype is not None and value.is_floating_point() else value.dtype)
            for name, value in self.inputs.items()
        }
        latent = None if self.latent is None else self.latent.to(device)
        return replace(
            self, inputs=moved, image=self.image.to(device), question=self.question.to(device), latent=latent
        )


def _left_padded(values: Tensor, length: int, fill: int | bool) -> Tensor:
    """[B, S] → [B, length]."""
    return functional.pad(values, (length - values.shape[1], 0), value=fill)


def _filled(values: list[Tensor]) -> list[Tensor]:
    """Zeros behind every dimension but the first, up to the longest of each."""
    shape = [max(lengths) for lengths in zip(*(v.shape[1:] for v in values), strict=True)]
    gaps = [[most - own for most, own in zip(shape, v.shape[1:], strict=True)] for v in values]
    return [
        functional.pad(v, [n for gap in reversed(own) for n in (0, gap)]) for v, own in zip(values, gaps, strict=True)
    ]


def _joined_masks(masks: list[Tensor | None], length: int) -> Tensor | None:
    """Those of several batches as one, left-padded with False; None where none has them."""
    present = [m for m in masks if m is not None]
    if not present:
        return None
    if len(present) < len(masks):
        raise ValueError("latent tokens in some parts only: expected them in all or none")
    return torch.cat([_left_padded(m, length, False) for m in present])
