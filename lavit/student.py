"""The student in training: a plain model, its projection head, and one forward that gives every term of the loss."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from lavit import losses
from lavit.heads import ProjectionHead
from lavit.latents import LatentSpec, injected, latent_inputs, token_ids
from perception_gap.attention.capture import AttentionCapture, choose_layers, find_decoder
from perception_gap.attention.gate import Gate
from perception_gap.errors import UsageError
from perception_gap.models.families.encoded import Encoded, predicting

SUPERVISED = ("last", "all")


@dataclass(frozen=True)
class Objective:
    """What is trained for: weights of the terms (eq. 9: 1, λ, λ) and where they are taken.

    supervise: "last" latent (paper, appendix C.2) or "all" of them (eq. 7). gaze_layers: whose attention is the gaze,
    as in AttentionCapture. ntp_on_latents: whether the latents are predicted too.
    """

    semantic_weight: float = 0.3
    trajectory_weight: float = 0.3
    supervise: str = "last"
    gaze_layers: str = "all"
    ntp_on_latents: bool = False

    def __post_init__(self) -> None:
        if self.supervise not in SUPERVISED:
            raise UsageError(f"supervise {self.supervise!r}: expected one of {', '.join(SUPERVISED)}")
        if self.semantic_weight < 0 or self.trajectory_weight < 0:
            raise UsageError("semantic_weight and trajectory_weight: expected at least 0")


class LavitStudent(nn.Module):
    """base: a model of transformers that knows the latent tokens; head: None without semantic reconstruction.

    Trained are decoder, embeddings and head; everything else (vision tower, projector) is frozen and stays in eval
    mode, unless `freeze_vision` is off.
    """

    def __init__(
        self,
        base: Any,
        tokenizer: Any,
        spec: LatentSpec,
        objective: Objective,
        teacher_width: int | None,
        *,
        freeze_vision: bool = True,
    ) -> None:
        super().__init__()
        self.base, self.spec, self.objective = base, spec, objective
        self.config = base.config  # Trainer reads it
        self.adapted = False  # whether LoRA adapters stand in the decoder
        ids = token_ids(tokenizer, spec.all_tokens)
        self.latent_ids, self.closing_ids = ids[: len(spec.tokens)], ids[len(spec.tokens) :]
        self.head: ProjectionHead | None = None
        if objective.semantic_weight > 0 and self.latent_ids:
            if teacher_width is None:
                raise UsageError("semantic reconstruction needs traces with V_sem; these have none")
            self.head = ProjectionHead(base.config.get_text_config().hidden_size, teacher_width)
        choose_layers(objective.gaze_layers, find_decoder(base))  # said before any step
        self.freeze(freeze_vision)

    def freeze(self, vision: bool) -> None:
        """Leave decoder, embeddings and head to move; and the rest too unless `vision`."""
        language = [find_decoder(self.base), self.base.get_input_embeddings(), self.base.get_output_embeddings()]
        moving = {id(p) for part in language if part is not None for p in part.parameters()}
        for parameter in self.base.parameters():
            parameter.requires_grad_(id(parameter) in moving or not vision)

    def train(self, mode: bool = True) -> LavitStudent:
        """Frozen parts stay in eval mode."""
        super().train(mode)
        for module in self.base.modules():
            own = list(module.parameters())
            if own and not any(p.requires_grad for p in own):
                module.eval()
        return self

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """As Trainer calls it; rows have gradients only in non-reentrant mode, the default here."""
        chosen = {"use_reentrant": False} | (activation_checkpointing_kwargs or {})
        if hasattr(self.base, "activation_checkpointing_enable"):
            self.base.activation_checkpointing_enable(activation_checkpointing_kwargs=chosen, **options)
        else:
            self.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=chosen, **options)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The same, by the name that older versions of transformers call."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def forward(self, batch: dict[str, Any], gamma: float = 1.0) -> dict[str, Tensor]:
        """Terms of one batch, one value a sample: `ntp` [B] (a sum over tokens), and, where wanted, `concept` and
        `trajectory` [B], 0 for a sample whose trace lacks the signal (the batch's `has_v_sem`, `has_gaze` say which).

        batch: see `lavit.data.collate`. gamma: how much of the image answer rows see (see `lavit.gating.gamma`).
        """
        inputs, latent, image = dict(batch["inputs"]), batch["latent"], batch["image"]
        answer = batch["answer"]
        predicted = answer | latent if self.objective.ntp_on_latents else answer
        predicts = predicting(predicted)
        keep = predicts.any(0).nonzero().flatten()
        features = inputs.pop("image_features", None)
        if features is not None:
            seen: Any = (features,)  # one tensor an image, or all together: the model concatenates them
            inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=seen)}
        supervised = self.supervised(latent)
        gaze = None
        beside: dict[str, Any] = {"output_hidden_states": -1 if self.head else None}
        if self.objective.trajectory_weight > 0 and self.latent_ids:
            gaze = AttentionCapture.attached(self.base, supervised, image, self.objective.gaze_layers)
            beside["attention_rows"] = gaze
        gate = Gate.attached(self.base, batch["gated"], image, gamma) if gamma < 1 else None
        if gate is not None:
            beside["attention_gate"] = gate
        with self._continuous(batch, inputs):
            output = self.base(**inputs, **beside, use_cache=False, logits_to_keep=keep)
        if gate is not None:
            gate.require_met()
        chosen = predicts[:, keep]
        targets = batch["inputs"]["input_ids"][predicted]
        sample = chosen.nonzero(as_tuple=True)[0]
        terms = {"ntp": losses.ntp(output.logits[chosen], targets, sample, len(latent))}
        if self.head is not None:
            states = output.hidden_states[-1]
            projected = self.head(states[supervised].to(self.head.layers[0].weight.dtype))
            projected = projected.view(len(latent), -1, projected.shape[-1])
            terms["concept"] = torch.where(batch["has_v_sem"], losses.concept(projected, batch["v_sem"]), 0.0)
        if gaze is not None:
            width = batch["target"].shape[1]
            rows = [nn.functional.pad(r, (0, width - r.shape[1])) for r in gaze.attention]
            each = losses.trajectory(torch.stack(rows), batch["target"])
            terms["trajectory"] = torch.where(batch["has_gaze"], each, 0.0)
        return terms

    def supervised(self, latent: Tensor) -> Tensor:
        """bool [B, S]: the last latent token, or all of them."""
        if self.objective.supervise == "all":
            return latent
        return latent & (latent.cumsum(1) == latent.sum(1, keepdim=True))

    def _continuous(self, batch: dict[str, Any], inputs: dict[str, Any]) -> AbstractContextManager[Any]:
        """What embeds continuous latents while the model reads; inputs: as the model takes them."""
        if self.spec.kind != "continuous" or not self.latent_ids:
            return nullcontext()
        names = ("image", "question", "latent")
        encoded = Encoded(inputs, geometry=[], **{name: batch[name] for name in names})
        return injected(self.base, self.latent_ids, latent_inputs(self.base, encoded, self.latent_ids))
