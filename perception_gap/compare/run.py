"""From models to a finished comparison: one model in memory at a time, each a run of its own that resumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perception_gap.compare import pairs, summary
from perception_gap.compare.budget import common_budget
from perception_gap.compare.pairs import Member
from perception_gap.compare.reuse import finished
from perception_gap.data import Dataset, Reading, open_data
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.measure import pipeline
from perception_gap.measure.job import Job, Settings, check_teacher, image_hash, versions
from perception_gap.models import loading
from perception_gap.runs.paths import signed
from perception_gap.runs.store import Run, run_info
from perception_gap.storage.files import write_json, write_table
from perception_gap.storage.folders import claim, named
from perception_gap.storage.locks import locked

COMPARE_SCHEMA = 2
MADE = "compare.json"
_OURS = {"data", "teacher", "figures", MADE, "summary.json", "pairs.parquet", "words.parquet", "overlays.png",
         "report.html", "tables.md"}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """The options of `gapcheck compare`.

    teacher: a model or a finished run whose answers are the text that all are read on; without one that text is each
        sample's reference. pixels: "same", "own" or a number (see `budget`). settings: of every model alike.
    """

    models: tuple[str, ...]
    teacher: str | None = None
    data: str = "scenes"
    out: Path = Path("runs/compare")
    limit: int | None = None
    image_root: Path | None = None
    reading: Reading = field(default_factory=Reading)
    settings: Settings = field(default_factory=Settings)
    pixels: str = "same"
    batch_size: int = 8
    seed: int = 0
    raster: tuple[int, int] = (16, 16)
    fresh: bool = False
    command: str = ""


@dataclass(frozen=True)
class Compared:
    """A comparison in `path`: its members, a teacher first; the models that failed, with the reason."""

    path: Path
    members: tuple[Member, ...]
    summary: dict[str, Any]
    failed: dict[str, str]


def compare(
    request: Request, *, progress: bool = True, say: Callable[[str], None] = print,
    opener: pipeline.Opener = pipeline.open_plain,
) -> Compared:  # fmt: skip
    """Every model over the same samples, then every pair of them.

    UsageError before any model is read for what is wrong with one of them. A model that fails later is named in the
    result; the others go on. GapcheckError when fewer than two are left.
    """
    budgets, line = _budgets(request)
    claim(request.out, MADE, lambda name: name in ("data", "teacher") or name.endswith(".tmp"))
    with locked(request.out):
        say(line)
        return _compare(request, budgets, line, progress, say, opener)


def _compare(
    request: Request, budgets: dict[str, int | None], line: str, progress: bool, say: Callable[[str], None],
    opener: pipeline.Opener,
) -> Compared:  # fmt: skip
    dataset = open_data(
        request.data,
        limit=request.limit,
        image_root=request.image_root,
        work=request.out,
        seed=request.seed,
        reading=request.reading,
    )
    folders = dict(zip(request.models, named(request.models, _OURS), strict=True))
    teacher = _teacher(request, dataset, budgets, say, progress, opener)
    describe(request, folders, budgets, line, dataset, teacher)
    members = [Member(teacher.info["model"]["name"], teacher, "own")] if teacher else []
    failed: dict[str, str] = {}
    wrong_use = True
    for name, folder in folders.items():
        if teacher and _place(name) in (_place(request.teacher or ""), _place(members[0].name)):
            continue
        job = _job(request, name, dataset, request.out / folder, budgets[name], teacher)
        try:
            members.append(Member(name, _one(job, say, progress, opener)))
        except GapcheckError as error:
            failed[name] = str(error)
            wrong_use = wrong_use and isinstance(error, UsageError)
            say(f"{name}: {error}")
    if len(members) < 2:
        kind = UsageError if wrong_use else GapcheckError  # `--layers 99`, say, that no model has
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise kind(
            f"{len(members)} of {len(folders) + bool(teacher)} models were measured, nothing to compare: {reasons}"
        )
    return finish(request, tuple(members), folders, budgets, failed)


def _budgets(request: Request) -> tuple[dict[str, int | None], str]:
    """Pixels of each model; UsageError for names, families and options that would stop the comparison later."""
    stored = request.teacher is not None and (Path(request.teacher) / "run.json").exists()
    known = {_place(name) for name in request.models}
    own = [request.teacher] if request.teacher and not stored and _place(request.teacher) not in known else []
    names = [*own, *request.models]
    places = [_place(name) for name in request.models]
    if len(set(places)) != len(places):  # also one folder in two spellings
        raise UsageError(f"models {', '.join(request.models)}: expected each once")
    if len(names) + stored < 2:
        raise UsageError(f"model {names[0]}: expected at least two models, or --teacher; `gapcheck analyze` takes one")
    options = request.settings.load
    if len(names) > 1 and "revision" in options:
        raise UsageError("--revision belongs to one model; give folders, or leave it out")
    trust = options.get("trust_remote_code", False)
    families = {name: loading.check(name, options.get("revision"), trust) for name in names}
    if stored:
        asked = run_info(Path(request.teacher or ""))["model"]["name"]
        with suppress(UsageError):  # a run may outlive its model: what that saw is then not known
            families[asked] = loading.check(asked, None, trust)
    return common_budget(families, request.pixels)


def _of(name: str, budgets: dict[str, int | None]) -> int | None:
    """The budget of a model, however its folder is spelt."""
    return next(budget for known, budget in budgets.items() if _place(known) == _place(name))


def check_whole(run: Run, dataset: Dataset, budgets: dict[str, int | None], request: Request) -> None:
    """UsageError unless a stored teacher's run holds exactly these samples, shown and cut as the models are.

    Otherwise its accuracy and focus would be of other questions, or of pictures that the others see smaller.
    """
    hashes = [image_hash(sample) for sample in dataset.samples]
    check_teacher(run, dataset, hashes)
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
    cut = None if request.settings.knockout is None else asdict(request.settings.knockout)
    if kept.get("knockout") and cut and kept["knockout"] != cut:
        raise UsageError(f"teacher run {run.path}: cut as {kept['knockout']}, not {cut}; use the same for both")


def _place(name: str) -> str:
    """One spelling of a model's name: of a folder the resolved path."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _job(
    request: Request, name: str, dataset: Dataset, out: Path, most_pixels: int | None, teacher: Run | None
) -> Job:  # fmt: skip
    text = "teacher" if request.teacher else "reference"
    settings = replace(request.settings, text=text, most_pixels=most_pixels)
    return Job(
        model=name, dataset=dataset, out=out, settings=settings, teacher=teacher, batch_size=request.batch_size,
        seed=request.seed, raster=request.raster, fresh=request.fresh, command=request.command,
    )  # fmt: skip


