"""One command's worth of work: load data and models, the teacher's pass first, then the student's."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from perception_gap.data import Dataset, Reading, open_data
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.measure import analysis
from perception_gap.measure.job import Job, Settings, image_hash
from perception_gap.models.loading import LoadedModel, check, load
from perception_gap.models.placement import peak_bytes
from perception_gap.runs.store import Run, claim_run
from perception_gap.storage.folders import slug
from perception_gap.storage.locks import locked


@dataclass(frozen=True)
class Request:
    """The options of `gapcheck analyze`, as the command line gives them."""

    model: str
    teacher: str | None = None
    data: str = "scenes"
    out: Path | None = None
    limit: int | None = None
    image_root: Path | None = None
    reading: Reading = field(default_factory=Reading)
    settings: Settings = field(default_factory=Settings)
    batch_size: int = 8
    seed: int = 0
    raster: tuple[int, int] | None = None
    fresh: bool = False
    command: str = ""

    def folder(self) -> Path:
        """--out, or runs/MODEL[-vs-TEACHER]-DATA."""
        names = [self.model, *(["vs", self.teacher] if self.teacher else []), self.data]
        return self.out or Path("runs") / "-".join(slug(Path(n).name if Path(n).exists() else n) for n in names)


Opener = Callable[[str, Settings], LoadedModel]


def open_plain(name: str, settings: Settings) -> LoadedModel:
    """The model as transformers knows it, without latent tokens that it may have been trained with."""
    return load(name, **settings.load)


def analyze(
    request: Request, *, progress: bool = True, say: Callable[[str], None] = print, opener: Opener = open_plain
) -> Run:
    """The teacher's run (stored, reused, or made now), then the model's; never two models in memory."""
    out = request.folder()
    analysis.forward.check_rows(request.settings.rows)
    claim_run(out)  # an --out that cannot be written is said before data are drawn and models loaded
    with locked(out):
        dataset = _dataset(request, out)
        teacher = teacher_run(request, dataset, out, progress, say, opener) if request.teacher else None
        settings = request.settings
        text = settings.text if teacher or settings.text == "reference" else "own"
        job = _job(request, request.model, dataset, out, replace(settings, text=text), teacher)
        return run_job(job, opener, progress=progress)


def _dataset(request: Request, out: Path) -> Dataset:
    """The samples of the request; what is drawn or comes inside the data lies in `out`."""
    return open_data(
        request.data,
        limit=request.limit,
        image_root=request.image_root,
        work=out,
        seed=request.seed,
        reading=request.reading,
    )


def _job(request: Request, model: str, dataset: Dataset, out: Path, settings: Settings, teacher: Run | None) -> Job:
    return Job(
        model=model, dataset=dataset, out=out, settings=settings, teacher=teacher, batch_size=request.batch_size,
        seed=request.seed, raster=request.raster, fresh=request.fresh, command=request.command,
    )  # fmt: skip


def run_job(job: Job, opener: Opener, *, progress: bool = True) -> Run:
    """The run of one job; its model is opened and let go in here."""
    loaded = opener(job.model, job.settings)
    try:
        return analysis.run(job, loaded, progress=progress)
    finally:
        del loaded
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def teacher_run(
    request: Request, dataset: Dataset, out: Path, progress: bool, say: Callable[[str], None], opener: Opener
) -> Run:
    """The finished run that `--teacher` names, or the teacher's own pass, stored in OUT/teacher for later students."""
    assert request.teacher is not None
    # Latent rows are the student's alone: they are held against the rows of the teacher's answer.
    asked = replace(
        request.settings,
        text="reference" if request.settings.text == "reference" else "own",
        rows="question" if request.settings.rows == "question" else "answer",
        knockout=None,  # the student's alone as well
    )
    if (Path(request.teacher) / "run.json").exists():
        return stored_teacher(request.teacher, asked, out)
    check(request.model, asked.load.get("revision"), asked.load.get("trust_remote_code", False))
    # A revision belongs to one repository; everything else is the same for both models.
    asked = replace(asked, load={k: v for k, v in asked.load.items() if k != "revision"})
    job = _job(request, request.teacher, dataset, out / "teacher", asked, None)
    say(f"teacher {request.teacher}: first, into {job.out}")
    return run_job(job, opener, progress=progress)


def stored_teacher(path: str, asked: Settings, out: Path) -> Run:
    """The finished run in `path`. UsageError unless it was made as `asked`, and for the folder `out` itself."""
    if Path(path).resolve() == out.resolve():
        raise UsageError(f"--out {out}: is the teacher's own run; choose another folder")
    run = Run.open(path)
    limits = ("min_pixels", "max_pixels")
    for name in ("text", "rows", "layers", "instruction", "system", *limits):
        kept = run.info.get("settings", {})
        stored = (kept.get("load", {}) if name in limits else kept).get(name)
        wanted = asked.load.get(name) if name in limits else getattr(asked, name)
        if stored != wanted:
            raise UsageError(
                f"teacher run {run.path}: made with {name} {stored!r}, not {wanted!r}; use the same for both"
            )
    return run


def estimate(request: Request, *, opener: Opener = open_plain) -> dict[str, dict[str, Any]]:
    """`--dry-run`: one batch of each model (not stored) and what the whole would take, by model."""
    out = request.folder()
    analysis.forward.check_rows(request.settings.rows)
    claim_run(out)
    dataset = _dataset(request, out)
    models = [request.model]
    if request.teacher and not (Path(request.teacher) / "run.json").exists():
        models.insert(0, request.teacher)
    return {model: _estimate_one(request, dataset, model, out, opener) for model in models}


def _estimate_one(request: Request, dataset: Dataset, model: str, out: Path, opener: Opener) -> dict[str, Any]:
    loaded = opener(model, request.settings)
    # A student is also read on a second text; the reference stands in for the teacher's answer.
    second = request.settings.text == "reference" or (request.teacher is not None and model == request.model)
    settings = replace(request.settings, text="reference" if second else "own")
    if model != request.model:
        settings = replace(settings, knockout=None)
    job = _job(request, model, dataset, out, settings, None)
    before = peak_bytes()
    batch = [(s, image_hash(s), s.answer if second else None, s.id) for s in dataset.samples[: request.batch_size]]
    began = time.perf_counter()
    rows, arrays = analysis.measure(loaded, job, batch)
    seconds = time.perf_counter() - began
    n, total = len(rows), len(dataset.samples)
    failed = [r["error"] for r in rows if r.get("status") != "ok"]
    if len(failed) == n:
        raise GapcheckError(f"--dry-run: every sample of the first batch failed: {failed[0]}")
    # Parts and merged files hold the arrays once each.
    stored = 2 * sum(a.nbytes for a in arrays.values()) / n
    return {
        "samples": total,
        "failed in the batch": len(failed),
        "image tokens": max((r.get("n_image_tokens") or 0 for r in rows), default=0),
        "seconds a sample": seconds / n,
        "hours": seconds / n * total / 3600,
        "bytes": int(stored * total),
        "peak bytes": peak_bytes(),
        "peak bytes before the batch": before,
    }
