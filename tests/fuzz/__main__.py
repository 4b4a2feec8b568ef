"""Runs cases, prints how they ended, and each fault with the command that repeats it; exit 1 if there is one.

python -m tests.fuzz --cases 1000 --seed 0           # about 25 minutes on two cores
python -m tests.fuzz --seed 0 --case 17              # one case again, with all that it says
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import click
from tabulate import tabulate

from tests.fuzz import base, cases, run

WARM = (
    "lavit.training",
    "lavit.ablation",
    "lavit.traces.extract",
    "benchmarks.harness",
    "benchmarks.tables",
    "reports.page",
    "reports.overlays",
    "reports.comparison_files",
    "perception_gap.compare.run",
    "perception_gap.cli.reproduction.present",
)


@click.command()
@click.option("--cases", "n", default=1000, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True)
@click.option("--case", "one", type=int, help="This case alone, with its output.")
@click.option("--only", type=click.Choice([maker.__name__ for maker in cases.MAKERS]), help="Cases of this generator.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--limit", default=30, show_default=True, help="Seconds of processor time a case may take.")
@click.option("--base", "kept", type=click.Path(path_type=Path), help="Keep the whole inputs here, and take them.")
def command(n: int, seed: int, one: int | None, only: str | None, jobs: int, limit: int, kept: Path | None) -> None:
    """Hostile input for every command of gapcheck: no traceback, no hang, nothing bad accepted in silence."""
    os.environ |= base.ENVIRONMENT
    with tempfile.TemporaryDirectory(prefix="gapcheck-fuzz-") as folder:
        home = Path(folder)
        os.environ["XDG_STATE_HOME"] = str(kept or home)
        inputs = (kept or home / "base").absolute()
        base.build(inputs)
        for name in [module for module, _ in cases.COMMANDS.values()] + list(WARM):
            import_module(name)
        numbers = [one] if one is not None else list(range(n))
        ended = Counter[tuple[str, str]]()
        faults = []
        waiting = numbers[::-1]
        running: dict[int, tuple[float, int, str, cases.Case, Path]] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                number = waiting.pop()
                work = home / f"case-{number}"
                work.mkdir()
                maker, case = cases.case(seed, number, work, inputs)
                if only and maker != only:
                    shutil.rmtree(work)
                    continue
                pid, began = run.fork(case.argv, work, limit)
                running[pid] = (began, number, maker, case, work)
            time.sleep(0.02)
            for pid, (began, number, maker, case, work) in list(running.items()):
                outcome = run.wait(pid, began, work, limit)
                if outcome is None:
                    continue
                del running[pid]
                fault = run.fault(outcome, case.expected)
                ended[maker, fault or f"exit {outcome.status}"] += 1
                if fault or one is not None:
                    last = " | ".join(outcome.output.strip().splitlines()[-2:])[-300:]
                    shown = shlex.join(case.argv)[:200]
                    faults += [number] * bool(fault)
                    click.echo(
                        f"--case {number} {maker}: {fault or outcome.status} ({case.about})\n  {shown}\n  {last}"
                    )
                if one is not None:
                    click.echo(outcome.output)
        kinds = sorted({kind for _, kind in ended})
        rows = [[maker.__name__, *(ended[maker.__name__, kind] for kind in kinds)] for maker in cases.MAKERS]
        click.echo(tabulate(rows, ["generator", *kinds]))
        click.echo(f"seed {seed}: {sum(ended.values())} cases, {len(faults)} faults {sorted(faults)}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    command()
