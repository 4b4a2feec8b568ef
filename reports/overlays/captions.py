"""What a figure says about a sample in words: question, answers, marks, focus, KL, and what all of it is of."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.overlays.models import Model
from reports.overlays.text import Line, wrapped
from reports.style import MUTED


def mark(row: pd.Series) -> str:
    return "–" if pd.isna(row["correct"]) else ("✓" if row["correct"] else "✗")


def focus(row: pd.Series) -> str:
    return "focus undefined" if pd.isna(row["focus_score"]) else f"focus {100 * row['focus_score']:.1f} %"


def heading(sample: pd.Series, width: float) -> list[Line]:
    """Question, options and reference."""
    lines = [Line(t, bold=True) for t in wrapped(sample["question"], width, 4, bold=True)]
    if len(sample["options"]):
        lines += [Line(t, MUTED) for t in wrapped("options: " + " / ".join(sample["options"]), width, 2)]
    if sample["reference"]:
        lines += [Line(t, MUTED) for t in wrapped(f"reference: {sample['reference']}", width, 3)]
    return lines


def spoken(model: Model, sample: pd.Series, width: float) -> list[Line]:
    """Beside the panels: who answers what, with mark and focus of the own answer, and the KL of the maps."""
    row = model.row(sample)
    if row is None or isinstance(model.map(sample), str):
        return []
    measured = f" · {focus(row)}" if len(sample["boxes"]) else ""
    who = wrapped(f"{model.name} {mark(row)}{measured}", width, 2, bold=True)
    lines = [Line(t, model.color, True) for t in who]
    lines += [Line(t) for t in wrapped(row["answer"] or "(empty answer)", width, 3)]
    if model.compared:
        lines.append(
            Line("KL(teacher ‖ student) " + (f"= {row['kl']:.2f} nats" if pd.notna(row["kl"]) else "undefined"))
        )
    return lines


def caption(model: Model, sample: pd.Series, width: float) -> list[Line]:
    """Below a panel: mark and answer, focus of the own answer, KL of the map from the teacher's."""
    row = model.row(sample)
    if row is None or isinstance(model.map(sample), str):
        return []
    lines = [Line(t) for t in wrapped(f"{mark(row)} {row['answer'] or '(empty answer)'}", width, 3)]
    lines += [Line(focus(row), model.color)] if len(sample["boxes"]) else []
    if model.compared:
        lines.append(Line(f"KL {row['kl']:.2f} nats" if pd.notna(row["kl"]) else "KL undefined", model.color))
    return lines


def explained(models: Sequence[Model], rows: Sequence[pd.Series], scale: str = "one scale a row") -> list[str]:
    """What the maps, the numbers and the colours are of."""
    settings = models[-1].run.info["settings"]
    texts = {"teacher": "all models read on the teacher's answer", "reference": "all models read on the reference"}
    text = texts[settings["text"]] if models[-1].kind == "shared" else "each model on its own answer"
    text = "each model on the question" if settings["rows"] == "question" else text
    boxes = any(len(row["boxes"]) for row in rows)
    focus = "Focus: share of the own answer's map in the box." if boxes else "No reference box: focus is undefined."
    return [f"Attention maps, {text}. {focus}", f"Colour: attention per area, 1 = spread evenly; {scale}."]


def choice(chosen: pd.DataFrame, *, compared: bool) -> str:
    """How the samples of a figure were chosen."""
    if compared:
        return "Samples: largest KL, tasks in turn."
    return "The first samples." if chosen["focus_score"].isna().all() else "Samples: lowest to highest focus."
