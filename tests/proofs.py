"""Shared by the proofs over all families: pictures, and decoder inputs of a vision tower that does not mix tokens."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from perception_gap.attention.capture import find_decoder

QUESTIONS = ("What colour is the small star?", "Which is closer, naïve 東京 or the 🎉 ring?\nA. red\nB. blue")
SIZES = {"landscape": (266, 154), "portrait": (123, 210), "square": (168, 168)}  # width, height


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Coarse noise, so that resampling keeps some contrast everywhere."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


VISION = ("visual", "vision_tower", "vision_model")


def stop_mixing(model: torch.nn.Module, outputs: tuple[str, ...] = (".attn.proj", ".self_attn.out_proj")) -> None:
    """Zero what attention gives in the vision tower: each patch then depends on its own pixels alone.

    outputs: endings of the names of the modules that give it.
    """
    stopped = 0
    for name, module in model.named_modules():
        if name.endswith(outputs) and any(part in name for part in VISION):
            torch.nn.init.zeros_(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
            stopped += 1
    assert stopped, "no vision attention was found"


def decoder_inputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """[B, S, D], what enters the first decoder layer."""
    seen: list[torch.Tensor] = []

    def keep(_, args, kwargs):
        seen.append((args[0] if args else kwargs["hidden_states"]).clone())

    handle = find_decoder(model).layers[0].register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    return seen[0]
