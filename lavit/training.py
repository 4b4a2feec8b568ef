"""`gapcheck train`: a student, traces and settings in; a checkpoint, its log and what made it out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations

from lavit import checkpoint, data
from lavit.latents import SYSTEM_PROMPT, LatentSpec, LatentTokens, add_tokens
from lavit.settings import TrainSettings
from lavit.student import LavitStudent, Objective
from lavit.traces import Traces
from lavit.trainer import Bar, LavitTrainer, checkpoints
from lavit.vision_cache import VisionCache
from perception_gap.analysis import versions
from perception_gap.errors import UsageError
from perception_gap.forward import pad_id
from perception_gap.loading import LoadedModel, load
from perception_gap.store import write_json


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


def spec_for(settings: TrainSettings) -> LatentSpec:
    """The latent tokens that the settings ask for."""
    system = SYSTEM_PROMPT if settings.system == "paper" else settings.system or None
    return LatentSpec.numbered(
        settings.n_latents, settings.latent_names, kind=settings.latent_kind, closing=settings.closing_token,
        system=system,
    )  # fmt: skip


def objective_of(settings: TrainSettings) -> Objective:
    return Objective(
        settings.semantic_weight, settings.trajectory_weight, settings.supervise, settings.gaze_layers,
        settings.ntp_on_latents,
    )  # fmt: skip


def build(request: TrainRequest, width: int | None) -> tuple[LoadedModel, LavitStudent]:
    """The loaded student with its latent tokens, wrapped for training; seeded, so that every process has the same."""
    settings, spec = request.settings, spec_for(request.settings)
    set_seed(settings.seed)
    loaded = load(request.student, device=request.device, dtype="float32")
    if loaded.family.has_pixel_limits:  # the size of other families' images is fixed: the paper's means nothing there
        loaded.family.set_pixel_limits(settings.min_pixels or None, settings.max_pixels or None)
    facts = checkpoint.facts_of(request.student)
    if not checkpoint.has_latents(facts):
        add_tokens(loaded.model, loaded.processor.tokenizer, spec, settings.seed)
    elif (there := checkpoint.spec_of(facts)).all_tokens != spec.all_tokens or there.kind != spec.kind:
        raise UsageError(
            f"student {request.student} was trained with the {there.kind} latents {list(there.all_tokens)}, the "
            f"settings ask for {spec.kind} {list(spec.all_tokens)}: use the same, or start from a model without latents"
        )
    student = LavitStudent(
        loaded.model, loaded.processor.tokenizer, spec, objective_of(settings), width,
        freeze_vision=settings.freeze_vision,
    )  # fmt: skip
    head = checkpoint.load_head(request.student) if student.head is not None and facts is not None else None
    if head is not None:
        if head.layers[2].out_features != width:
            raise UsageError(
                f"traces of a teacher of width {width}, but the student's projection head has width "
                f"{head.layers[2].out_features}: use traces of the teacher it was trained with"
            )
        student.head.load_state_dict(head.state_dict())  # type: ignore[union-attr]
    if settings.lora_rank:
        from lavit.lora import adapt

        adapt(student, settings.lora_rank)
    return loaded, student


def dataset(request: TrainRequest, traces: Traces, loaded: LoadedModel, student: LavitStudent) -> data.TraceDataset:
    settings, spec = request.settings, student.spec
    instruction = traces.info["settings"].get("instruction") or ""
    prompt: Callable[[int], Any]
    if request.cache is not None:
        if not settings.freeze_vision:
            raise UsageError("--cache-vision: the vision tower is trained (freeze_vision=false); leave the cache out")
        prompt = VisionCache.build(request.cache, loaded, traces, instruction, spec.system).__getitem__
    else:
        prompt = lambda i: data.prompt_of(loaded.family, traces[i], instruction, spec.system)  # noqa: E731
    tokenizer = loaded.processor.tokenizer
    signals = {
        "teacher": lambda: None, "boxes": lambda: data.boxed(traces),
        "shuffled": lambda: data.shuffled(traces, settings.seed),
    }  # fmt: skip
    return data.TraceDataset(
        traces, prompt, LatentTokens(spec, tokenizer), tokenizer, end_of_turn(loaded), answers=settings.answers,
        gaze=signals[settings.gaze_from](), semantics=signals[settings.semantics_from](),
    )  # fmt: skip


def end_of_turn(loaded: LoadedModel) -> int:
    """The token that ends an answer: the first that generation stops at."""
    config: Any = loaded.model.generation_config
    ends = config.eos_token_id if config is not None else None
    found = ends[0] if isinstance(ends, list) else ends
    if found is None:
        found = loaded.processor.tokenizer.eos_token_id
    if found is None:
        raise UsageError(f"{loaded.name}: neither its generation config nor its tokenizer says what ends an answer")
    return int(found)


def missing_images(traces: Traces) -> None:
    """UsageError that counts the pictures which are no longer there."""
    gone = [path for i in range(len(traces)) for path in traces[i].sample.images if not path.is_file()]
    if gone:
        raise UsageError(f"traces {traces.path}: {len(gone)} images are missing, the first {gone[0]}; put them back")


def check_folder(request: TrainRequest, made: dict) -> None:
    """UsageError when OUT holds something else than this very training; makes the folder."""
    out = request.out
    if request.fresh and (out / "train.json").exists():
        shutil.rmtree(out)
    if out.is_dir() and any(out.iterdir()) and not (out / "train.json").exists():
        raise UsageError(f"--out {out}: holds other files ({next(out.iterdir()).name}); choose a new folder")
    if (out / "train.json").exists():
        before = json.loads((out / "train.json").read_text())
        for name in ("preset", "student", "traces", "settings"):
            if before.get(name) != made[name]:
                was, now = before.get(name), made[name]
                if name == "settings":
                    key = next((k for k in now if was.get(k) != now[k]), name)
                    name, was, now = f"setting {key}", was.get(key), now.get(key)
                raise UsageError(
                    f"--out {out}: is a training with {name} {was!r}, not {now!r}; choose another folder, or --fresh"
                )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from None


def train(request: TrainRequest, *, progress: bool = True) -> Path:
    """Train, resuming what OUT holds; returns the folder of the finished checkpoint, OUT/model."""
    settings = request.settings
    traces = Traces.open(request.traces)
    missing_images(traces)
    chosen = arguments(request)  # under torchrun this also joins the other processes
    loaded, student = build(request, traces.width if settings.semantic_weight else None)
    made = {
        "preset": request.preset, "scale": request.scale, "settings": asdict(settings),
        "student": {"name": request.student, "revision": loaded.revision},
        "traces": {"path": str(request.traces), "teacher": traces.info["teacher"], "data": traces.info["data"]["hash"],
                   "n": len(traces)},
    }  # fmt: skip
    final, log = request.out / "model", request.out / "log.jsonl"
    with chosen.main_process_first(local=False):  # the others find the folder as the first one leaves it
        if chosen.process_index == 0:
            check_folder(request, made)
        done = (final / "lavit.json").is_file()
        examples = None if done else dataset(request, traces, loaded, student)
    if examples is None:
        return final
    trainer = LavitTrainer(
        student, settings, loaded.processor, {"training": made}, log, args=chosen,
        train_dataset=examples, data_collator=partial(data.collate, pad_id=pad_id(loaded)),
    )  # fmt: skip
    show_progress(trainer, progress)
    last = next(iter(reversed(checkpoints(request.out))), None)
    if trainer.is_world_process_zero():
        write_json(request.out / "train.json", made | {"command": request.command, "versions": versions()})
        forget_later(log, 0 if last is None else int(last.name.rsplit("-", 1)[1]))
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    aside = request.out / "model.writing"
    if settings.lora_rank:
        from lavit.lora import merge

        merge(student)
    trainer.save_model(str(aside))
    if trainer.is_world_process_zero():
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
    trainer.accelerator.wait_for_everyone()
    return final


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
        "output_dir": str(request.out), "max_steps": s.steps, "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": s.accumulation, "learning_rate": s.learning_rate,
        "lr_scheduler_type": s.scheduler, "warmup_steps": round(s.warmup_ratio * s.steps),
        "weight_decay": s.weight_decay, "adam_beta1": s.adam_beta1, "adam_beta2": s.adam_beta2,
        "max_grad_norm": s.max_grad_norm, "seed": s.seed, "data_seed": s.seed, "bf16": s.bf16,
        "logging_steps": 1, "logging_nan_inf_filter": False, "logging_first_step": True,
        "save_strategy": "steps" if request.save_steps else "no", "save_steps": request.save_steps or s.steps,
        "save_total_limit": 2, "remove_unused_columns": False, "report_to": "none", "dataloader_drop_last": True,
        "ddp_find_unused_parameters": False, "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available() or request.device == "cpu",
    }  # fmt: skip
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
    try:
        return TrainingArguments(**options)
    except (ValueError, TypeError) as error:  # a scheduler, precision or sharding that this machine or library lacks
        raise UsageError(f"transformers refuses these settings: {' '.join(str(error).split())[:300]}") from None


def show_progress(trainer: LavitTrainer, progress: bool) -> None:
    """Our bar, or nothing, in the place of Trainer's line a step."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if progress:
        trainer.add_callback(Bar)


def forget_later(log: Path, step: int) -> None:
    """Drop the log's lines behind the checkpoint that training goes on from: they are written again."""
    if log.exists():
        kept = [
            line for line in log.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step
        ]
        log.write_text("".join(line + "\n" for line in kept))
