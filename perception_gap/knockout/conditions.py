"""The conditions of a knockout: whose attention (rows) is cut from which image tokens."""

from __future__ import annotations

from dataclasses import dataclass

ROWS = ("answer", "question", "text")
SETS = ("inside", "outside_number", "outside_mass", "top_k", "image")
CUTS = tuple((rows, tokens) for rows in ROWS for tokens in SETS)
REDRAWN = ("picture", "redrawn")  # no cut: the scene drawn without what lies in its boxes
CONDITIONS = (*CUTS, REDRAWN)
# What is kept of a sample, uncut and under each condition; n_tokens: of the answer, which is the same one.
FIELDS = ("n_cut", "mass_cut", "log_probability", "n_tokens", "changed", "correct")


@dataclass(frozen=True)
class Knockout:
    """What is asked for, beside the sample.

    layers: the decoder layers that are cut, as `choose_layers` takes them. k: how many tokens `top_k` has (paper: 8).
    seed: with the sample's id it decides which tokens are drawn outside the boxes.
    """

    layers: str = "all"
    k: int = 8
    seed: int = 0
