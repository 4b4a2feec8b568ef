"""What reading attention costs: plain SDPA, our rows, eager with output_attentions, eager with reducing hooks.

Every figure comes from a fresh process; ratios are to plain SDPA within the same run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.speed.apart import in_rounds, laid_out, names_of, numbers, process_options, ratio, times, write_results

TITLES = {
    "plain": "plain SDPA",
    "rows": "rows (ours)",
    "eager": "eager, output_attentions",
    "hooks": "eager, reducing hooks",
}


def table(pooled: dict[tuple[int, str], dict[str, Any]], markdown: bool) -> str:
    """One line a size and variant: seconds, peak above the model, and both as ratios to plain."""
    head = ["image tokens", "variant", "time (s)", "× plain", "peak above model (GB)", "× plain"]
    body = []
    for (tokens, variant), entry in pooled.items():
        plain = pooled.get((tokens, "plain"), {})
        if "seconds" not in entry:
            reason = entry.get("skipped") or entry.get("failed")
            body.append([str(tokens), TITLES[variant], f"not run: {reason}"])
            continue
        by_time, by_peak = (times(ratio(entry, plain, name)) for name in ("seconds", "peak_bytes"))
        seconds, peak = f"{entry['seconds']:.3f}", f"{entry['peak_bytes'] / 1e9:.3f}"
        body.append([str(tokens), TITLES[variant], seconds, by_time, peak, by_peak])
    return laid_out(head, body, markdown)


@click.command(epilog="Example: python -m benchmarks.speed.capture --tokens 600 --layers 4 --repeats 3")
@click.option("--tokens", default="600,1200,2400,4000", callback=numbers, help="Image tokens, comma-separated.")
@click.option("--rows", default=64, type=click.IntRange(1), show_default=True, help="Text tokens = wanted rows.")
@click.option(
    "--dtype",
    default=None,
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Default: float32 on cpu, bfloat16 on cuda.",
)
@click.option(
    "--variants", default=",".join(TITLES), callback=names_of(TITLES), help="Comma-separated.", show_default=True
)
@click.option("--repeats", default=3, type=click.IntRange(1), show_default=True, help="Timed forwards a process.")
@process_options
def main(
    tokens: list[int],
    rows: int,
    dtype: str | None,
    variants: list[str],
    rounds: int,
    out: Path | None,
    markdown: bool,
    **process: Any,
) -> None:
    """Time and peak memory of one forward with attention rows, against plain SDPA and eager attention."""
    chosen = dtype or ("bfloat16" if process["device"].startswith("cuda") else "float32")
    settings = process | {"rows": rows, "dtype": chosen}
    pooled: dict[tuple[int, str], dict[str, Any]] = {}
    for size in tokens:
        each = {variant: {**settings, "variant": variant, "tokens": size} for variant in variants}
        by_variant = in_rounds("benchmarks.speed.variants", each, rounds, f"{size} tokens")
        pooled |= {(size, variant): entry for variant, entry in by_variant.items()}
    click.echo(table(pooled, markdown))
    if out:
        results = [{"tokens": size, "variant": variant, **entry} for (size, variant), entry in pooled.items()]
        write_results(out, {**settings, "rounds": rounds}, results)


if __name__ == "__main__":
    main()
