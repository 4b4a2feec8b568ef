"""From models to a finished comparison: one model in memory at a time, each a run of its own that resumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from perception_gap.compare import pairs, summary
from perception_gap.compare.budget import common_budget
from perception_gap.compare.pairs import Member
from perception_gap.compare.reuse import finished
from perception_gap.data import Dataset
from perception_gap.errors import DamagedError, GapcheckError, UsageError
from perception_gap.measure.analyze import Opener, ReadingOptions, Say, open_plain, run_analysis, stored_teacher
from perception_gap.measure.settings import Analysis, check_teacher
from perception_gap.models import loading
from perception_gap.runs.key import image_hashes, provenance
from perception_gap.runs.paths import signed
from perception_gap.runs.run import Run, run_info
from perception_gap.runs.schema import tables
from perception_gap.runs.schema.versions import COMPARISON
from perception_gap.storage.files import write_frame, write_json
from perception_gap.storage.folders import claim, named
from perception_gap.storage.locks import locked

MADE = "compare.json"
_FOLDERS = {"data", "teacher", "figures"}
_OURS = _FOLDERS | {MADE, "summary.json", "pairs.parquet", "words.parquet", "overlays.png", "report.html", "tables.md"}
ReadModel = Callable[[Analysis], Run]


@dataclass(frozen=True)
class CompareOptions(ReadingOptions):
    """The options of `gapcheck compare`.

    teacher: a model or a finished run whose answers are the text that all are read on; without one that text is each
        sample's reference. pixels: "same", "own" or a number (see `budget`). settings: of every model alike.
    """

    models: tuple[str, ...]
    out: Path = Path("runs/compare")
    pixels: str = "same"
    raster: tuple[int, int] = field(default=(16, 16), kw_only=True)


@dataclass(frozen=True)
class FinishedComparison:
    """A comparison in `path`: its members, a teacher first; the models that failed, with the reason."""

    path: Path
    members: tuple[Member, ...]
    summary: dict[str, Any]
    failed: dict[str, str]


def compare_models(
    options: CompareOptions,
    *,
    progress: bool = True,
    say: Say = print,
    opener: Opener = open_plain,
) -> FinishedComparison:
    """Every model over the same samples, then every pair of them.

    UsageError before any model is read for what is wrong with one of them. A model that fails later is named in the
    result; the others go on. GapcheckError when fewer than two are left.
    """
    budgets, line = _budgets(options)
    claim(options.out, MADE, lambda name: name in ("data", "teacher") or name.endswith(".tmp"))

    def read_model(job: Analysis) -> Run:
        stored = finished(job)
        if stored is None:
            return run_analysis(job, opener, progress=progress)
        say(f"{job.model}: finished in {job.out}")
        return stored

    with locked(options.out):
        say(line)
        return _with_budgets(options, budgets, line, read_model, say)


def _with_budgets(
    options: CompareOptions, budgets: dict[str, int | None], line: str, read_model: ReadModel, say: Say
) -> FinishedComparison:
    dataset = options.dataset(options.out)
    folders = dict(zip(options.models, named(options.models, _OURS), strict=True))
    teacher = _teacher(options, dataset, budgets, read_model)
    describe(options, folders, budgets, line, dataset, teacher)
    members = [Member(teacher.info["model"]["name"], teacher, "own")] if teacher else []
    failed: dict[str, str] = {}
    wrong_use = True
    for name, folder in folders.items():
        if teacher and _place(name) in (_place(options.teacher or ""), _place(members[0].name)):
            continue
        job = _job(options, name, dataset, options.out / folder, budgets[name], teacher)
        try:
            members.append(Member(name, read_model(job)))
        except GapcheckError as error:
            failed[name] = str(error)
            wrong_use = wrong_use and isinstance(error, UsageError | DamagedError)
            say(f"{name}: {error}")
    if len(members) < 2:
        kind = UsageError if wrong_use else GapcheckError  # `--layers 99`, say, that no model has
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise kind(
            f"{len(members)} of {len(folders) + bool(teacher)} models were measured, nothing to compare: {reasons}"
        )
    return finish(options, tuple(members), budgets, failed)


def _budgets(options: CompareOptions) -> tuple[dict[str, int | None], str]:
    """Pixels of each model; UsageError for names, families and options that would stop the comparison later."""
    stored = options.teacher is not None and (Path(options.teacher) / "run.json").exists()
    known = {_place(name) for name in options.models}
    own = [options.teacher] if options.teacher and not stored and _place(options.teacher) not in known else []
    names = [*own, *options.models]
    places = [_place(name) for name in options.models]
    if len(set(places)) != len(places):  # also one folder in two spellings
        raise UsageError(f"models {', '.join(options.models)}: expected each once")
    if len(names) + stored < 2:
        raise UsageError(f"model {names[0]}: expected at least two models, or --teacher; `gapcheck analyze` takes one")
    load = options.settings.load
    if len(names) > 1 and "revision" in load:
        raise UsageError("--revision belongs to one model; give folders, or leave it out")
    trust = load.get("trust_remote_code", False)
    families = {name: loading.require_supported(name, load.get("revision"), trust) for name in names}
    if stored:
        of_run = run_info(Path(options.teacher or ""))["model"]["name"]
        with suppress(UsageError, DamagedError):  # a run may outlive its model: what that saw is then not known
            families[of_run] = loading.require_supported(of_run, None, trust)
    return common_budget(families, options.pixels)


def _of(name: str, budgets: dict[str, int | None]) -> int | None:
    """The budget of a model, however its folder is spelt."""
    return next(budget for known, budget in budgets.items() if _place(known) == _place(name))


def check_whole(run: Run, dataset: Dataset, budgets: dict[str, int | None], options: CompareOptions) -> None:
    """UsageError unless a stored teacher's run holds exactly these samples, shown and cut as the models are.

    Otherwise its accuracy and focus would be of other questions, or of pictures that the others see smaller.
    """
    samples = list(dataset.samples)
    hashes = image_hashes(samples)
    check_teacher(run, samples, hashes)
    here = sum(
        s.id in run and (run.row(s.id)["question"], run.row(s.id)["image_hash"]) == (s.question, h)
        for s, h in zip(dataset.samples, hashes, strict=True)
    )
    if not here == len(dataset.samples) == len(run.samples):
        raise UsageError(
            f"teacher run {run.path}: has {len(run.samples)} samples, {here} of these {len(dataset.samples)}; analyze "
            "the teacher on the same --data and --limit, or name its model instead"
        )
    if run.info["data"]["hash"] != dataset.hash:
        raise UsageError(
            f"teacher run {run.path}: has other answers, options or boxes to these questions; analyze the "
            "teacher on the same --data and --boxes, or name its model instead"
        )
    kept = run.info["settings"]
    name = run.info["model"]["name"]
    if name in budgets and kept.get("most_pixels") != budgets[name]:
        raise UsageError(
            f"teacher run {run.path}: made with most_pixels {kept.get('most_pixels')}, not {budgets[name]}; name "
            "its model instead, or give --pixels own"
        )
    cut = None if options.settings.knockout is None else asdict(options.settings.knockout)
    if kept.get("knockout") and cut and kept["knockout"] != cut:
        raise UsageError(f"teacher run {run.path}: cut as {kept['knockout']}, not {cut}; use the same for both")


def _place(name: str) -> str:
    """One spelling of a model's name: of a folder the resolved path."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _job(
    options: CompareOptions, name: str, dataset: Dataset, out: Path, most_pixels: int | None, teacher: Run | None
) -> Analysis:
    text = "teacher" if options.teacher else "reference"
    settings = replace(options.settings, text=text, most_pixels=most_pixels)
    return options.analysis(name, dataset, out, settings, teacher)


