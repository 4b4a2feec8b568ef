"""What reading attention costs: plain SDPA, our rows, eager with output_attentions, eager with reducing hooks.

Every figure comes from a fresh process; ratios are to plain SDPA within the same run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import click

TITLES = {
    "plain": "plain SDPA",
    "rows": "rows (ours)",
    "eager": "eager, output_attentions",
    "hooks": "eager, reducing hooks",
}


def measure_apart(settings: dict) -> dict:
    """One measurement in its own process; a process that dies is a result with `failed`, not an end of the run."""
    command = [sys.executable, "-m", "benchmarks.speed.variants", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    said = done.stderr.strip().splitlines()
    reason = said[-1] if said else f"ended with status {done.returncode} (out of memory?)"
    return {**settings, "failed": reason[:200]}


def pool(measurements: list[dict]) -> dict:
    """Rounds of one variant and size → median seconds, spread, CPU seconds and peak; or why there is no figure."""
    for entry in measurements:
        if "skipped" in entry or "failed" in entry:
            return entry
    seconds = [value for entry in measurements for value in entry["seconds"]]
    return {
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "cpu_seconds": statistics.median(value for entry in measurements for value in entry["cpu_seconds"]),
        "peak_bytes": statistics.median(entry["peak_bytes"] for entry in measurements),
    }


def table(pooled: dict[tuple[int, str], dict], markdown: bool) -> str:
    """One line a size and variant: seconds, peak above the model, and both as ratios to plain."""
    head = ["image tokens", "variant", "time (s)", "× plain", "peak above model (GB)", "× plain"]
    body = []
    for (tokens, variant), entry in pooled.items():
        plain = pooled.get((tokens, "plain"), {})
        if "seconds" not in entry:
            reason = entry.get("skipped") or entry.get("failed")
            body.append([str(tokens), TITLES[variant], f"not run: {reason}", "", "", ""])
            continue
        ratio = [f"{entry[name] / plain[name]:.2f}" if plain.get(name) else "" for name in ("seconds", "peak_bytes")]
        seconds, peak = f"{entry['seconds']:.3f}", f"{entry['peak_bytes'] / 1e9:.3f}"
        body.append([str(tokens), TITLES[variant], seconds, ratio[0], peak, ratio[1]])
    if markdown:
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])
    widths = [max(len(line[i]) for line in [head, *body] if i != 2 or line[3] or line is head) for i in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in [head, *body]
    )


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        sizes = [int(part) for part in value.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"{value!r}: expected positive numbers such as 600,1200")
    return sizes


def names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    chosen = value.split(",")
    unknown = [name for name in chosen if name not in TITLES]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r}: expected some of {','.join(TITLES)}")
    return chosen


@click.command(epilog="Example: python -m benchmarks.speed.capture --tokens 600 --layers 4 --repeats 3")
@click.option("--tokens", default="600,1200,2400,4000", callback=numbers, help="Image tokens, comma-separated.")
@click.option("--rows", default=64, type=click.IntRange(1), show_default=True, help="Text tokens = wanted rows.")
@click.option("--layers", default=0, type=click.IntRange(0), help="Decoder layers; default: the preset's.")
@click.option("--preset", default="text", type=click.Choice(["text", "qwen2.5-vl-3b"]), show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--dtype", default=None, type=click.Choice(["float32", "bfloat16", "float16"]),
              help="Default: float32 on cpu, bfloat16 on cuda.")  # fmt: skip
@click.option("--variants", default=",".join(TITLES), callback=names, help="Comma-separated.", show_default=True)
@click.option("--repeats", default=3, type=click.IntRange(1), show_default=True, help="Timed forwards a process.")
@click.option("--rounds", default=3, type=click.IntRange(1), show_default=True,
              help="Processes a variant, interleaved with the others'.")  # fmt: skip
@click.option("--threads", default=0, type=click.IntRange(0), help="CPU threads; default: PyTorch's.")
@click.option("--out", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Write results as JSON.")
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
def main(
    tokens: list[int], rows: int, layers: int, preset: str, device: str, dtype: str | None, variants: list[str],
    repeats: int, rounds: int, threads: int, out: Path | None, markdown: bool,
) -> None:  # fmt: skip
    """Time and peak memory of one forward with attention rows, against plain SDPA and eager attention."""
    settings = {
        "rows": rows, "layers": layers, "preset": preset, "device": device, "repeats": repeats, "threads": threads,
        "dtype": dtype or ("bfloat16" if device.startswith("cuda") else "float32"),
    }  # fmt: skip
    pooled: dict[tuple[int, str], dict] = {}
    for size in tokens:
        measured: dict[str, list[dict]] = {variant: [] for variant in variants}
        for _ in range(rounds):
            for variant, entries in measured.items():  # interleaved: a busy minute meets every variant
                if not entries or "seconds" in entries[-1]:
                    entries.append(measure_apart({**settings, "variant": variant, "tokens": size}))
                    click.echo(f"{size} tokens, {TITLES[variant]}: done", err=True)
        pooled |= {(size, variant): pool(entries) for variant, entries in measured.items()}
    click.echo(table(pooled, markdown))
    if out:
        results = [{"tokens": size, "variant": variant, **entry} for (size, variant), entry in pooled.items()]
        partial = out.with_name(out.name + ".partial")
        partial.write_text(json.dumps({"settings": {**settings, "rounds": rounds}, "results": results}, indent=2))
        partial.replace(out)


if __name__ == "__main__":
    main()