def _one(job: Job, say: Callable[[str], None], progress: bool, opener: pipeline.Opener) -> Run:
    found = finished(job)
    if found is not None:
        say(f"{job.model}: finished in {job.out}")
        return found
    return pipeline.run_job(job, opener, progress=progress)


def _teacher(
    request: Request, dataset: Dataset, budgets: dict[str, int | None], say: Callable[[str], None], progress: bool,
    opener: pipeline.Opener,
) -> Run | None:  # fmt: skip
    """The teacher's finished run, or its own pass into OUT/teacher; None without a teacher."""
    if request.teacher is None:
        return None
    if (Path(request.teacher) / "run.json").exists():
        asked = replace(
            request.settings, text="own", rows="question" if request.settings.rows == "question" else "answer"
        )
        run = pipeline.stored_teacher(request.teacher, asked, request.out)
        check_whole(run, dataset, budgets, request)
        return run
    job = _job(request, request.teacher, dataset, request.out / "teacher", _of(request.teacher, budgets), None)
    return _one(replace(job, settings=replace(job.settings, text="own")), say, progress, opener)


def describe(
    request: Request, folders: dict[str, str], budgets: dict[str, int | None], line: str, dataset: Dataset,
    teacher: Run | None,
) -> None:  # fmt: skip
    """compare.json: what was asked, and where each model's run lies; an older summary would speak of something else."""
    (request.out / "summary.json").unlink(missing_ok=True)
    info = {
        "schema_version": COMPARE_SCHEMA, "command": request.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": {name: folder for name, folder in folders.items() if not teacher or name not in
                   (request.teacher, teacher.info["model"]["name"])},
        "teacher": None if teacher is None else {
            "name": teacher.info["model"]["name"], "path": os.path.relpath(teacher.path, request.out),
        },
        "text": "teacher" if request.teacher else "reference", "pixels": request.pixels, "budget": line,
        "most_pixels": budgets, "raster": list(request.raster), "seed": request.seed,
        "settings": asdict(request.settings),
        "data": dataset.description(),
        "versions": versions(),
    }  # fmt: skip
    write_json(request.out / MADE, signed(info))


def finish(
    request: Request, members: tuple[Member, ...], folders: dict[str, str], budgets: dict[str, int | None],
    failed: dict[str, str],
) -> Compared:  # fmt: skip
    """pairs.parquet, words.parquet and, last, summary.json."""
    samples, words = pairs.frames(members, request.raster, request.seed)
    files = {name: write_table(request.out / name, table)
             for name, table in (("pairs.parquet", samples), ("words.parquet", words))}  # fmt: skip
    facts = {
        member.name: {
            "folder": os.path.relpath(member.run.path, request.out),
            "most_pixels": budgets.get(member.name), "is_teacher": member.kind == "own",
        }
        for member in members
    }  # fmt: skip
    of_pairs = summary.of_pairs(samples, words, request.seed) if len(samples) else []
    told = {
        "baseline": members[0].name,
        "models": summary.of_models(members, facts, request.seed),
        "pairs": of_pairs,
        "most_alike": summary.most_alike(of_pairs, samples, request.seed),
        "failed": failed,
        "files": files,
    }
    write_json(request.out / "summary.json", told)
    return Compared(request.out, members, told, failed)
