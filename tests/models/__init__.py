"""Tiny random checkpoints of the real classes, with their real processors and chat templates; nothing is downloaded.

One module a family, each with its `KINDS`: name → Kind.
"""

from __future__ import annotations

from pathlib import Path

import torch

from tests.models import (
    aya_vision,
    gemma3,
    gemma4,
    generic,
    glm,
    idefics3,
    internvl,
    lfm2_vl,
    llava,
    llava_onevision,
    ovis2,
    paligemma,
    pixtral,
    qwen,
)
from tests.models.common import Kind, llama_tokenizer

__all__ = ["KINDS", "SPECS", "TRAINED", "Kind", "checkpoint", "llama_tokenizer"]

SPECS: dict[str, Kind] = {
    **qwen.KINDS,
    **llava_onevision.KINDS,
    **internvl.KINDS,
    **idefics3.KINDS,
    **ovis2.KINDS,
    **llava.KINDS,
    **gemma4.KINDS,
    **generic.KINDS,
    **glm.KINDS,
    **pixtral.KINDS,
    **aya_vision.KINDS,
    **gemma3.KINDS,
    **lfm2_vl.KINDS,
    **paligemma.KINDS,
}
KINDS = tuple(SPECS)
TRAINED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next")  # kinds on which the training module is proven


def checkpoint(kind: str, folder: Path) -> Path:
    """Build and save the checkpoint of one kind of `KINDS` into `folder`; the same weights every time."""
    torch.manual_seed(0)
    model, processor = SPECS[kind].build()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
