"""Attention knockout in words: the table of all cuts, and what the paired contrasts establish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perception_gap.grid import grid
from perception_gap.stats.estimates import side
from reports.summary import defined, too_few, written

ROWS = {"answer": "answer", "question": "question", "text": "all text"}
PICTURE = "picture"
DECIDING = "text"  # the strongest cut: of "answer" rows alone, question and template still carry the image
ELSEWHERE = {
    "inside_minus_outside_number": "as many tokens elsewhere",
    "inside_minus_outside_mass": "tokens elsewhere of the same attention mass",
}


def set_labels(cuts: Mapping[str, Any]) -> dict[str, str]:
    """Set of tokens → what it is called; cuts: `knockout` of summary.json."""
    return {
        "inside": "in the boxes",
        "outside_number": "elsewhere, as many",
        "outside_mass": "elsewhere, same mass",
        "top_k": f"top {cuts['k']} of the map",
        "image": "whole image",
        "redrawn": "boxed things not drawn",
    }


def conditions(cuts: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(rows, tokens, condition) in the order of the table; the redrawn picture where a sample has one."""
    for rows in ROWS:
        yield from ((rows, tokens, condition) for tokens, condition in cuts[rows].items())
    redrawn = cuts[PICTURE]["redrawn"]
    if redrawn["change"]["n"]:
        yield PICTURE, "redrawn", redrawn


def block(cuts: Mapping[str, Any]) -> str:
    """The table of a terminal and the sentence under it."""
    labels, lines = set_labels(cuts), list[list[str]]()
    for rows, tokens, cut in conditions(cuts):
        head = "" if lines and lines[-1][-1] == rows else ROWS.get(rows, "nothing cut")
        n, mass = (_plain(cut[name]["mean"], scale) for name, scale in (("n_cut", 1), ("mass_cut", 100)))
        lines.append(
            [
                head,
                labels[tokens],
                n,
                mass,
                written(cut["change"], "nats"),
                written(cut["accuracy"]["difference"], "points"),
                f"{cut['change']['n']:,}",
                rows,
            ]
        )
    names = ["attention of", "cut from", "tokens", "mass %", "Δ log-probability [95 %]", "Δ accuracy [95 %]", "n"]
    table = grid(names, [line[:-1] for line in lines], right=[2, 3, 6])
    where = "all layers" if cuts["layers"] == "all" else f"layers {cuts['layers']}"
    return f"Attention knockout in {where} (cut − uncut, of the model's own answer)\n\n{table}\n\n{finding(cuts)}"


def _plain(value: float | None, scale: int) -> str:
    return "" if value is None else f"{value * scale:.1f}"


def finding(cuts: Mapping[str, Any]) -> str:
    """What cutting the boxed tokens costs beside the two matched cuts; claimed only where it is established."""
    contrasts = cuts["contrasts"][DECIDING]
    if not defined(contrasts["inside_minus_outside_number"]["change"]):
        reason = "no boxes, no answer with a word in it, or nothing outside to match"
        return f"Whether the boxed tokens matter more than others is undefined ({reason})."
    clauses, verdicts = [], []
    for name, elsewhere in ELSEWHERE.items():
        words, verdict = _against(contrasts[name]["change"], elsewhere)
        clauses.append(words)
        verdicts.append(verdict)
    return f"Cutting the boxed tokens from all text behind the image {', and '.join(clauses)}: {_because(*verdicts)}."


def _against(change: Mapping[str, Any], elsewhere: str) -> tuple[str, bool | None]:
    """What one contrast says, and whether it shows that the boxed tokens cost more; None where it is undefined."""
    if not defined(change):
        return f"cannot be held against cutting {elsewhere} (no sample has them)", None
    loss = f"{written(_negative(change), 'nats')}, n = {change['n']:,}"
    if too_few(change):
        return f"cannot be held against cutting {elsewhere} ({loss}: too few to say)", None
    if side(change) == -1:
        return f"costs {loss}, more than cutting {elsewhere}", True
    if side(change) == 1:
        return f"costs less than cutting {elsewhere} (a difference of {loss})", False
    return f"is not established to cost more than cutting {elsewhere} ({loss})", False


def _because(more_than_number: bool | None, more_than_mass: bool | None) -> str:
    if not more_than_number:
        return "that what is in the boxes decides the answer is not established"
    if more_than_mass:
        return "the answer rests on what is in the boxes, and not only because the model looks there most"
    reason = "cannot be told" if more_than_mass is None else "is not established"
    return f"the answer rests on what is in the boxes; that it does so beyond their share of the attention {reason}"


def _negative(metric: Mapping[str, Any]) -> dict[str, Any]:
    """The same estimate as a loss."""
    ci = metric["ci"] and [-metric["ci"][1], -metric["ci"][0]]
    return dict(metric) | {"mean": -metric["mean"], "ci": ci}
