"""What training with the full loss costs: time and peak memory of a step against plain SFT; and what traces cost.

Every figure comes from a fresh process; ratios are to plain SFT (or to answering alone) within the same run.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.apart import in_rounds, laid_out, names_of, numbers, process_options, ratio, times, write_results

TITLES = {
    "sft": "plain SFT",
    "latents": "latents",
    "gate": "latents, gate",
    "concept": "latents, L_concept",
    "trajectory": "latents, L_traj",
    "full": "full loss",
    "answer": "answers alone",
    "trace": "answers and traces",
}
BASES = ("sft", "answer")  # what the other variants are compared with
STEPS = tuple(name for name in TITLES if name not in ("answer", "trace"))
TIME_BAR, MEMORY_BAR = 1.25, 1.15
TEACHER_WIDTH = 5120  # Qwen2.5-VL-32B

Cell = tuple[int, int, bool]  # image tokens, batch, checkpointing


def table(pooled: dict[Cell, dict[str, dict[str, Any]]], markdown: bool) -> str:
    """One line a cell and variant: median and fastest time, tokens a second, peak; and their ratios to the base."""
    head = ["image tokens", "batch", "checkpointing", "variant", "time (s)", "× base", "fastest (s)", "× base"]
    head += ["tokens/s", "peak above model (GB)", "× base"]
    body = []
    for (tokens, batch, checkpointing), by_variant in pooled.items():
        base = next((by_variant[name] for name in BASES if name in by_variant), {})
        for variant, entry in by_variant.items():
            line = [str(tokens), str(batch), "on" if checkpointing else "off", TITLES[variant]]
            if "seconds" not in entry:
                body.append([*line, f"not run: {entry.get('skipped') or entry.get('failed')}"])
                continue
            for name in ("seconds", "seconds_min"):
                line += [f"{entry[name]:.3f}", times(ratio(entry, base, name))]
            rate = f"{entry['positions'] / entry['seconds']:.0f}"
            peak = f"{entry['peak_bytes'] / 1e9:.3f}", times(ratio(entry, base, "peak_bytes"))
            body.append([*line, rate, *peak])
    return laid_out(head, body, markdown)


def bars(pooled: dict[Cell, dict[str, dict[str, Any]]]) -> list[str]:
    """Whether the full loss keeps to 1.25 × the time and 1.15 × the memory of plain SFT, for each cell with both."""
    lines = []
    for (tokens, batch, checkpointing), by_variant in pooled.items():
        sft, full = by_variant.get("sft", {}), by_variant.get("full", {})
        time, memory = ratio(full, sft, "seconds"), ratio(full, sft, "peak_bytes")
        if time is None:
            continue
        room = f"{memory:.2f} ×" if memory is not None else "undefined, the base took none"
        others = [times(ratio(full, sft, name)) for name in ("seconds_min", "cpu_seconds", "cpu_seconds_min")]
        lines.append(
            f"{tokens} image tokens, batch {batch}, checkpointing {'on' if checkpointing else 'off'}: "
            f"time {time:.2f} × (fastest {others[0]}; CPU seconds {others[1]}, fewest {others[2]}; bar {TIME_BAR}): "
            f"{verdict(time, TIME_BAR)}; memory {room} (bar {MEMORY_BAR}): {verdict(memory, MEMORY_BAR)}"
        )
    return lines


def verdict(value: float | None, bar: float) -> str:
    if value is None:
        return "cannot be said"
    return "holds" if value <= bar else "DOES NOT HOLD"


def trace_bytes(tokens: int) -> str:
    from benchmarks.speed.extraction import bytes_a_trace

    sizes = bytes_a_trace(tokens, TEACHER_WIDTH)
    return (
        f"bytes of one trace beside its image, V_sem of width {TEACHER_WIDTH}, {tokens} image tokens: "
        f"{sizes['parquet']:,.0f}, of them V_sem {sizes['v_sem']:,.0f}; --keep-full adds {sizes['full']:,.0f}"
    )


def on_or_off(context: click.Context, parameter: click.Parameter, value: str) -> list[bool]:
    return {"off": [False], "on": [True], "both": [False, True]}[value]


@click.command(epilog="Example: python -m benchmarks.speed.training --layers 2 --tokens 300 --rounds 1")
@click.option("--tokens", default="1200", callback=numbers, help="Image tokens, comma-separated.", show_default=True)
@click.option("--batch", default="1,2", callback=numbers, help="Samples a step, comma-separated.", show_default=True)
@click.option(
    "--checkpointing",
    default="both",
    type=click.Choice(["off", "on", "both"]),
    callback=on_or_off,
    help="Gradient checkpointing.",
    show_default=True,
)
@click.option(
    "--variants",
    default="sft,full",
    callback=names_of(STEPS),
    show_default=True,
    help=f"Comma-separated, of {','.join(STEPS)}.",
)
@click.option(
    "--gamma", default=0.5, type=click.FloatRange(0, 1, max_open=True), show_default=True, help="Of the gate."
)
@click.option(
    "--dtype",
    default=None,
    type=click.Choice(["float32", "mixed", "bfloat16"]),
    help="mixed: float32 weights under bf16 autocast, what `gapcheck train --set bf16=true` does; bfloat16: "
    "the weights too. Default: float32 on cpu, mixed on cuda (--traces: bfloat16).",
)
@click.option("--traces", is_flag=True, help="Measure a teacher's extraction of traces, and bytes a trace, instead.")
@click.option("--repeats", default=2, type=click.IntRange(1), show_default=True, help="Timed steps a process.")
@process_options
def main(
    tokens: list[int],
    batch: list[int],
    checkpointing: list[bool],
    variants: list[str],
    gamma: float,
    dtype: str | None,
    traces: bool,
    rounds: int,
    out: Path | None,
    markdown: bool,
    **process: Any,
) -> None:
    """Time and peak memory of an optimiser step with the full LaViT loss, against plain SFT on the same batch."""
    if traces and dtype == "mixed":
        raise click.BadParameter("mixed is for training; --traces takes float32 or bfloat16", param_hint="--dtype")
    on_gpu = "bfloat16" if traces else "mixed"
    settings = process | {"dtype": dtype or (on_gpu if process["device"].startswith("cuda") else "float32")}
    pooled: dict[Cell, dict[str, dict[str, Any]]] = {}
    for size, samples, kept in product(tokens, batch, [False] if traces else checkpointing):
        cell = {**settings, "tokens": size, "batch": samples}
        module, chosen = "benchmarks.speed.extraction", ["answer", "trace"]
        if not traces:
            module, chosen = "benchmarks.speed.steps", variants
            cell |= {"checkpointing": kept, "gamma": gamma}
        each = {variant: {**cell, "variant": variant} for variant in chosen}
        note = f"{size} tokens, batch {samples}, checkpointing {'on' if kept else 'off'}"
        pooled[size, samples, kept] = in_rounds(module, each, rounds, note)
        if out:  # after every cell: a killed run keeps what it has
            results = [entry | {"variant": name} for group in pooled.values() for name, entry in group.items()]
            write_results(out, {**settings, "rounds": rounds}, results)
    click.echo(table(pooled, markdown))
    lines = [trace_bytes(size) for size in tokens] if traces else bars(pooled)
    click.echo("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
