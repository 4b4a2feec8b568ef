"""Start-up, time and memory of whole `gapcheck bench` commands, each in a fresh process; ratios within one run.

`python -m benchmarks.speed.bench` prints a Markdown table. The last line asks lmms-eval's own command line the same
questions of the same model through our plugin.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from perception_gap.grid import grid

# Not imported: a child's peak cannot be told below the size of the process that starts it.
SCENES = Path(__file__).parents[1] / "suites" / "scenes"
GAPCHECK = [sys.executable, "-m", "perception_gap"]


def commands(model: str, limit: int, folder: Path) -> dict[str, list[str]]:
    """What is measured: name → command line."""
    bench = [*GAPCHECK, "bench", model, "--suite", "scenes_pairs", "--limit"]
    own = ["--model_args", f"pretrained={model}", "--tasks", "scenes_pairs", "--batch_size", "8", "--limit", str(limit)]
    return {
        "gapcheck --help": [*GAPCHECK, "--help"],
        "start: one scene": [*bench, "1", "--out", str(folder / "one")],
        "start: names of all tasks read": [*GAPCHECK, "bench", model, "--suite", "no_such_task"],
        f"{limit} scenes": [*bench, str(limit), "--out", str(folder / "plain")],
        f"{limit} scenes, --gaze": [*bench, str(limit), "--gaze", "--out", str(folder / "gaze")],
        f"{limit} scenes, all answered before": [*bench, str(limit), "--out", str(folder / "plain")],
        f"{min(limit, 200)} scenes, lmms-eval's command": [
            *(sys.executable, "-m", "lmms_eval", "--model", "gapcheck_hf"),
            *("--include_path", str(SCENES), *own),
        ],
    }


def run_command(command: list[str], folder: Path) -> tuple[float, float, float]:
    """(seconds, CPU seconds, peak resident MiB) of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


@click.command()
@click.option("--model", default="tiny:teacher", show_default=True)
@click.option("--limit", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
def main(model: str, limit: int, repeats: int) -> None:
    """The fastest of --repeats rounds of each command; × is over the plain run of all questions."""
    best: dict[str, tuple[float, float, float]] = {}
    for _ in range(repeats):
        with TemporaryDirectory() as folder:
            for name, command in commands(model, limit, Path(folder)).items():
                costs = run_command(command, Path(folder))
                best[name] = min(best.get(name, costs), costs)
    plain = best[f"{limit} scenes"]
    rows = [
        [name, f"{s:.1f}", f"{cpu:.1f}", f"{peak:,.0f}", f"{s / plain[0]:.2f}", f"{peak / plain[2]:.2f}"]
        for name, (s, cpu, peak) in best.items()
    ]
    head = ["command", "seconds", "CPU seconds", "peak MiB", "× time", "× peak"]
    click.echo(grid(head, rows, "markdown"))


if __name__ == "__main__":
    main()
