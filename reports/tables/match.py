"""Which published row a model of ours stands for: as the user says, else by its hub id, its preset or its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from benchmarks import published
from benchmarks.published.entries import pick
from perception_gap.errors import UsageError

PAPER = "lavit"
# Presets of an ablation matrix, and embedded models (tiny:NAME), by the row whose training theirs repeats.
SAME = {
    "paper": "LaViT 3B",
    "lavit": "LaViT 3B",
    "naive-sft": "Naive SFT 3B",
    "sft": "Naive SFT 3B",
    "no-trajectory": "w/o Trajectory Alignment",
    "no-semantic": "w/o Semantic Reconstruction",
    "hard-gate": "w/o Curriculum Sensory Gating",
    "single-stage": "Single Stage Training",
}
MASKED = {"LaViT 3B": "w/o Latent Tokens"}  # the row of the same model with its latents masked


def title(row: published.Row) -> str:
    """How the paper prints the row's label: the variant alone, where there is one."""
    return row.variant or row.name


def group(row: published.Row) -> str:
    """The paper's group of a row; what is "ours" there is not ours here."""
    return "the paper's model" if row.group == "ours" else row.group


def chosen_rows(rows: Mapping[str, str], known: Iterable[Iterable[str]], tables: Iterable[str]) -> dict[str, str]:
    """`rows` with full names of published rows. UsageError with near matches for an unknown model or row.

    known: the names of each model. A row counts when any of the tables has it, so that one mapping serves all.
    """
    models = {name: name for names in known for name in sorted(names)}
    paper = published.load(PAPER)
    every = {name: row.name for table in tables for row in paper.table(table).rows for name in (row.name, title(row))}
    full = {}
    for model, row in rows.items():
        try:
            full[pick(model, models, "model of these runs")] = pick(row, every, "published row")
        except UsageError as error:
            raise UsageError(f"--row {model}={row}: {error}") from None
    return full


def given_row(names: Iterable[str], chosen: Mapping[str, str]) -> str | None:
    """The row that `chosen_rows` has for a model of these names, None for none."""
    return next((chosen[name] for name in sorted(names) if name in chosen), None)


def row_of(name: str, latents: str, table: published.Table) -> str | None:
    """The row of the table that a model repeats, None for none. latents: how they were treated (`force`: as trained).

    Hub ids match a row of the same model and size (Qwen/Qwen2.5-VL-3B-Instruct); other treatments of the latent tokens
    than masking have no published row.
    """
    names = {title(row): row.name for row in table.rows}
    own_title = SAME.get(name.removeprefix("tiny:")) or next(
        (title(row) for row in table.rows if _plain(title(row)) == _plain(name)), None
    )
    if latents == "mask":
        own_title = MASKED.get(own_title or "")
    return names.get(own_title or "") if latents in ("force", "mask") else None


def _plain(name: str) -> str:
    """`qwen25vl3b` of a hub id, of an API's model_version and of the paper's spelling."""
    last = re.sub(r"^lmms-eval:.*model_version=([^,]+).*$", r"\1", name).rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9]|instruct$", "", last.lower())
