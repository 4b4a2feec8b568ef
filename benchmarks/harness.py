"""`gapcheck bench`: every model over every task, in this process, one batch at a time, resumable."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from loguru import logger

from benchmarks import models, results
from benchmarks.answers import AnswerStore, images_hash, prompt_of, shown
from benchmarks.models import ModelOptions
from benchmarks.plugin import DEFAULT_TOKENS
from benchmarks.suites.questions import Question
from benchmarks.suites.tasks import Suite, open_suites
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.models.placement import release_memory
from perception_gap.runs.engine import Shard
from perception_gap.runs.key import provenance
from perception_gap.runs.schema.versions import BENCH
from perception_gap.storage import intact
from perception_gap.storage.files import aside, write_json
from perception_gap.storage.folders import claim, named
from perception_gap.storage.intact import Document
from perception_gap.storage.locks import locked
from perception_gap.storage.redaction import public_model, public_text, without_secrets

PACKAGES = ("lmms-eval", "datasets")  # beside those that every run names
# What OUT may hold before its bench.json: drawn scenes, and what a full disk or a kill left of bench.json itself.
_BEFORE = re.compile(r"data|bench\.json\.(\w+\.)?\d+\.tmp")
# What OUT holds beside the models' folders.
_TAKEN = {"data", "images", "bench.json", "summary.json", "comparisons.csv", "disagreements.csv", "tables.md"}


@dataclass(frozen=True)
class BenchOptions:
    """The options of `gapcheck bench`. limit: documents a task; seed: of drawn scenes.

    models: as they are opened; what is written and said of them is `public_model`.
    """

    models: tuple[str, ...]
    suites: tuple[str, ...]
    out: Path
    data_root: Path | None = None
    limit: int | None = None
    seed: int = 0
    model_options: ModelOptions = field(default_factory=ModelOptions)
    max_new_tokens: int | None = None
    own_resolution: bool = False
    baseline: str | None = None
    fresh: bool = False
    command: str = ""


@dataclass
class Record:
    """One document as it was asked: `key` finds its answer, None where it has none, and `error` says why."""

    index: int
    question: Question
    prompt: str = ""
    image_hash: str = ""
    pictures: tuple[str, ...] = ()
    key: str | None = None
    error: str | None = None


def bench(options: BenchOptions, *, progress: bool = True, say: Callable[[str], None] = print) -> results.Bench | None:
    """Ask, score, summarise; what OUT holds is not asked again. None in all processes but the first.

    UsageError, before anything is asked, for an unknown task, missing data and a model of an unknown name or family.
    Weights are read when a model's turn comes: where they do not load, the models before it are summarised first.
    """
    _quiet(options.models)
    # Processes wait while the first one downloads, scores, asks a judge: longer than torch's ten minutes.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))
    if options.baseline is not None and options.baseline not in options.models:
        known = ", ".join(map(public_model, options.models))
        raise UsageError(f"--baseline {public_model(options.baseline)}: expected one of {known}")
    _claim(options.out, options.fresh)
    with locked(options.out):
        return _bench(options, state, progress, say)


def _bench(
    options: BenchOptions, state: PartialState, progress: bool, say: Callable[[str], None]
) -> results.Bench | None:
    with state.main_process_first():  # scenes are drawn once
        suites = open_suites(options.suites, options.data_root, options.out / "data", options.limit, options.seed)
    models.require_openable(options.models, options.model_options)
    model_options, line = options.model_options, None
    if not options.own_resolution:
        model_options, line = models.common_resolution(options.models, model_options)
    folders = _folders(options)
    if state.is_main_process:
        if line:
            say(line)
        for old in ("summary.json", "comparisons.csv", "disagreements.csv", "tables.md"):
            (options.out / old).unlink(missing_ok=True)  # an unfinished run must not show an older result
        write_json(options.out / "bench.json", _describe(options, model_options, suites, folders))
    done: list[results.ModelResult] = []
    baseline = _baseline(options)
    for name in options.models:
        try:
            result = _one_model(name, options, model_options, suites, folders[name], state, progress)
        except GapcheckError:
            if done:
                results.finish(options.out, done, baseline)
            raise
        if result is not None:
            done.append(result)
    return results.finish(options.out, done, baseline) if done else None


def _one_model(
    name: str,
    options: BenchOptions,
    model_options: ModelOptions,
    suites: Sequence[Suite],
    folder: Path,
    state: PartialState,
    progress: bool,
) -> results.ModelResult | None:
    model = models.open_model(name, model_options)
    info = provenance(BENCH.version, options.command, *PACKAGES) | {
        "model": models.facts(name, model),
        "asked": asdict(model_options),
        "max_new_tokens": options.max_new_tokens,
        "limit": options.limit,
        "seed": options.seed,
    }
    identity = models.identity(name, model)
    with state.main_process_first():
        fresh = options.fresh and state.is_main_process
        store = AnswerStore(folder, identity, described_in="run.json", fresh=fresh)
        if state.is_main_process:
            write_json(folder / "run.json", info)
            for old in ("summary.json", "samples.parquet", "maps.safetensors"):
                (folder / old).unlink(missing_ok=True)
    records: dict[str, list[Record]] = {}
    for suite in suites:
        mine = _one_suite(model, name, suite, store, options, state, progress)
        gathered: list[Record] = gather_object(mine)
        records[suite.name] = sorted(gathered, key=lambda record: record.index)
    del model
    release_memory()
    if not state.is_main_process:
        return None
    store = AnswerStore(folder, identity, described_in="run.json")  # with what the other processes wrote
    return results.finish_model(public_model(name), folder, store, suites, records, info)


def _one_suite(
    model: lmms, name: str, suite: Suite, store: AnswerStore, options: BenchOptions, state: PartialState, progress: bool
) -> list[Record]:
    """This process's share of a task, asked batch by batch; each batch is kept before the next begins."""
    shard = Shard(state.process_index, state.num_processes).of(min(len(suite), options.limit or len(suite)))
    model.task_dict = {suite.name: {suite.split: suite.docs}}
    size = options.model_options.batch_size
    suite.docs.keep = max(suite.docs.keep, size)
    records: list[Record] = []

    def read() -> Iterator[Record]:
        for n, index in enumerate(shard):
            if n % size == 0:
                suite.docs.forget()
            records.append(_record(suite, index, store, options))
            yield records[-1]

    def instance(record: Record) -> Instance:
        request = suite.request(record.index, simple=model.is_simple)
        _generation(request.args, options)
        return request

    reasons: dict[str, str] = {}
    label = f"{public_model(name)} {suite.name}" if progress and state.is_main_process else None
    engine = store.engine(lambda record: record.key, instance, models.asking(name, model), reasons, size, label)
    engine.run(read(), total=len(shard))
    suite.docs.forget()  # here: `read` comes to its end before its last batch is asked
    for record in records:
        if record.key is not None and record.key in reasons:
            record.error = reasons[record.key]
            record.key = None
    return records


