"""`gapcheck ablate`: a matrix of presets and seeds, trained on the same traces and measured on the same samples."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lavit import results
from lavit.checkpoint import facts_of, has_latents
from lavit.checks import check_enough, check_images
from lavit.evaluation import Evaluation
from lavit.options import TrainOptions
from lavit.settings import PRESETS, settings_of
from lavit.traces import Traces
from lavit.training import train
from perception_gap.errors import UsageError, one_line
from perception_gap.models import loading
from perception_gap.storage import checksums
from perception_gap.storage.files import write_json
from perception_gap.storage.folders import claim
from perception_gap.storage.intact import FILES

RESULTS, MEANS, COMPARISONS = "results.csv", "means.csv", "comparisons.csv"
TABLES = "tables.md"  # which the command makes of them
UNTRAINED = "student"  # the row of the model that all trainings start from
BASELINES = ("naive-sft", "latents-only", "shuffled-gaze", "ours")  # what the others are compared with


@dataclass(frozen=True)
class AblationOptions:
    """The options of `gapcheck ablate`; `runs` are (preset, seed)."""

    student: str
    teacher: str
    traces: Path
    out: Path
    runs: tuple[tuple[str, int], ...]
    evaluation: Evaluation
    device: str = "auto"
    scale: str = "full"
    changes: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None


def parse_runs(presets: Sequence[str], seeds: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """`NAME` for every seed, or `NAME*N` for the first N of them; UsageError for what is no preset or count."""
    runs: list[tuple[str, int]] = []
    for entry in presets:
        name, star, count = entry.partition("*")
        settings_of(name)  # an unknown preset is said before any work
        if star and (not count.isdigit() or not 1 <= int(count) <= len(seeds)):
            raise UsageError(f"--presets {entry!r}: expected NAME or NAME*N with N from 1 to {len(seeds)}, the seeds")
        runs += [(name, seed) for seed in seeds[: int(count) if star else None]]
    if len(set(runs)) != len(runs):
        raise UsageError(f"--presets {','.join(presets)}: a preset or a seed stands twice; expected each once")
    return tuple(runs)


def finished(out: Path) -> list[tuple[str, int]]:
    """The presets and seeds that a folder holds already."""
    runs = []
    for path in sorted(out.glob("*-s*/train/model/lavit.json")):
        name, _, seed = path.parents[2].name.rpartition("-s")
        if name in PRESETS and seed.isdigit():
            runs.append((name, int(seed)))
    return sorted(runs, key=lambda run: (list(PRESETS).index(run[0]), run[1]))


def ablate(options: AblationOptions, *, say: Callable[[str], None] = print) -> pd.DataFrame:
    """Train and measure what OUT does not hold yet; writes results.csv, means.csv and comparisons.csv.

    They cover every finished run of OUT, those of earlier calls included. Returns the first.
    """
    require_trainable(options)
    (options.out / FILES).unlink(missing_ok=True)  # back when all that it speaks of is written
    evaluation = replace(options.evaluation, load=load_options(options))
    teacher = evaluation.run(options.teacher, options.out / "teacher")
    frames: dict[tuple[str, int], pd.DataFrame] = {}
    rows: list[dict[str, Any]] = []
    runs = list(dict.fromkeys([(UNTRAINED, 0), *finished(options.out), *options.runs]))
    for preset, seed in runs:
        folder = options.out / f"{preset}-s{seed}"
        say(f"{preset}, seed {seed}: {folder}")
        model = options.student if preset == UNTRAINED else str(one_training(options, preset, seed, folder))
        run = evaluation.run(model, folder / "eval", teacher)
        frames[preset, seed] = frame = results.sample_values(run, teacher)
        rows += results.tidy(preset, seed, frame, results.METRICS)
        if preset != UNTRAINED and has_latents(facts_of(model)):
            for mode, hidden in evaluation.hidden(model, folder, frame).items():
                rows += results.tidy(preset, seed, hidden, results.HIDDEN_METRICS, f"_{mode}")
        results.write(options.out / RESULTS, pd.DataFrame(rows, columns=list(results.COLUMNS)))
    tasks = sorted(teacher.samples["task"].unique())
    values = pd.DataFrame(rows, columns=list(results.COLUMNS))
    results.write(options.out / MEANS, results.means(values))
    compared = results.comparisons(frames, list(dict.fromkeys(p for p, _ in frames)), (*BASELINES, UNTRAINED), tasks)
    results.write(options.out / COMPARISONS, compared)
    sums = {name: checksums.of_file(options.out / name) for name in (RESULTS, MEANS, COMPARISONS)}
    write_json(options.out / FILES, {"files": sums})
    return values


def require_trainable(options: AblationOptions) -> None:
    """UsageError, before any work, for what the first training would refuse after the teacher's pass."""
    if "seed" in options.changes:
        raise UsageError("--set seed=..: the seeds of a matrix are those of --seeds")
    check_folder(options.out)
    traces = Traces.open(options.traces)
    for preset, seed in options.runs:
        check_enough(traces, settings_of(preset, options.scale, options.changes | {"seed": seed}))
    check_images(traces)


def check_folder(out: Path) -> None:
    """UsageError where OUT holds what no matrix wrote; makes it."""
    runs = re.compile(rf"({'|'.join(map(re.escape, (UNTRAINED, *PRESETS)))})-s\d+|teacher|.*\.tmp")
    claim(out, RESULTS, lambda name: name in (RESULTS, MEANS, COMPARISONS, TABLES) or bool(runs.fullmatch(name)))
    if (out / RESULTS).is_file():
        with (out / RESULTS).open("rb") as file:
            head = file.readline(500).decode(errors="replace").strip()
        if not head.startswith(",".join(results.COLUMNS[:2])):
            raise UsageError(f"--out {out}: its {RESULTS} is no matrix's ({one_line(head, 80)!r}); choose a new folder")


def load_options(options: AblationOptions) -> dict[str, Any]:
    """The device, and the image size of training for every model of the matrix, the untrained and the teacher included.

    Their own sizes would compare models that see more with models that see less. The smallest of the presets' limits
    where they differ (`released`).
    """
    load: dict[str, Any] = {} if options.device == "auto" else {"device": options.device}
    if None in [loading.require_supported(name).pixel_limits for name in (options.student, options.teacher)]:
        return load
    chosen = [settings_of(preset, options.scale, options.changes) for preset, _ in options.runs]
    for name in ("min_pixels", "max_pixels"):
        given = [getattr(settings, name) for settings in chosen if getattr(settings, name)]
        load |= {name: min(given)} if given else {}
    return load


def one_training(options: AblationOptions, preset: str, seed: int, folder: Path) -> Path:
    """The checkpoint of one preset and seed, trained now or before."""
    settings = settings_of(preset, options.scale, options.changes | {"seed": seed})
    try:
        return train(
            TrainOptions(
                student=options.student,
                traces=options.traces,
                out=folder / "train",
                preset=preset,
                settings=settings,
                scale=options.scale,
                device=options.device,
                cache=options.cache,
                command=options.evaluation.command,
            )
        )
    finally:
        gc.collect()
