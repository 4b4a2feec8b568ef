"""What decides a trace, and what an extraction does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavit.traces.filters import FILTERS, MIN_FOCUS
from lavit.traces.target import TOP_K
from perception_gap.data import Dataset
from perception_gap.errors import UsageError


@dataclass(frozen=True)
class TraceSettings:
    """What decides a trace, beside the teacher and the sample; defaults are the paper's.

    without_boxes: what the alignment filter does with a sample that has none. "drop" by default: nobody checked that
    the teacher looked where the answer is, and that check is what the filter is for.
    """

    filters: tuple[str, ...] = FILTERS
    judge: str | None = None
    text_model: str | None = None
    min_focus: float = MIN_FOCUS
    without_boxes: str = "drop"
    v_sem: str = "mean"
    top_k: int = TOP_K
    layers: str = "all"
    keep_full: bool = False
    instruction: str = ""
    system: str | None = None
    max_new_tokens: int = 32
    load: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """UsageError for a value outside its choices."""
        unknown = [name for name in self.filters if name not in FILTERS]
        if unknown:
            raise UsageError(f"filter {unknown[0]!r}: expected some of {', '.join(FILTERS)}")
        for name, value, choices in (
            ("v_sem", self.v_sem, ("mean", "gaze")),
            ("without_boxes", self.without_boxes, ("drop", "keep")),
        ):
            if value not in choices:
                raise UsageError(f"{name} {value!r}: expected {' or '.join(choices)}")
        if not 0 <= self.min_focus <= 1:
            raise UsageError(f"min_focus {self.min_focus}: expected a share of the map, 0 to 1")
        if self.top_k < 1:
            raise UsageError(f"top_k {self.top_k}: expected at least 1")


@dataclass(frozen=True)
class Extraction:
    """One teacher over one dataset into one folder."""

    model: str
    dataset: Dataset
    out: Path
    settings: TraceSettings
    batch_size: int = 8
    seed: int = 0
    fresh: bool = False
    command: str = ""