def _record(suite: Suite, index: int, store: AnswerStore, options: BenchOptions) -> Record:
    """The document's prompt and key, or why it cannot be asked."""
    question = Question(str(index), "", ())
    try:
        question = suite.question(index)
        messages = suite.messages(index)
    except GapcheckError as error:
        return Record(index, question, error=str(error))
    hashed = images_hash(messages)
    pictures: tuple[str, ...] = ()
    if options.model_options.gaze:
        try:
            pictures = _keep_pictures(options.out / "images", hashed, prompt_of(messages).images)
        except GapcheckError as error:
            return Record(index, question, shown(messages), hashed, error=str(error))
    generation = _generation(suite.request(index).args, options)
    return Record(index, question, shown(messages), hashed, pictures, store.key(messages, generation))


def _generation(arguments: tuple[Any, ...], options: BenchOptions) -> dict[str, Any]:
    """The generation settings in a options's arguments, after --max-new-tokens."""
    generation = next(argument for argument in arguments if isinstance(argument, dict))
    generation.setdefault("max_new_tokens", DEFAULT_TOKENS)
    if options.max_new_tokens is not None:
        generation["max_new_tokens"] = options.max_new_tokens
    return generation


def _keep_pictures(folder: Path, name: str, images: Sequence[Any]) -> tuple[str, ...]:
    """The pictures beside the maps, for overlays; relative to OUT."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i, image in enumerate(images):
        path = folder / f"{name[:16]}-{i}.png"
        if not path.exists():
            with aside(path) as partial:
                image.save(partial, "PNG", compress_level=1)
        names.append(f"{folder.name}/{path.name}")
    return tuple(names)


def _claim(out: Path, fresh: bool) -> None:
    """UsageError for a folder that holds something else, or cannot be written; fresh: whatever bench.json says."""
    claim(out, "bench.json", lambda name: bool(_BEFORE.fullmatch(name)))
    if fresh or not (out / "bench.json").is_file():
        return
    info = intact.read_json(out / "bench.json")
    BENCH.require_version(out, info)
    intact.require(info, Document, out / "bench.json")


def _folders(options: BenchOptions) -> dict[str, Path]:
    """One folder a model, named after it; the latents' treatment is part of the name."""
    mode = options.model_options.latents
    treated = [n for n in options.models if mode != "force" and models.has_latents(n, options.model_options)]
    shown = [public_model(n) for n in options.models]
    names = named([f"{s}-{mode}" if n in treated else s for n, s in zip(options.models, shown, strict=True)], _TAKEN)
    return {name: options.out / folder for name, folder in zip(options.models, names, strict=True)}


def _baseline(options: BenchOptions) -> str:
    return public_model(options.baseline or options.models[0])


def _describe(
    options: BenchOptions, model_options: ModelOptions, suites: Sequence[Suite], folders: dict[str, Path]
) -> dict[str, Any]:
    return provenance(BENCH.version, options.command, *PACKAGES) | {
        "models": {public_model(name): folder.name for name, folder in folders.items()},
        "baseline": _baseline(options),
        "tasks": {suite.name: len(suite) for suite in suites},
        "limit": options.limit,
        "seed": options.seed,
        "asked": asdict(model_options),
        "data_root": None if options.data_root is None else public_text(str(options.data_root)),
    }


def _quiet(names: Sequence[str]) -> None:
    """Errors only, on stderr, without the models' secrets: lmms-eval logs to stdout, `datasets` draws bars."""

    def write(line: str) -> None:
        for name in names:
            line = without_secrets(line, name)
        sys.stderr.write(line)

    logger.remove()
    logger.add(write, level="ERROR", format="{level}: {message}")
    datasets.disable_progress_bars()
