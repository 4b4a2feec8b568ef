"""The options of every command that can look deeper than one map a sample: layers and heads, and cut attention."""

from __future__ import annotations

from typing import Any

import click

from perception_gap.cli.model_options import together

deeper_options = together(
    click.option("--per-layer", is_flag=True, help="Measure every layer and head apart: which carry the gaze."),
    click.option(
        "--knockout", is_flag=True, help="Cut attention to tokens in the boxes, and elsewhere: what it changes."
    ),
    click.option("--knockout-layers", metavar="LAYERS", help="Where it is cut, as --layers [default: all]."),
    click.option(
        "--knockout-k",
        metavar="K",
        type=click.IntRange(min=1),
        help="Tokens of largest weight that are cut [default: 8].",
    ),
)


def pop_deeper(options: dict[str, Any]) -> dict[str, Any]:
    """`per_layer` and `knockout` of `Settings`; the options are taken out, `seed` stays."""
    from perception_gap.knockout.conditions import Knockout

    per_layer = options.pop("per_layer")
    is_cut, layers, k = (options.pop(name) for name in ("knockout", "knockout_layers", "knockout_k"))
    if not is_cut and (layers or k):
        raise click.UsageError("--knockout-layers and --knockout-k say how to cut: give --knockout as well")
    cut = Knockout(layers=layers or "all", k=k or Knockout.k, seed=options["seed"]) if is_cut else None
    return {"per_layer": per_layer, "knockout": cut}
