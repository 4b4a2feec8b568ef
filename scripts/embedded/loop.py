"""The training loop of every stage: seeded, logged, and resumable to the bit."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perception_gap.errors import UsageError


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then half a cosine to 2 % of the peak."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.02 + 0.98 * (1 + math.cos(math.pi * (step - 100) / max(1, steps - 100))) / 2)


def optimizer_for(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)


def loop(
    folder: Path,
    module: nn.Module,
    steps: int,
    lr: float,
    loss_of: Callable[[int], dict[str, Any]],
    evaluate: Callable[[], dict[str, float]],
    *,
    made_by: dict[str, Any],
    every: int = 250,
) -> None:
    """`steps` updates of `module` by `loss_of(step)`; logs, evaluates by `evaluate()` and resumes from `folder`.

    UsageError when the folder's checkpoint is `made_by` another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = optimizer_for(module.parameters(), lr)
    state_file, first, spent = folder / "checkpoint.pt", 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state.get("made_by", made_by) != made_by:
            raise UsageError(f"{state_file}: of another recipe ({state['made_by']}); remove {folder} to train anew")
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent = state["step"], state["seconds"]
    began = time.time() - spent
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, lr)
        losses = loss_of(step)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            row = {"step": step + 1, "seconds": round(time.time() - began, 1)}
            row |= {k: round(float(v.detach()), 4) for k, v in losses.items()}
            if (step + 1) % every == 0 or step + 1 == steps:
                row |= evaluate()
                torch.save(
                    {
                        "module": module.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "step": step + 1,
                        "seconds": time.time() - began,
                        "made_by": made_by,
                    },
                    state_file.with_suffix(".tmp"),
                )
                os.replace(state_file.with_suffix(".tmp"), state_file)
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
