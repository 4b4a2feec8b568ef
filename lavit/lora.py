"""LoRA (Hu et al., arXiv 2106.09685) through PEFT: adapters in the decoder, whole rows for the new tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lavit.student import LavitStudent
from perception_gap.attention.capture import find_decoder


def adapt(student: LavitStudent, rank: int) -> None:
    """Adapters of this rank (alpha = 2 · rank) in every linear layer of the decoder, in place.

    The decoder's own weights freeze; of the embeddings only the rows of latent and closing tokens move.
    """
    from peft import LoraConfig, inject_adapter_in_model

    decoder = find_decoder(student.base)
    names = sorted({name.rsplit(".", 1)[-1] for name, m in decoder.named_modules() if isinstance(m, nn.Linear)})
    for parameter in student.base.parameters():
        parameter.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), decoder)
    wanted = torch.tensor([*student.latent_ids, *student.closing_ids])
    tables = {
        id(t.weight): t.weight
        for t in (student.base.get_input_embeddings(), student.base.get_output_embeddings())
        if t is not None
    }
    for weight in tables.values() if len(wanted) else ():
        weight.requires_grad_(True)
        weight.register_hook(lambda gradient: _rows_only(gradient, wanted))
    student.adapted = True


def _rows_only(gradient: Tensor, rows: Tensor) -> Tensor:
    kept = torch.zeros_like(gradient)
    kept[rows.to(gradient.device)] = gradient[rows.to(gradient.device)]
    return kept


def merge(student: LavitStudent) -> None:
    """Fold the adapters into the decoder's weights: a plain model again."""
    from peft.tuners.lora.layer import LoraLayer

    for name, module in list(student.base.named_modules()):
        if isinstance(module, LoraLayer):
            layer: Any = module
            layer.merge()
            student.base.set_submodule(name, layer.get_base_layer())
    student.adapted = False
