"""`gapcheck bench`: every model over every task, in this process, one batch at a time, resumable."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from benchmarks import models, results
from benchmarks.answers import AnswerStore, images_hash, prompt_of, shown
from benchmarks.models import Asked
from benchmarks.plugin import DEFAULT_TOKENS
from benchmarks.suites import Suite, open_suites
from benchmarks.suites.questions import Question
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.runs.key import versions
from perception_gap.storage import intact
from perception_gap.storage.files import aside, write_json
from perception_gap.storage.folders import claim, named
from perception_gap.storage.locks import locked
from perception_gap.storage.redaction import public_model, public_text, without_secrets

SCHEMA_VERSION = 2
# What OUT may hold before its bench.json: drawn scenes, and what a full disk or a kill left of bench.json itself.
_BEFORE = re.compile(r"data|bench\.json\.(\w+\.)?\d+\.tmp")
# What OUT holds beside the models' folders.
_TAKEN = {"data", "images", "bench.json", "summary.json", "comparisons.csv", "disagreements.csv", "tables.md"}


@dataclass(frozen=True)
class Request:
    """The options of `gapcheck bench`. limit: documents a task; seed: of drawn scenes.

    models: as they are opened; what is written and said of them is `public_model`.
    """

    models: tuple[str, ...]
    suites: tuple[str, ...]
    out: Path
    data_root: Path | None = None
    limit: int | None = None
    seed: int = 0
    asked: Asked = field(default_factory=Asked)
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


def bench(request: Request, *, progress: bool = True, say: Callable[[str], None] = print) -> results.Bench | None:
    """Ask, score, summarise; what OUT holds is not asked again. None in all processes but the first.

    UsageError, before anything is asked, for an unknown task, missing data and a model of an unknown name or family.
    Weights are read when a model's turn comes: where they do not load, the models before it are summarised first.
    """
    _quiet(request.models)
    # Processes wait while the first one downloads, scores, asks a judge: longer than torch's ten minutes.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))
    if request.baseline is not None and request.baseline not in request.models:
        known = ", ".join(map(public_model, request.models))
        raise UsageError(f"--baseline {public_model(request.baseline)}: expected one of {known}")
    _claim(request.out, request.fresh)
    with locked(request.out):
        return _bench(request, state, progress, say)


def _bench(request: Request, state: PartialState, progress: bool, say: Callable[[str], None]) -> results.Bench | None:
    with state.main_process_first():  # scenes are drawn once
        suites = open_suites(request.suites, request.data_root, request.out / "data", request.limit, request.seed)
    models.check(request.models, request.asked)
    asked, line = request.asked, None
    if not request.own_resolution:
        asked, line = models.common_resolution(request.models, asked)
    folders = _folders(request)
    if state.is_main_process:
        if line:
            say(line)
        for old in ("summary.json", "comparisons.csv", "disagreements.csv", "tables.md"):
            (request.out / old).unlink(missing_ok=True)  # an unfinished run must not show an older result
        write_json(request.out / "bench.json", _describe(request, asked, suites, folders))
    done: list[results.ModelResult] = []
    baseline = _baseline(request)
    for name in request.models:
        try:
            found = _one_model(name, request, asked, suites, folders[name], state, progress)
        except GapcheckError:
            if done:
                results.finish(request.out, done, baseline)
            raise
        if found is not None:
            done.append(found)
    return results.finish(request.out, done, baseline) if done else None


def _one_model(
    name: str,
    request: Request,
    asked: Asked,
    suites: Sequence[Suite],
    folder: Path,
    state: PartialState,
    progress: bool,
) -> results.ModelResult | None:
    model = models.open_model(name, asked)
    shown = public_model(name)
    info = {"schema_version": SCHEMA_VERSION, "model": models.facts(name, model), "asked": asdict(asked),
            "max_new_tokens": request.max_new_tokens, "limit": request.limit, "seed": request.seed,
            "versions": _versions(), "command": request.command}  # fmt: skip
    identity = models.identity(name, model)
    with state.main_process_first():
        store = AnswerStore(folder, identity, made="run.json", fresh=request.fresh and state.is_main_process)
        if state.is_main_process:
            write_json(folder / "run.json", info)
            for old in ("summary.json", "samples.parquet", "maps.safetensors"):
                (folder / old).unlink(missing_ok=True)
    asked_all: dict[str, list[Record]] = {}
    for suite in suites:
        records = _one_suite(model, name, suite, store, request, state, progress)
        gathered: list[Record] = gather_object(records)
        asked_all[suite.name] = sorted(gathered, key=lambda record: record.index)
    del model
    models.forget()
    if not state.is_main_process:
        return None
    store = AnswerStore(folder, identity, made="run.json")  # with what the other processes wrote
    return results.finish_model(shown, folder, store, suites, asked_all, info)


def _one_suite(
    model: lmms, name: str, suite: Suite, store: AnswerStore, request: Request, state: PartialState, progress: bool
) -> list[Record]:
    """This process's share of a task, asked batch by batch; each batch is kept before the next begins."""
    n = min(len(suite), request.limit or len(suite))
    mine = range(state.process_index, n, state.num_processes)
    model.task_dict = {suite.name: {suite.split: suite.docs}}
    records: list[Record] = []
    ask = models.asking(name, model)
    size = request.asked.batch_size
    suite.docs.keep = max(suite.docs.keep, size)
    hidden = not progress or not state.is_main_process
    with tqdm(total=len(mine), desc=f"{public_model(name)} {suite.name}", unit="question", disable=hidden) as bar:
        for start in range(0, len(mine), size):
            batch = [_record(suite, index, store, request) for index in mine[start : start + size]]
            ready = [record for record in batch if record.key is not None]
            requests = [suite.request(record.index, simple=model.is_simple) for record in ready]
            for instance in requests:
                _generation(instance.args, request)
            failed = store.through([str(r.key) for r in ready], requests, ask)
            for record in ready:
                reason = failed.get(str(record.key))
                if reason is not None:
                    record.key, record.error = None, reason
            records += batch
            suite.docs.forget()
            bar.update(len(batch))
    return records


