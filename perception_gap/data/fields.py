"""The fields of a sample: their names, which field of the data each is, and what may not be passed over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from perception_gap.data.references import short
from perception_gap.errors import UsageError

FIELDS = ("id", "image", "images", "question", "answer", "boxes", "options", "task", "pair")
_REQUIRED = ("image", "images", "question", "answer")
# What others call our fields, where the spelling alone does not tell.
_SYNONYMS = {
    "id": "question_id sample_id qid",
    "image": "file_name picture",
    "question": "prompt query text instruction",
    "answer": "label target response ground_truth gt",
    "boxes": "regions",
    "options": "choices candidates",
    "task": "category",
}
_ALIASES = {name: ours for ours, names in _SYNONYMS.items() for name in names.split()}
_FRAMES = "only pictures are read; give the frames as images"
# Fields that cannot be passed over without asking another question, and what to do about them.
_MEANINGFUL = {
    "messages": "a chat is not read; give its turn as question and answer, its picture as image",
    "conversations": "this is Visual-CoT's or LLaVA's layout; give the file as viscot:FILE",
    "video": _FRAMES,
    "videos": _FRAMES,
    "audio": "only pictures are read",
    "audios": "only pictures are read",
}
_MOST_LISTED = 20  # names in a message


def renamed(record: Mapping[str, Any], fields: Mapping[str, str], where: str) -> tuple[dict[str, Any], set[str]]:
    """The record under our names, and the names of theirs that were used.

    fields: ours → theirs: a name, a path into it (`answers.0`, `meta.source`), or a text with {NAME} in it. UsageError
    for a required field that is not there; another one stays out.
    """
    mapped: dict[str, Any] = {}
    used: set[str] = set()

    def value(path: str, ours: str) -> Any:
        held, name = _at(path, record)
        if name is None:
            raise UsageError(f"{where}: --field {ours}={fields[ours]}: no field {path!r}: {listed(record)}")
        used.add(name)
        return held

    for ours, theirs in fields.items():
        if _at(theirs, record)[1] is None and re.search(r"[{\s]", theirs):
            parts = re.split(r"\{([^{}]+)\}", theirs)  # every second one is a name
            mapped[ours] = "".join(str(value(part, ours)) if i % 2 else part for i, part in enumerate(parts))
        elif _at(theirs, record)[1] is not None or ours in _REQUIRED:
            mapped[ours] = value(theirs, ours)
    if is_box(mapped.get("boxes")):
        mapped["boxes"] = [mapped["boxes"]]
    gone = used - set(FIELDS) | ({"image", "images"} if {"image", "images"} & set(mapped) else set())
    return {name: value for name, value in record.items() if name not in gone} | mapped, used


def _at(path: str, record: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The value at a path and the field it lies in; None for the field where there is none."""
    if path in record:
        return record[path], path
    value: Any = record
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None, None
    return value, path.split(".")[0]


def untyped(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table's row as JSON Lines have it: null is what is not there, a number counts as its text.

    A picture and an answer that are not there are faults of this row alone, and stay as empty ones.
    """
    fields = {name: value for name, value in row.items() if value is not None}
    fields |= {name: empty for name, empty in (("image", {}), ("answer", "")) if name in row and name not in fields}
    for name in {"answer", "task"} & set(fields):
        fields[name] = _text(fields[name])
    if isinstance(fields.get("options"), list):
        fields["options"] = [_text(option) for option in fields["options"]]
    if isinstance(fields.get("images"), list):
        fields["images"] = [{} if image is None else image for image in fields["images"]]
    if is_box(fields.get("boxes")):
        fields["boxes"] = [fields["boxes"]]
    return fields


def _text(value: Any) -> Any:
    return f"{value:.17g}" if type(value) in (int, float) else value


def is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (4, 5) and all(type(v) in (int, float) for v in value)


def refuse_meaningful(record: Mapping[str, Any], where: str, allowed: Sequence[str] = ()) -> None:
    """UsageError for a field that cannot be passed over without changing what is asked."""
    for name, remedy in _MEANINGFUL.items():
        if name not in allowed and holds(record.get(name)):
            raise UsageError(f"{where}: {name}: {remedy}")


def holds(value: Any) -> bool:
    """Whether a field has something in it."""
    return not (value is None or (isinstance(value, (str, bytes, list, dict)) and not value))


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known field that an unknown one may be meant to be."""
    alias = _ALIASES.get(name.lower())
    if alias in known:
        return alias
    close = [other for other in get_close_matches(name.lower(), known, 1) if other[0] == name[0].lower()]
    return close[0] if close and close[0] != name else None


def listed(names: Iterable[str]) -> str:
    """`expected one of a, b`, for a message."""
    shown = [short(str(name)) for name in names]
    more = "" if len(shown) <= _MOST_LISTED else f" and {len(shown) - _MOST_LISTED} more"
    return f"expected one of {', '.join(shown[:_MOST_LISTED])}{more}"
