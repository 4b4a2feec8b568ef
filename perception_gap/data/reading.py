"""How one data set is read: what its boxes are, which field is which, where its pictures lie, what is passed over."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perception_gap.data.fields import FIELDS, holds, listed, nearest, refuse_meaningful, renamed, untyped
from perception_gap.data.references import locate, placeholder, short
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.sample import UNITS, Sample

_MOST_NAMED = 8  # fields in the line about those passed over


@dataclass(frozen=True)
class Reading:
    """What the user says of a data set.

    boxes: what the numbers of its boxes are, one of UNITS; None: what the format says. fields: for a field of ours
    what it is in the data (see `fields.renamed`). image_root: the folder that paths of pictures are relative to, None
    for that of the data. pictures: the folder for those that come inside the data; None refuses them.
    """

    boxes: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    image_root: Path | None = None
    pictures: Path | None = None

    def __post_init__(self) -> None:
        if self.boxes is not None and self.boxes not in UNITS:
            raise UsageError(f"--boxes {self.boxes}: expected one of {', '.join(UNITS)}")
        for name in self.fields:
            if name not in FIELDS:
                raise UsageError(f"--field {name}=..: {listed(FIELDS)} before the =")

    def description(self) -> dict[str, Any]:
        """What of it is not the default, for a run's description."""
        return ({"boxes": self.boxes} if self.boxes else {}) | ({"fields": dict(self.fields)} if self.fields else {})


class Reader:
    """One pass over the records of `name`: finds their pictures, maps their fields, and counts what is odd.

    root: the folder that paths of pictures are relative to where the user says nothing. typed: the records are rows of
    a table (see `fields.untyped`). usual: what the numbers of a box are where the user says nothing, one of UNITS.
    beside: fields of the format that are not read and not unknown.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        reading: Reading | None = None,
        *,
        typed: bool = False,
        usual: str = "pixels",
        beside: Sequence[str] = (),
    ):
        self.name, self.reading = name, reading or Reading()
        self.root = self.reading.image_root or root
        self.typed, self.usual, self.beside = typed, usual, beside
        self._samples, self._boxes, self._unlike = 0, 0, 0
        self._first_unlike = ""
        self._passed: Counter[str] = Counter()
        self._used: set[str] = set()
        self._taken: set[str] = set()

    def fields(self, record: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The record under our names; UsageError for what changes its meaning, and a required field that is missing."""
        fields, used = renamed(record, self.reading.fields, where)
        self._used |= used
        self._taken |= self.reading.fields.keys() & fields.keys()
        if self.typed:
            fields = untyped(fields)
        refuse_meaningful(fields, where)
        for name in ("question", "answer"):
            if name not in fields:
                raise UsageError(f"{where}: no {name}: {listed(record)} as --field {name}=NAME")
        return fields

    def images(self, references: Sequence[Any]) -> tuple[tuple[Path, ...], str | None]:
        """A path for each reference (see `locate`), and why one has none."""
        paths, fault = [], None
        for reference in references:
            try:
                paths.append(locate(reference, self.root, self.reading.pictures))
            except GapcheckError as error:
                paths.append(placeholder(reference, self.root))
                fault = fault or str(error)
        return tuple(paths), fault

    def unit(self, usual: str = "") -> str:
        """What a box's numbers are; `usual`: of the record's own layout."""
        return self.reading.boxes or usual or self.usual

    def watch(self, record: Mapping[str, Any], known: Sequence[str], sample: Sample) -> None:
        """Count the fields that are passed over, and the boxes whose numbers cannot be what they are said to be."""
        self._samples += 1
        for name in record:
            if name not in known and name not in self.beside and name not in self._used and holds(record[name]):
                self._passed[name] += 1
        for box in sample.boxes:
            self._boxes += 1
            if _unlike(box, sample.fractions):
                self._unlike += 1
                if not self._first_unlike:
                    kind = f"are no {self.unit('fractions')}" if sample.fractions else "lie within one pixel"
                    shown = ", ".join(f"{v:g}" for v in box)
                    self._first_unlike = f"{kind}, the first [{shown}] of sample {short(sample.id)}"

    def finish(self, known: Sequence[str] = FIELDS) -> None:
        """One line on stderr about what was passed over.

        UsageError where most boxes are of another unit, and for a `--field` that no record had.
        """
        for ours, theirs in self.reading.fields.items():
            if self._samples and ours not in self._taken:
                raise UsageError(f"{self.name}: --field {ours}={theirs}: no field {theirs!r}: {listed(self._passed)}")
        if 2 * self._unlike > self._boxes:
            raise UsageError(
                f"{self.name}: {self._unlike} of {self._boxes} boxes {self._first_unlike}: say what their numbers are "
                f"with --boxes {'|'.join(UNITS)}"
            )
        if self._passed:
            print(f"note: {self.name}: {self._passed_over(known)}", file=sys.stderr)

    def _passed_over(self, known: Sequence[str]) -> str:
        named = []
        for name, n in self._passed.most_common(_MOST_NAMED):
            guess = nearest(name, known)
            named.append(
                f"{short(name) or repr(name)} (in {n} of {self._samples}{f': did you mean {guess}?' if guess else ''})"
            )
        more = len(self._passed) - len(named)
        return f"passed over unknown fields {', '.join(named)}{f' and {more} more' if more else ''}"


def _unlike(box: tuple[float, float, float, float], fractions: bool) -> bool:
    """Whether the numbers cannot be pixels (or fractions): they lie within one pixel (or far outside of the picture).

    A box without area is another fault; [0, 0, 1, 1] alone does not tell, and `check_boxes` refuses it as pixels.
    """
    x0, y0, x1, y1 = box
    if fractions:
        return max(box) > 1.5 or (max(box) <= 2e-3 and x1 > x0 and y1 > y0)
    return min(box) >= 0 and max(box) <= 1 and x1 > x0 and y1 > y0 and box != (0, 0, 1, 1)
