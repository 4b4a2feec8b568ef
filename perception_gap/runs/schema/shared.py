"""What the JSON files of several commands hold alike: estimates, and which data."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from perception_gap.storage.intact import Document, Interval, Number, Text, Whole

# A key that may be missing, but is no null: what stands for it where it is.
ABSENT: Any = Field(default=None)


class Estimate(Document):
    mean: Number | None
    ci: Interval | None
    n: Whole


class SpreadOfTask(Document):
    mean: Estimate
    std: Estimate
    cv: Estimate
    min: Estimate
    max: Estimate


class Spread(Estimate):
    std: Number | None
    cv: Number | None
    by_task: dict[str, SpreadOfTask]


class Data(Document):
    spec: Text
    hash: Text
    n: Whole
    root: Text | None = None


class AgainstFloor(Document):
    value: Estimate
    floor: Estimate
    difference: Estimate


class ThresholdPoint(Document):
    """Accuracy of the answers whose focus reaches a threshold, with its 95 % interval; fractions."""

    threshold: Number
    accuracy: Number
    low: Number | None
    high: Number | None
    n: Whole
