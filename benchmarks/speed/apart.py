"""One measurement a process: started here, repeated in interleaved rounds, pooled, and printed beside the others."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.models import TEXT
from perception_gap.grid import grid


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one process measures. layers: of the decoder, 0 = the preset's own number."""

    variant: str
    tokens: int
    preset: str = "text"
    layers: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    repeats: int = 3
    threads: int = 0


def run_apart(module: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What `python -m MODULE SETTINGS` prints last; a process that dies is a result with `failed`, not an end."""
    command = [sys.executable, "-m", module, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    stderr = done.stderr.strip().splitlines()
    reason = stderr[-1] if stderr else f"ended with status {done.returncode} (out of memory?)"
    return {**settings, "failed": reason[:200]}


def in_rounds(module: str, variants: dict[str, dict[str, Any]], rounds: int, note: str) -> dict[str, dict[str, Any]]:
    """variant → its settings, to variant → what its processes measured together (see `pool`).

    Interleaved: a busy minute meets every variant. A variant that failed or was skipped is not tried again.
    """
    measured: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant, entries in measured.items():
            if not entries or "seconds" in entries[-1]:
                entries.append(run_apart(module, variants[variant]))
                click.echo(f"{note}, {variant}: done", err=True)
    return {variant: pool(entries) for variant, entries in measured.items()}


def pool(measurements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rounds of one variant → its settings, median seconds, spread, CPU seconds and peak; or why there are none."""
    for entry in measurements:
        if "skipped" in entry or "failed" in entry:
            return entry
    seconds = [value for entry in measurements for value in entry["seconds"]]
    cpu_seconds = [value for entry in measurements for value in entry["cpu_seconds"]]
    return {
        **measurements[0],
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),
        "cpu_seconds_min": min(cpu_seconds),
        "peak_bytes": statistics.median(entry["peak_bytes"] for entry in measurements),
    }


def ratio(entry: dict[str, Any], base: dict[str, Any], name: str) -> float | None:
    """One figure over that of the variant it is compared with; None where either has none."""
    return entry[name] / base[name] if entry.get(name) and base.get(name) else None


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def laid_out(head: list[str], body: list[list[str]], markdown: bool) -> str:
    """Lines of cells as a table; below it, lines shorter than the head, which end in a remark."""
    whole = [line for line in body if len(line) == len(head)]
    remarks = [", ".join(line) for line in body if len(line) < len(head)]
    return "\n".join([grid(head, whole, "markdown" if markdown else "text"), *remarks])


def write_results(out: Path, settings: dict[str, Any], results: Iterable[dict[str, Any]]) -> None:
    """The settings and one object a line of the table, as JSON, atomically."""
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps({"settings": settings, "results": list(results)}, indent=2))
    partial.replace(out)


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    """Callback of an option that takes comma-separated positive numbers."""
    try:
        sizes = [int(part) for part in value.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"{value!r}: expected positive numbers such as 600,1200")
    return sizes


def names_of(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Callback of an option that takes comma-separated names of `known`."""

    def names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
        chosen = value.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise click.BadParameter(f"{unknown[0]!r}: expected some of {','.join(known)}")
        return chosen

    return names


def process_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that start such processes and print what they measured."""
    for option in (
        click.option("--markdown", is_flag=True, help="Print the table in Markdown."),
        click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write results as JSON."),
        click.option("--threads", default=0, type=click.IntRange(0), help="CPU threads; default: PyTorch's."),
        click.option(
            "--rounds",
            default=3,
            type=click.IntRange(1),
            show_default=True,
            help="Processes a variant, interleaved with the others'.",
        ),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--layers", default=0, type=click.IntRange(0), help="Decoder layers; default: the preset's."),
        click.option(
            "--preset", default="text", type=click.Choice(list(TEXT)), show_default=True, help="Shape of the model."
        ),
    ):
        command = option(command)
    return command
