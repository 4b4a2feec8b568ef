"""`gapcheck analyze`: the teacher's pass first, then the student's, each a run that resumes; one model in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.data import Dataset, open_data
from perception_gap.data.reading import Reading
from perception_gap.errors import UsageError
from perception_gap.gaze.look import check_rows
from perception_gap.measure.batch import measure_batch
from perception_gap.measure.finish import finish
from perception_gap.measure.settings import Analysis, Settings, describe
from perception_gap.models.loading import LoadedModel, load, require_supported
from perception_gap.runs.engine import Engine, open_parts, with_model, writing
from perception_gap.runs.run import Run
from perception_gap.runs.samples import Work
from perception_gap.storage.files import write_json
from perception_gap.storage.folders import slug

Opener = Callable[[str, Settings], LoadedModel]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """What `gapcheck analyze` and `gapcheck compare` are told alike: which samples, and how models read them."""

    teacher: str | None = None
    data: str = "scenes"
    limit: int | None = None
    image_root: Path | None = None
    reading: Reading = field(default_factory=Reading)
    settings: Settings = field(default_factory=Settings)
    batch_size: int = 8
    seed: int = 0
    raster: tuple[int, int] | None = None
    fresh: bool = False
    command: str = ""

    def dataset(self, out: Path) -> Dataset:
        """The samples; what is drawn or comes inside the data lies in `out`."""
        return open_data(
            self.data,
            limit=self.limit,
            image_root=self.image_root,
            work=out,
            seed=self.seed,
            reading=self.reading,
        )

    def analysis(self, model: str, dataset: Dataset, out: Path, settings: Settings, teacher: Run | None) -> Analysis:
        """What is done with one of the models."""
        return Analysis(
            model=model,
            dataset=dataset,
            out=out,
            settings=settings,
            teacher=teacher,
            batch_size=self.batch_size,
            seed=self.seed,
            raster=self.raster,
            fresh=self.fresh,
            command=self.command,
        )


@dataclass(frozen=True)
class AnalyzeOptions(ReadingOptions):
    """The options of `gapcheck analyze`, as the command line gives them."""

    model: str
    out: Path | None = None

    def folder(self) -> Path:
        """--out, or runs/MODEL[-vs-TEACHER]-DATA."""
        names = [self.model, *(["vs", self.teacher] if self.teacher else []), self.data]
        return self.out or Path("runs") / "-".join(slug(Path(n).name if Path(n).exists() else n) for n in names)


def open_plain(name: str, settings: Settings) -> LoadedModel:
    """The model as transformers knows it, without latent tokens that it may have been trained with."""
    return load(name, **settings.load)


def analyze(options: AnalyzeOptions, *, progress: bool = True, say: Say = print, opener: Opener = open_plain) -> Run:
    """The teacher's run (stored, reused, or made now), then the model's; never two models in memory.

    UsageError before data are drawn and models loaded where --out cannot be written.
    """
    out = options.folder()
    check_rows(options.settings.rows)
    with writing(out):
        dataset = options.dataset(out)
        teacher = teacher_run(options, dataset, out, progress, say, opener) if options.teacher else None
        settings = options.settings
        text = settings.text if teacher or settings.text == "reference" else "own"
        job = options.analysis(options.model, dataset, out, replace(settings, text=text), teacher)
        return run_analysis(job, opener, progress=progress)


def run_analysis(job: Analysis, opener: Opener, *, progress: bool = True) -> Run:
    """The run of one analysis; its model is opened and let go in here."""
    return with_model(
        lambda: opener(job.model, job.settings), lambda loaded: analyze_with(loaded, job, progress=progress)
    )


def analyze_with(loaded: LoadedModel, job: Analysis, *, progress: bool = True) -> Run:
    """Answer, score and capture every sample that the folder does not hold yet, then merge and summarise.

    GapcheckError where another command writes into the folder; UsageError before it is touched for rows and layers that
    the model does not have.
    """
    check_rows(job.settings.rows, loaded.latents is not None and loaded.latents.count > 0)
    for chosen in (job.settings, job.settings.knockout):
        choose_layers(chosen.layers if chosen else "all", find_decoder(loaded.model))
    if loaded.family.assumed and progress:
        tqdm.write(f"{loaded.name}: {loaded.family.assumed}")
    with writing(job.out):
        parts = open_parts(job.out, fresh=job.fresh)
        info = describe(job, loaded)
        work = job.work(info["model"])
        (job.out / "summary.json").unlink(missing_ok=True)  # an unfinished run must not show an older summary
        write_json(job.out / "run.json", info)
        keys = [item.key for item in work]
        parts.list_keys(keys)

        def rekey(changed: dict[str, str]) -> None:
            keys[:] = [changed.get(key, key) for key in keys]
            parts.list_keys(keys)

        engine: Engine[Work] = Engine(
            parts,
            key=lambda item: item.key,
            process=partial(measure_batch, loaded, job),
            batch_size=job.batch_size,
            label=loaded.name if progress else None,
            on_rekey=rekey,
        )
        engine.run(work)
        return finish(job.out, keys, parts, info, job.teacher, seed=job.seed, raster=job.raster)


def teacher_run(options: AnalyzeOptions, dataset: Dataset, out: Path, progress: bool, say: Say, opener: Opener) -> Run:
    """The finished run that `--teacher` names, or the teacher's own pass, stored in OUT/teacher for later students."""
    assert options.teacher is not None
    # Latent rows are the student's alone: they are held against the rows of the teacher's answer.
    settings = replace(
        options.settings,
        text="reference" if options.settings.text == "reference" else "own",
        rows="question" if options.settings.rows == "question" else "answer",
        knockout=None,  # the student's alone as well
    )
    if (Path(options.teacher) / "run.json").exists():
        return stored_teacher(options.teacher, settings, out)
    require_supported(options.model, settings.load.get("revision"), settings.load.get("trust_remote_code", False))
    # A revision belongs to one repository; everything else is the same for both models.
    settings = replace(settings, load={k: v for k, v in settings.load.items() if k != "revision"})
    job = options.analysis(options.teacher, dataset, out / "teacher", settings, None)
    say(f"teacher {options.teacher}: first, into {job.out}")
    return run_analysis(job, opener, progress=progress)


def stored_teacher(path: str, wanted: Settings, out: Path) -> Run:
    """The finished run in `path`. UsageError unless it was made as `wanted`, and for the folder `out` itself."""
    if Path(path).resolve() == out.resolve():
        raise UsageError(f"--out {out}: is the teacher's own run; choose another folder")
    run = Run.open(path)
    limits = ("min_pixels", "max_pixels")
    for name in ("text", "rows", "layers", "instruction", "system", *limits):
        kept = run.info.get("settings", {})
        stored = (kept.get("load", {}) if name in limits else kept).get(name)
        value = wanted.load.get(name) if name in limits else getattr(wanted, name)
        if stored != value:
            raise UsageError(
                f"teacher run {run.path}: made with {name} {stored!r}, not {value!r}; use the same for both"
            )
    return run
