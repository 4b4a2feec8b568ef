"""`gapcheck train`: a student, traces and settings in; a checkpoint, its log and what record it out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, set_seed

from lavit import checkpoint, data, manifest
from lavit.checks import check_enough, check_folder, check_images, kept_words, key_of, start_anew
from lavit.latents import SYSTEM_PROMPT, LatentSpec, LatentTokens, add_tokens
from lavit.manifest import file_hash
from lavit.options import TrainOptions, arguments
from lavit.resume import LOG, MODEL, MODEL_WRITING, RECORD, finished, logged, newest_whole, settle
from lavit.settings import TrainSettings
from lavit.student import LavitStudent, Objective
from lavit.traces import Traces
from lavit.trainer import Bar, LavitTrainer
from lavit.vision_cache import VisionCache
from perception_gap.errors import UsageError
from perception_gap.gaze.answer import pad_id
from perception_gap.models.endings import as_ids
from perception_gap.models.loading import LoadedModel, load
from perception_gap.runs.key import versions
from perception_gap.storage.files import write_json, write_text


def spec_for(settings: TrainSettings) -> LatentSpec:
    """The latent tokens that the settings ask for."""
    system = SYSTEM_PROMPT if settings.system == "paper" else settings.system or None
    count, names, kind = settings.n_latents, settings.latent_names, settings.latent_kind
    return LatentSpec.numbered(count, names, kind=kind, closing=settings.closing_token, system=system)


def objective_of(settings: TrainSettings) -> Objective:
    weights = settings.semantic_weight, settings.trajectory_weight
    return Objective(*weights, settings.supervise, settings.gaze_layers, settings.ntp_on_latents)


def build(options: TrainOptions, width: int | None) -> tuple[LoadedModel, LavitStudent]:
    """The loaded student with its latent tokens, wrapped for training; seeded, so that every process has the same."""
    settings, spec = options.settings, spec_for(options.settings)
    set_seed(settings.seed)
    checkpoint.check_whole(options.student)
    loaded = load(options.student, device=options.device, dtype="float32")
    if loaded.family.pixel_limits is not None:  # to a family of a fixed image size the paper's limits mean nothing
        loaded.family.set_pixel_limits(settings.min_pixels or None, settings.max_pixels or None)
    facts = checkpoint.facts_of(options.student)
    if not checkpoint.has_latents(facts):
        add_tokens(loaded.model, loaded.processor.tokenizer, spec, settings.seed)
    elif (there := checkpoint.spec_of(facts)).all_tokens != spec.all_tokens or there.kind != spec.kind:
        raise UsageError(
            f"student {options.student} was trained with the {there.kind} latents {list(there.all_tokens)}, the "
            f"settings ask for {spec.kind} {list(spec.all_tokens)}: use the same, or start from a model without latents"
        )
    model, tokenizer, freeze = loaded.model, loaded.processor.tokenizer, settings.freeze_vision
    student = LavitStudent(model, tokenizer, spec, objective_of(settings), width, freeze_vision=freeze)
    head = None if student.head is None or facts is None else checkpoint.load_head(options.student)
    if head is not None and student.head is not None:
        if head.layers[2].out_features != width:
            raise UsageError(
                f"traces of a teacher of width {width}, but the student's projection head has width "
                f"{head.layers[2].out_features}: use traces of the teacher it was trained with"
            )
        student.head.load_state_dict(head.state_dict())
    if settings.lora_rank:
        from lavit.lora import adapt

        adapt(student, settings.lora_rank)
    return loaded, student


def dataset(options: TrainOptions, traces: Traces, loaded: LoadedModel, student: LavitStudent) -> data.TraceDataset:
    settings, spec = options.settings, student.spec
    instruction = traces.info["settings"].get("instruction") or ""
    prompt: Callable[[int], Any]
    if options.cache is not None:
        if not settings.freeze_vision:
            raise UsageError("--cache-vision: the vision tower is trained (freeze_vision=false); leave the cache out")
        prompt = VisionCache.build(options.cache, loaded, traces, instruction, spec.system).__getitem__
    else:
        prompt = lambda i: data.prompt_of(loaded.family, traces[i], instruction, spec.system)  # noqa: E731
    tokenizer = loaded.processor.tokenizer
    signals = {
        "teacher": lambda: None,
        "boxes": lambda: data.boxed(traces),
        "shuffled": lambda: data.shuffled(traces, settings.seed),
    }
    latents, end = LatentTokens(spec, tokenizer), end_of_turn(loaded)
    gaze, semantics = signals[settings.gaze_from](), signals[settings.semantics_from]()
    answers = settings.answers
    return data.TraceDataset(traces, prompt, latents, tokenizer, end, answers=answers, gaze=gaze, semantics=semantics)


def end_of_turn(loaded: LoadedModel) -> int:
    """The token that ends an answer: the first that generation stops at."""
    config: Any = loaded.model.generation_config
    ends = as_ids(config.eos_token_id) if config is not None else []
    if not ends:
        raise UsageError(f"{loaded.name}: neither its generation config nor its tokenizer says what ends an answer")
    return ends[0]


def train(options: TrainOptions, *, progress: bool = True) -> Path:
    """Train, resuming what OUT holds; returns the folder of the finished checkpoint, OUT/model."""
    settings, out = options.settings, options.out
    traces = Traces.open(options.traces)
    check_enough(traces, settings)
    check_images(traces)
    chosen = arguments(options)  # under torchrun this also joins the other processes
    first = chosen.process_index == 0
    loaded, student = build(options, traces.width if settings.semantic_weight else None)
    record = {
        "preset": options.preset,
        "scale": options.scale,
        "settings": asdict(settings),
        "student": {"name": options.student, "revision": loaded.revision},
        "traces": {
            "path": str(options.traces),
            "teacher": traces.info["teacher"],
            "settings": traces.info["settings"],
            "hash": file_hash(options.traces / "traces.parquet"),
            "n": len(traces),
        },
    }
    key = key_of(record)
    with chosen.main_process_first(local=False):  # the others find the folder as the first one leaves it
        if first:
            check_folder(options, record)
            if not options.fresh:
                settle(out, key)
        done = not (options.fresh and first) and finished(out, key)
        examples = None if done else dataset(options, traces, loaded, student)
        if options.fresh and first and (kept := start_anew(out)):
            say(kept_words(out, kept))
        last = None if done else newest_whole(out, key, say if first else lambda _: None)
        if first and not done:
            write_json(out / RECORD, record | {"command": options.command, "versions": versions()})
            write_text(out / LOG, logged(last))
    if examples is None:
        return out / MODEL
    trainer = LavitTrainer(
        student,
        settings,
        loaded.processor,
        {"training": record},
        key,
        args=chosen,
        train_dataset=examples,
        data_collator=partial(data.collate, pad_id=pad_id(loaded)),
    )
    show_progress(trainer, progress)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if settings.lora_rank:
        from lavit.lora import merge

        merge(student)
    with trainer.written_whole(out / MODEL_WRITING):
        trainer.save_model(str(out / MODEL_WRITING))
    if first:
        manifest.move(out / MODEL_WRITING, out / MODEL)
        trainer.forget_old()
    trainer.accelerator.wait_for_everyone()
    return out / MODEL


def say(words: str) -> None:
    """A line beside the progress bar."""
    tqdm.write(words, file=sys.stderr)


def show_progress(trainer: LavitTrainer, progress: bool) -> None:
    """Our bar, or nothing, in the place of Trainer's line a step."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if progress:
        trainer.add_callback(Bar)
