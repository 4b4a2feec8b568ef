"""What `gapcheck train` is asked for, and that in the terms of transformers' Trainer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from lavit.settings import TrainSettings
from perception_gap.errors import UsageError


@dataclass(frozen=True)
class TrainRequest:
    """The options of `gapcheck train`.

    cache: folder for prompts and vision features that are computed once (frozen vision only); None: each step anew.
    save_steps: a checkpoint every so many optimiser steps (0: only the last). arguments: more of TrainingArguments
    (fsdp, deepspeed, report_to, ..).
    """

    student: str
    traces: Path
    out: Path
    preset: str
    settings: TrainSettings
    scale: str = "full"
    device: str = "auto"
    cache: Path | None = None
    save_steps: int = 200
    fresh: bool = False
    command: str = ""
    arguments: dict[str, Any] | None = None


def arguments(request: TrainRequest) -> TrainingArguments:
    """transformers' arguments for the settings; the batch of a step is divided over processes and accumulation."""
    s = request.settings
    processes = max(1, int(os.environ.get("WORLD_SIZE", "1")))
    per_device, rest = divmod(s.batch_size, s.accumulation * processes)
    if rest or not per_device:
        raise UsageError(
            f"batch_size {s.batch_size} over {processes} processes and {s.accumulation} accumulated batches: expected "
            "a multiple of both"
        )
    options: dict[str, Any] = {
        "output_dir": str(request.out),
        "max_steps": s.steps,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": s.accumulation,
        "learning_rate": s.learning_rate,
        "lr_scheduler_type": s.scheduler,
        "warmup_steps": round(s.warmup_ratio * s.steps),
        "weight_decay": s.weight_decay,
        "adam_beta1": s.adam_beta1,
        "adam_beta2": s.adam_beta2,
        "max_grad_norm": s.max_grad_norm,
        "seed": s.seed,
        "data_seed": s.seed,
        "bf16": s.bf16,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "logging_first_step": True,
        "save_strategy": "steps" if request.save_steps else "no",
        "save_steps": request.save_steps or s.steps,
        "save_total_limit": 2,
        "remove_unused_columns": False,
        "report_to": "none",
        "dataloader_drop_last": True,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available() or request.device == "cpu",
    }
    if s.checkpointing:
        options |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    options |= request.arguments or {}
    wanted, there = options["report_to"], get_available_reporting_integrations()
    if wanted not in ("none", *there):
        raise UsageError(
            f"--report-to {wanted!r}: expected none or what is installed ({', '.join(there) or 'nothing'})"
        )
    if options.get("deepspeed") and find_spec("deepspeed") is None:
        raise UsageError("--deepspeed: needs the package (pip install deepspeed); or use --fsdp")
    if s.lora_rank and (options.get("deepspeed") or options.get("fsdp")):
        raise UsageError("lora_rank with --fsdp or --deepspeed: not supported; adapters fit data parallel (torchrun)")
    try:
        made = TrainingArguments(**options)
    except (ValueError, TypeError) as error:  # a scheduler, precision or sharding that this machine or library lacks
        raise UsageError(f"transformers refuses these settings: {' '.join(str(error).split())[:300]}") from None
    if made.n_gpu > 1:  # DataParallel would multiply the batch, and its replicas pass capture and gate by
        raise UsageError(
            f"{made.n_gpu} GPUs in one process: use torchrun --nproc-per-node {made.n_gpu} -m perception_gap train .., "
            "or show one (CUDA_VISIBLE_DEVICES=0)"
        )
    return made
