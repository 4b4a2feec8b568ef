"""Time, memory and size of `gapcheck report` on large runs, and how long the page takes to open in Chromium.

`python -m benchmarks.speed.report RUN` repeats the samples of a finished run with a teacher under new names until there
are --samples of them, and prints a Markdown table: the run as it is, and the enlarged one; ratios within one run.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pandas as pd

from benchmarks.speed.bench import GAPCHECK, run_command
from perception_gap.grid import grid
from perception_gap.measure.summary import summarise
from perception_gap.runs.run import Run
from perception_gap.runs.schema import tables
from perception_gap.storage.files import ArrayFile, write_frame, write_json


def enlarge(run: Run, out: Path, n: int, teacher: Path | None = None) -> Path:
    """A run of n samples: those of `run`, over and over, with the maps, words and pictures that they have."""
    out.mkdir(parents=True)
    copies = -(-n // len(run.samples))
    samples = pd.concat(
        [renamed(run.samples, c, "sample_id", "cluster") for c in range(copies)], ignore_index=True
    ).head(n)
    words = pd.concat([renamed(run.words, c, "sample_id") for c in range(copies)], ignore_index=True)
    words = words[words["sample_id"].isin(set(samples["sample_id"]))].reset_index(drop=True)
    pictures = samples["images"].map(lambda paths: [str((run.path / path).resolve()) for path in paths])
    write_frame(out / "samples.parquet", samples.assign(images=pictures), tables.samples())
    write_frame(out / "words.parquet", words, tables.words())
    maps = ArrayFile(out / "maps.safetensors")
    for c in range(copies):
        for sample_id in run.samples["sample_id"][: n - c * len(run.samples)]:
            for kind in ("own", "own_words", "shared", "shared_words"):
                attention = run.map(sample_id, kind)
                if attention is not None:
                    maps.add(f"{sample_id}-{c}/{kind}", attention)
    maps.close()
    info = run.info | {"data": run.info["data"] | {"n": n}}
    if teacher is not None:
        info["teacher"] = info["teacher"] | {"path": str(teacher)}
    write_json(out / "run.json", info)
    write_json(out / "summary.json", summarise(samples, words, info, 0))
    return out


def renamed(table: pd.DataFrame, copy: int, *columns: str) -> pd.DataFrame:
    return table.assign(**{name: table[name].astype(str) + f"-{copy}" for name in columns})


def opening(page: Path) -> float:
    """Seconds from asking for the page to the first painted overlay, in headless Chromium; NaN without a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        return float("nan")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        tab = chromium.new_page()
        began = time.perf_counter()
        tab.goto(page.resolve().as_uri())
        tab.wait_for_function(
            "() => { const c = document.querySelectorAll('#panels canvas')[1];"
            "return c && c.getContext('2d').getImageData(5, 5, 1, 1).data[3] > 0; }"
        )
        seconds = time.perf_counter() - began
        chromium.close()
    return seconds


def line(name: str, run: Path, out: Path, extra: list[str], here: Path) -> list[Any]:
    """[name, seconds, peak MiB, page MiB, MiB beside it, seconds to open]."""
    command = [*GAPCHECK, "report", str(run.resolve()), "--out", str(out), *extra]
    seconds, _, peak = run_command(command, here)
    beside = sum(file.stat().st_size for file in out.with_name(f"{out.stem}_samples").glob("*")) / 2**20
    return [name, seconds, peak, out.stat().st_size / 2**20, beside, opening(out)]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--samples", default=20_000, show_default=True, type=click.IntRange(min=1))
def main(run: Path, samples: int) -> None:
    """× is over the run as it is."""
    small = Run.open(run)
    teacher = small.teacher()
    if teacher is None:
        raise click.UsageError(f"{run}: has no teacher; give the run of a student")
    with TemporaryDirectory() as folder:
        here = Path(folder)
        wide = enlarge(teacher, here / "teacher", samples)
        large = enlarge(small, here / "student", samples, wide)
        whole = f"{samples:,} samples × 2 models"
        rows = [
            line(f"{len(small.samples):,} samples × 2 models", run, here / "small.html", [], here),
            line(whole, large, here / "large.html", [], here),
            line(f"{whole}, --samples all", large, here / "all.html", ["--samples", "all"], here),
        ]
    base = rows[0]
    cells = []
    for name, s, peak, size, beside, opened in rows:
        costs = [f"{s:.1f}", f"{s / base[1]:.2f}", f"{peak:,.0f}", f"{peak / base[2]:.2f}"]
        cells.append([name, *costs, f"{size:.1f}", f"{beside:,.0f}", f"{opened:.2f}"])
    head = ["report", "seconds", "× time", "peak MiB", "× peak", "page, MiB", "beside it, MiB", "opens in, s"]
    click.echo(grid(head, cells, "markdown"))


if __name__ == "__main__":
    main()
