"""The vision tower: trained alone on dense labels of every image token, as real models start from a trained tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from scripts.embedded import build
from scripts.embedded.loop import loop
from scripts.embedded.render import ABSENT, GRID, HEADS

N_TOKENS = GRID * GRID


def patches(images: np.ndarray, image_processor: Any) -> Tensor:
    """uint8 [B, 128, 128, 3] → pixel_values [B · 64, 1536] exactly as the processor lays them out."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (image_processor.image_mean, image_processor.image_std))
    p = build.PATCH
    cells = ((pixels - mean) / std).view(len(images), 3, GRID, p, GRID, p).permute(0, 2, 4, 1, 3, 5)
    return cells[:, :, :, :, None].expand(-1, -1, -1, -1, 2, -1, -1).reshape(len(images) * N_TOKENS, -1)


def see(visual: Any, pixel_values: Tensor) -> Tensor:
    """Image tokens [B, 64, hidden]: the tower's forward for equal square images, as one batch that compiles.

    The model's own forward splits attention image by image in Python, which costs half the time of a small tower;
    `train_tower` checks that both give the same numbers.
    """
    batch = len(pixel_values) // N_TOKENS
    where = torch.arange(N_TOKENS).repeat(batch)
    cos, sin = visual.rotary_pos_emb(pixel_values, torch.stack([where // GRID, where % GRID], dim=1))
    hidden = visual.patch_embed(pixel_values)
    for block in visual.blocks:
        qkv = block.attn.qkv(block.norm1(hidden)).view(len(hidden), 3, block.attn.num_heads, -1)
        q, k, v = qkv.unbind(1)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
        q, k, v = (t.view(batch, N_TOKENS, block.attn.num_heads, -1).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(hidden), -1)
        hidden = hidden + block.attn.proj(mixed)
        hidden = hidden + block.mlp(block.norm2(hidden))
    return visual.merger(hidden).view(batch, N_TOKENS, -1)


def dense_heads(width: int) -> nn.ModuleDict:
    sizes = HEADS | {"row": GRID, "column": GRID}
    return nn.ModuleDict({name: nn.Linear(width, n) for name, n in sizes.items()})


def dense_targets(labels: np.ndarray) -> dict[str, Tensor]:
    """name → int64 [B · 64] targets of every dense head."""
    flat = torch.from_numpy(labels.astype(np.int64)).view(-1, len(HEADS))
    where = torch.arange(N_TOKENS).repeat(len(labels))
    return {name: flat[:, i] for i, name in enumerate(HEADS)} | {"row": where // GRID, "column": where % GRID}


def train_tower(work: Path, data: Any, heldout: Any, steps: int, image_processor: Any, configuration: Any) -> None:
    torch.manual_seed(0)
    visual: Any = build.model(configuration).model.visual
    module: Any = nn.ModuleDict({"visual": visual, "heads": dense_heads(visual.config.out_hidden_size)})
    look = torch.compile(see)
    with torch.no_grad():
        pixels = patches(data.images[:4], image_processor)
        real = visual(pixels, grid_thw=torch.tensor([[1, GRID, GRID]] * 4)).pooler_output
        torch.testing.assert_close(see(visual, pixels).flatten(0, 1), real, atol=1e-5, rtol=1e-4)
    # Most tokens are empty wall; weigh the things so that they are not learned last.
    weights = {n: torch.tensor([0.1] + [1.0] * (HEADS[n] - 1)) for n in ("shape", "color", "size", "look")}

    def loss_of(step: int) -> dict[str, Tensor]:
        index = np.sort(np.random.default_rng([7, step]).choice(len(data.tasks), 64, replace=False))
        seen = look(visual, patches(data.images[index], image_processor)).flatten(0, 1)
        return {
            name: F.cross_entropy(module["heads"][name](seen), target, weight=weights.get(name), ignore_index=ABSENT)
            for name, target in dense_targets(data.labels[index]).items()
        }

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        seen = torch.cat(
            [see(visual, patches(heldout.images[i : i + 100], image_processor)) for i in range(0, 600, 100)]
        )
        accuracy = {}
        for name, target in dense_targets(heldout.labels[:600]).items():
            guess = module["heads"][name](seen.flatten(0, 1)).argmax(-1)
            counts = (target > 0) if name in weights else (target != ABSENT)
            accuracy[f"acc_{name}"] = round(float((guess == target)[counts].float().mean()), 3)
        return accuracy

    loop(work / "tower", module, steps, 1.5e-3, loss_of, evaluate, made_by={"steps": steps})
    torch.save(visual.state_dict(), work / "tower.pt")
