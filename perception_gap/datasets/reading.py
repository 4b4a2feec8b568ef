"""How one data set is read: what its boxes are, which field is which, where its pictures lie, what is passed over."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from perception_gap.datasets.references import locate, placeholder, short
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.sample import Sample

UNITS = ("pixels", "fractions", "thousandths", "xywh")
FIELDS = ("id", "image", "images", "question", "answer", "boxes", "options", "task", "pair")
REQUIRED = ("image", "images", "question", "answer")
# What others call our fields, where the spelling alone does not tell.
ALIASES = {
    "prompt": "question", "query": "question", "text": "question", "instruction": "question", "label": "answer",
    "target": "answer", "response": "answer", "ground_truth": "answer", "gt": "answer", "choices": "options",
    "candidates": "options", "category": "task", "regions": "boxes", "file_name": "image", "picture": "image",
}  # fmt: skip
_FRAMES = "only pictures are read; give the frames as images"
# Fields that cannot be passed over without asking another question, and what to do about them.
MEANINGFUL = {
    "messages": "a chat is not read; give its turn as question and answer, its picture as image",
    "conversations": "this is Visual-CoT's or LLaVA's layout; give the file as viscot:FILE",
    "video": _FRAMES, "videos": _FRAMES, "audio": "only pictures are read", "audios": "only pictures are read",
}  # fmt: skip
_MOST_NAMED = 8  # fields in the line about those passed over


@dataclass(frozen=True)
class Reading:
    """What the user says of a data set.

    boxes: what the numbers of its boxes are, one of UNITS; None: what the format says. fields: for a field of ours
    the name of theirs, or a text in which {NAME} stands for theirs.
    """

    boxes: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.boxes is not None and self.boxes not in UNITS:
            raise UsageError(f"--boxes {self.boxes}: expected one of {', '.join(UNITS)}")
        for name in self.fields:
            if name not in FIELDS:
                raise UsageError(f"--field {name}=..: expected one of {', '.join(FIELDS)} before the =")

    def said(self) -> dict[str, Any]:
        """What of it is not the default, for a run's description."""
        return ({"boxes": self.boxes} if self.boxes else {}) | ({"fields": dict(self.fields)} if self.fields else {})