def _record(suite: Suite, index: int, store: AnswerStore, request: Request) -> Record:
    """The document's prompt and key, or why it cannot be asked."""
    question = Question(str(index), "", ())
    try:
        question = suite.question(index)
        messages = suite.messages(index)
    except GapcheckError as error:
        return Record(index, question, error=str(error))
    hashed = images_hash(messages)
    pictures: tuple[str, ...] = ()
    if request.asked.gaze:
        try:
            pictures = _keep_pictures(request.out / "images", hashed, prompt_of(messages).images)
        except GapcheckError as error:
            return Record(index, question, shown(messages), hashed, error=str(error))
    generation = _generation(suite.request(index).args, request)
    return Record(index, question, shown(messages), hashed, pictures, store.key(messages, generation))


def _generation(arguments: tuple, request: Request) -> dict[str, Any]:
    """The generation settings in a request's arguments, after --max-new-tokens."""
    generation = next(argument for argument in arguments if isinstance(argument, dict))
    generation.setdefault("max_new_tokens", DEFAULT_TOKENS)
    if request.max_new_tokens is not None:
        generation["max_new_tokens"] = request.max_new_tokens
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
    made = intact.read_json(out / "bench.json")
    intact.known_schema(out, made.get("schema_version"), SCHEMA_VERSION, "bench", "gapcheck bench --fresh")
    intact.require(made, {}, out / "bench.json")


def _folders(request: Request) -> dict[str, Path]:
    """One folder a model, named after it; the latents' treatment is part of the name."""
    mode = request.asked.latents
    treated = [n for n in request.models if mode != "force" and models.has_latents(n, request.asked)]
    shown = [public_model(n) for n in request.models]
    found = named([f"{s}-{mode}" if n in treated else s for n, s in zip(request.models, shown, strict=True)], _TAKEN)
    return {name: request.out / folder for name, folder in zip(request.models, found, strict=True)}


def _baseline(request: Request) -> str:
    return public_model(request.baseline or request.models[0])


def _describe(request: Request, asked: Asked, suites: Sequence[Suite], folders: dict[str, Path]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "command": request.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": {public_model(name): folder.name for name, folder in folders.items()},
        "baseline": _baseline(request),
        "tasks": {suite.name: len(suite) for suite in suites},
        "limit": request.limit,
        "seed": request.seed,
        "asked": asdict(asked),
        "data_root": None if request.data_root is None else public_text(str(request.data_root)),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return versions() | {name: version(name) for name in ("lmms-eval", "datasets")}


def _quiet(names: Sequence[str]) -> None:
    """Errors only, on stderr, without the models' secrets: lmms-eval logs to stdout, `datasets` draws bars."""

    def write(line: str) -> None:
        for name in names:
            line = without_secrets(line, name)
        sys.stderr.write(line)

    logger.remove()
    logger.add(write, level="ERROR", format="{level}: {message}")
    datasets.disable_progress_bars()
