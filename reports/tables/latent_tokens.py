"""Table A2, number of latent tokens by training steps: which of ours it is about, and where they stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks import published
from reports.sources import Matrix
from reports.tables.own import Own

# Presets that differ in the number of latent tokens alone, and what the table prints for reference.
LATENTS = {"paper": 4, "ours": 4, "k6": 6, "k8": 8}
REFERENCES = ("naive-sft", "student")


def chosen(owns: Sequence[Own]) -> tuple[list[Own], list[str]]:
    """Models of benchmarks, and of matrices those that the table is about, with K and steps in their labels."""
    kept, left = [], []
    for own in owns:
        if not isinstance(own.source, Matrix):
            kept.append(own)
        elif own.name in LATENTS and not own.hidden:
            kept.append(_labelled(own))
        elif own.name in REFERENCES:
            kept.append(own)
        else:
            left.append(own.label)
    note = f"presets that differ in more than latent tokens and steps are not shown: {', '.join(left)}"
    return kept, [note] if left else []


def settings(own: Own) -> tuple[int, int | None] | None:
    """(latent tokens, steps) of a matrix's preset, by its train.json; steps None where only the CSV is there."""
    if not isinstance(own.source, Matrix) or own.name not in LATENTS:
        return None
    pairs = {
        (training.info["settings"]["n_latents"], training.info["settings"]["steps"])
        for training in own.source.trainings()
        if training.info["preset"] == own.name
    }
    return pairs.pop() if len(pairs) == 1 else (LATENTS[own.name], None)


def _labelled(own: Own) -> Own:
    trained = settings(own)
    assert trained is not None
    latents, steps = trained
    label = f"{own.label} (K = {latents}, {'steps unknown' if steps is None else f'{steps} steps'})"
    return replace(own, label=label, names=own.names | {label})


def row_of(own: Own, printed: published.Table) -> str | None:
    """The published row of as many latent tokens and steps."""
    trained = settings(own)
    for row in printed.rows:
        if trained and (row.settings.get("num_latent_tokens"), row.settings.get("total_steps")) == trained:
            return row.name
    return None


def group(own: Own, printed: published.Table) -> str | None:
    """The group of the table that has as many latent tokens, for what has no row of its steps."""
    trained = settings(own) if printed.id == "tableA2" else None
    groups = {row.settings.get("num_latent_tokens"): row.group for row in printed.rows if row.settings}
    return groups.get(trained[0]) if trained else None