class Reader:
    """One pass over the records of `name`: finds their pictures, maps their fields, and counts what is odd.

    root: the folder that paths of pictures are relative to. pictures: the folder for those that come inside the data;
    None refuses them. typed: the records are rows of a table, in which null stands for what is not there, and a number
    may stand for its text. usual: what the numbers of a box are where the user says nothing, one of UNITS. beside:
    fields of the format that are not read and not named as unknown.
    """

    def __init__(
        self, name: str, root: Path, pictures: Path | None = None, reading: Reading | None = None, *,
        typed: bool = False, usual: str = "pixels", beside: Sequence[str] = (),
    ):  # fmt: skip
        self.name, self.root, self.pictures, self.reading = name, root, pictures, reading or Reading()
        self.typed, self.usual, self.beside = typed, usual, beside
        self._samples, self._boxes, self._unlike = 0, 0, 0
        self._first = ""
        self._passed: Counter[str] = Counter()
        self._missing = dict(self.reading.fields)
        self._fields: dict[str, None] = {}
        self._filled_in: set[str] = set()

    def renamed(self, record: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The record under our names; UsageError for what changes its meaning, and a required field that is missing."""
        mapped: dict[str, Any] = {}
        for ours, theirs in self.reading.fields.items():
            if theirs in record:
                mapped[ours] = record[theirs]
            elif re.search(r"[{\s]", theirs):
                mapped[ours] = self._filled(theirs, record, where, ours)
            elif ours in REQUIRED:
                raise UsageError(f"{where}: --field {ours}={theirs}: no field {theirs!r}; {_listed(record)}")
            else:
                continue
            self._missing.pop(ours, None)
        if _is_box(mapped.get("boxes")):
            mapped["boxes"] = [mapped["boxes"]]
        gone = set(self.reading.fields.values()) | ({"image", "images"} if {"image", "images"} & set(mapped) else set())
        found = {name: value for name, value in record.items() if name not in gone} | mapped
        if self.typed:
            found = _untyped(found)
        self._fields |= dict.fromkeys(record)
        refuse_meaningful(found, where)
        for name in ("question", "answer"):
            if name not in found:
                raise UsageError(f"{where}: no {name}: {_listed(record)} as --field {name}=NAME")
        return found

    def _filled(self, pattern: str, record: Mapping[str, Any], where: str, ours: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in record:
                raise UsageError(f"{where}: --field {ours}={pattern}: no field {match[1]!r}; {_listed(record)}")
            self._filled_in.add(match[1])
            return str(record[match[1]])

        return re.sub(r"\{([^{}]+)\}", value, pattern)

    def images(self, references: Sequence[Any]) -> tuple[tuple[Path, ...], str | None]:
        """A path for each reference (see `locate`), and why one has none."""
        paths, fault = [], None
        for reference in references:
            try:
                paths.append(locate(reference, self.root, self.pictures))
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
            if name not in known and name not in self.beside and name not in self._filled_in and _holds(record[name]):
                self._passed[name] += 1
        for box in sample.boxes:
            self._boxes += 1
            if _unlike(box, sample.fractions):
                self._unlike += 1
                if not self._first:
                    kind = f"are no {self.unit('fractions')}" if sample.fractions else "lie within one pixel"
                    shown = ", ".join(f"{v:g}" for v in box)
                    self._first = f"{kind}, the first [{shown}] of sample {short(sample.id)}"

    def finish(self, known: Sequence[str] = FIELDS) -> None:
        """One line on stderr about what was passed over.

        UsageError where most boxes are of another unit, and for a `--field` that no record had.
        """
        for ours, theirs in self._missing.items():
            if self._samples:
                raise UsageError(f"{self.name}: --field {ours}={theirs}: no field {theirs!r}; {_listed(self._fields)}")
        if 2 * self._unlike > self._boxes:
            raise UsageError(
                f"{self.name}: {self._unlike} of {self._boxes} boxes {self._first}: say what their numbers are with "
                f"--boxes {'|'.join(UNITS)}"
            )
        if self._passed:
            print(f"note: {self.name}: {self._told(known)}", file=sys.stderr)

    def _told(self, known: Sequence[str]) -> str:
        listed = []
        for name, n in self._passed.most_common(_MOST_NAMED):
            near = [other for other in get_close_matches(name.lower(), known, 1) if other[0] == name[:1].lower()]
            guess = ALIASES.get(name.lower()) or next(iter(near), None)
            ask = f": did you mean {guess}?" if guess in known and guess != name else ""
            listed.append(f"{short(name)} (in {n} of {self._samples}{ask})")
        more = len(self._passed) - len(listed)
        return f"passed over unknown fields {', '.join(listed)}{f' and {more} more' if more else ''}"


def refuse_meaningful(record: Mapping[str, Any], where: str, allowed: Sequence[str] = ()) -> None:
    """UsageError for a field that cannot be passed over without changing what is asked."""
    for name, remedy in MEANINGFUL.items():
        if name not in allowed and _holds(record.get(name)):
            raise UsageError(f"{where}: {name}: {remedy}")


def _listed(record: Iterable[str]) -> str:
    names = [short(str(name)) for name in record]
    more = "" if len(names) <= 20 else f" and {len(names) - 20} more"
    return f"expected one of {', '.join(names[:20])}{more}"


def _holds(value: Any) -> bool:
    return not (value is None or (isinstance(value, (str, bytes, list, dict)) and not value))


def _untyped(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table's row as JSON Lines have it; a picture and an answer that are not there are faults of this row alone."""
    found = {name: value for name, value in row.items() if value is not None}
    found |= {name: empty for name, empty in (("image", {}), ("answer", "")) if name in row and name not in found}
    for name in ("answer", "task", "options", "images"):
        values = found.get(name)
        if name != "images" and type(values) in (int, float):
            found[name] = f"{values:.17g}"
        elif isinstance(values, list):
            found[name] = [({} if name == "images" else "") if v is None else v for v in values]
            if name == "options":
                found[name] = [f"{v:.17g}" if type(v) in (int, float) else v for v in found[name]]
    if _is_box(found.get("boxes")):
        found["boxes"] = [found["boxes"]]
    return found


def _is_box(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) in (4, 5) and all(type(v) in (int, float) for v in value)


def _unlike(box: tuple[float, float, float, float], fractions: bool) -> bool:
    """Whether the numbers cannot be pixels (or fractions): they lie within one pixel (or far outside of the picture).

    A box without area is another fault; [0, 0, 1, 1] alone does not tell, and `check_boxes` refuses it as pixels.
    """
    x0, y0, x1, y1 = box
    if fractions:
        return max(box) > 1.5 or (max(box) <= 2e-3 and x1 > x0 and y1 > y0)
    return min(box) >= 0 and max(box) <= 1 and x1 > x0 and y1 > y0 and box != (0, 0, 1, 1)
