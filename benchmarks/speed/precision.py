"""What bf16 and fp16 cost in accuracy: the rows of one random-weight decoder in each, against its float32 rows."""

from __future__ import annotations

import math

import click

from benchmarks.speed.models import TEXT
from perception_gap.grid import grid


@click.command(epilog="Example: python -m benchmarks.speed.precision --layers 4 --tokens 300")
@click.option("--tokens", default=1200, type=click.IntRange(1), show_default=True, help="Image tokens.")
@click.option("--rows", default=64, type=click.IntRange(1), show_default=True, help="Text tokens = wanted rows.")
@click.option("--layers", default=0, type=click.IntRange(0), help="Decoder layers; default: the preset's.")
@click.option("--preset", default="text", type=click.Choice(list(TEXT)), show_default=True)
@click.option(
    "--sharpness",
    default=4.0,
    show_default=True,
    help="Factor on the query weights: with random ones alone every map is all but uniform.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
def main(tokens: int, rows: int, layers: int, preset: str, sharpness: float, device: str) -> None:
    """Print, in Markdown, how far rows and the map of half-precision models are from float32's."""
    import torch

    from benchmarks.speed.variants import build, runner

    rows_of = {}
    for dtype in ("float32", "bfloat16", "float16"):
        model = build(preset, layers, "sdpa", device, dtype)
        with torch.inference_mode():
            for layer in model.layers:
                layer.self_attn.q_proj.weight.mul_(sharpness)
            rows_of[dtype] = runner(model, "rows", tokens, rows)().double().cpu()
        del model
    exact = rows_of.pop("float32")
    share = exact.mean(0) / exact.mean(0).sum()
    entropy = -(share * share.log()).sum().item()
    click.echo(
        f"map in float32: entropy {entropy / math.log(tokens):.2f} of ln {tokens}, "
        f"largest {share.max().item() * tokens:.0f} × the mean\n"
    )
    head = ["precision", "largest difference of a weight", "the same, over the largest weight"]
    lines = []
    for dtype, low in rows_of.items():
        largest = (low - exact).abs().max().item()
        maps = [values.mean(0) / values.mean(0).sum() for values in (low, exact)]
        variation = 0.5 * (maps[0] - maps[1]).abs().sum().item()
        lines.append([dtype, f"{largest:.1e}", f"{largest / exact.max().item():.1e}", f"{variation:.1e}"])
    click.echo(grid([*head, "total variation of the map"], lines, "markdown"))


if __name__ == "__main__":
    main()