def _teacher(
    options: CompareOptions, dataset: Dataset, budgets: dict[str, int | None], read_model: ReadModel
) -> Run | None:
    """The teacher's finished run, or its own pass into OUT/teacher; None without a teacher."""
    if options.teacher is None:
        return None
    if (Path(options.teacher) / "run.json").exists():
        rows = "question" if options.settings.rows == "question" else "answer"
        run = stored_teacher(options.teacher, replace(options.settings, text="own", rows=rows), options.out)
        check_whole(run, dataset, budgets, options)
        return run
    job = _job(options, options.teacher, dataset, options.out / "teacher", _of(options.teacher, budgets), None)
    return read_model(replace(job, settings=replace(job.settings, text="own")))


def describe(
    options: CompareOptions,
    folders: dict[str, str],
    budgets: dict[str, int | None],
    line: str,
    dataset: Dataset,
    teacher: Run | None,
) -> None:
    """compare.json: what was asked, and where each model's run lies; an older summary would speak of something else."""
    (options.out / "summary.json").unlink(missing_ok=True)
    taught = (options.teacher, teacher.info["model"]["name"]) if teacher else ()
    info = provenance(COMPARISON.version, options.command) | {
        "models": {name: folder for name, folder in folders.items() if name not in taught},
        "teacher": None
        if teacher is None
        else {"name": teacher.info["model"]["name"], "path": os.path.relpath(teacher.path, options.out)},
        "text": "teacher" if options.teacher else "reference",
        "pixels": options.pixels,
        "budget": line,
        "most_pixels": budgets,
        "raster": list(options.raster),
        "seed": options.seed,
        "settings": asdict(options.settings),
        "data": dataset.description(),
    }
    write_json(options.out / MADE, signed(info))


def finish(
    options: CompareOptions, members: tuple[Member, ...], budgets: dict[str, int | None], failed: dict[str, str]
) -> FinishedComparison:
    """pairs.parquet, words.parquet and, last, summary.json."""
    samples, words = pairs.frames(members, options.raster, options.seed)
    files = {
        "pairs.parquet": write_frame(options.out / "pairs.parquet", samples, tables.pairs()),
        "words.parquet": write_frame(options.out / "words.parquet", words, tables.pair_words()),
    }
    facts = {
        member.name: {
            "folder": os.path.relpath(member.run.path, options.out),
            "most_pixels": budgets.get(member.name),
            "is_teacher": member.kind == "own",
        }
        for member in members
    }
    of_pairs = summary.of_pairs(samples, words, options.seed) if len(samples) else []
    numbers = {
        "baseline": members[0].name,
        "models": summary.of_models(members, facts, options.seed),
        "pairs": of_pairs,
        "most_alike": summary.most_alike(of_pairs, samples, options.seed),
        "failed": failed,
        "files": files,
    }
    write_json(options.out / "summary.json", numbers)
    return FinishedComparison(options.out, members, numbers, failed)
