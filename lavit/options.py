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
class TrainOptions:
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


def arguments(options: TrainOptions) -> TrainingArguments:
    """transformers' arguments for the options; UsageError for what it, or this machine, cannot do."""
    chosen = _defaults(options) | (options.arguments or {})
    wanted, there = chosen["report_to"], get_available_reporting_integrations()
    if wanted not in ("none", *there):
        raise UsageError(
            f"--report-to {wanted!r}: expected none or what is installed ({', '.join(there) or 'nothing'})"
        )
    if chosen.get("deepspeed") and find_spec("deepspeed") is None:
        raise UsageError("--deepspeed: needs the package (pip install deepspeed); or use --fsdp")
    if options.settings.lora_rank and (chosen.get("deepspeed") or chosen.get("fsdp")):
        raise UsageError("lora_rank with --fsdp or --deepspeed: not supported; adapters fit data parallel (torchrun)")
    try:
        checked = TrainingArguments(**chosen)
    except (ValueError, TypeError) as error:  # a scheduler, precision or sharding that this machine or library lacks
        raise UsageError(f"transformers refuses these settings: {' '.join(str(error).split())[:300]}") from None
    if checked.n_gpu > 1:  # DataParallel would multiply the batch, and its replicas pass capture and gate by
        raise UsageError(
            f"{checked.n_gpu} GPUs in one process: use torchrun --nproc-per-node {checked.n_gpu} -m perception_gap "
            "train .., or show one (CUDA_VISIBLE_DEVICES=0)"
        )
    return checked


def _defaults(options: TrainOptions) -> dict[str, Any]:
    """What the settings ask for; the batch of a step is divided over processes and accumulation."""
    s = options.settings
    processes = max(1, int(os.environ.get("WORLD_SIZE", "1")))
    per_device, rest = divmod(s.batch_size, s.accumulation * processes)
    if rest or not per_device:
        raise UsageError(
            f"batch_size {s.batch_size} over {processes} processes and {s.accumulation} accumulated batches: expected "
            "a multiple of both"
        )
    same = ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "seed", "bf16")
    chosen: dict[str, Any] = {name: getattr(s, name) for name in same} | {
        "output_dir": str(options.out),
        "max_steps": s.steps,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": s.accumulation,
        "lr_scheduler_type": s.scheduler,
        "warmup_steps": round(s.warmup_ratio * s.steps),
        "data_seed": s.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "logging_first_step": True,
        "save_strategy": "steps" if options.save_steps else "no",
        "save_steps": options.save_steps or s.steps,
        "save_total_limit": 2,
        "remove_unused_columns": False,
        "report_to": "none",
        "dataloader_drop_last": True,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available() or options.device == "cpu",
    }
    if s.checkpointing:
        chosen |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    return chosen
