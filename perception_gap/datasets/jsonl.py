"""Samples from JSON Lines: one object a line, checked field by field before any model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perception_gap.errors import UsageError
from perception_gap.sample import LETTERS, Sample

Boxes = tuple[tuple[float, float, float, float], ...]


def read_jsonl(path: Path, *, limit: int | None = None, image_root: Path | None = None) -> list[Sample]:
    """The first `limit` samples (None: all) of a JSON Lines file; images are relative to its folder or `image_root`.

    Fields: `id` (default: the line's number), `image` or `images`, `question`, `answer`, `boxes` (lists of x0, y0,
    x1, y1 in pixels of the original image, and the image's index where there are several), `options`, `task`, `pair`;
    others are ignored. UsageError with FILE:LINE for what is malformed, an empty line and an id given twice.
    """
    root = image_root or path.parent
    samples: list[Sample] = []
    lines_of: dict[str, int] = {}
    for number, record in _records(path):
        where = f"{path}:{number}"
        sample = parse_sample(record, where=where, default_id=str(number), root=root)
        if sample.id in lines_of:
            first = lines_of[sample.id]
            raise UsageError(f"{where}: id {sample.id!r} is already that of line {first}: expected each id once")
        lines_of[sample.id] = number
        samples.append(sample)
        if len(samples) == limit:
            break
    return samples


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    raise UsageError(f"{path}:{number}: empty line: expected one JSON object a line; remove the line")
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, endless nesting
                    place = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:80]
                    raise UsageError(
                        f"{path}:{number}: not valid JSON ({reason}{place}): expected one JSON object a line"
                    ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def parse_sample(record: Any, *, where: str, default_id: str, root: Path) -> Sample:
    """One record as a Sample; `where` (file and line) opens every message. UsageError for a wrong or missing field."""
    if not isinstance(record, dict):
        raise UsageError(f"{where}: {shown(record)}: expected a JSON object with image, question and answer")
    if ("image" in record) == ("images" in record):
        raise UsageError(f"{where}: expected either image (a path) or images (a list of paths), and not both")
    images = texts(record, "images", where) if "images" in record else (text(record, "image", where),)
    if not images:
        raise UsageError(f"{where}: images is empty: expected at least one path")
    boxes, box_images = parse_boxes(record.get("boxes") or [], where=where, n_images=len(images))
    options = texts(record, "options", where) if record.get("options") is not None else ()
    if len(options) > len(LETTERS):
        raise UsageError(f"{where}: {len(options)} options: expected at most {len(LETTERS)}, one for each letter")
    return Sample(
        id=_name(record, "id", where) or default_id,
        images=tuple(root / image for image in images),
        question=text(record, "question", where),
        answer=text(record, "answer", where),
        boxes=boxes,
        box_images=box_images,
        options=options,
        task=text(record, "task", where) if record.get("task") is not None else "default",
        pair=_name(record, "pair", where),
    )


def parse_boxes(value: Any, *, where: str, n_images: int) -> tuple[Boxes, tuple[int, ...]]:
    """Boxes and the image index of each (0 where none is given); only their form is checked, the pixels come later."""
    if not isinstance(value, list):
        raise UsageError(f"{where}: boxes is {shown(value)}: expected a list of [x0, y0, x1, y1]")
    for box in value:
        numbers = isinstance(box, list) and all(type(v) in (int, float) and abs(v) < 1e9 for v in box)
        if not numbers or len(box) not in (4, 5):
            raise UsageError(f"{where}: box {shown(box)}: expected [x0, y0, x1, y1] in pixels, then the image's index")
        if len(box) == 5 and box[4] not in range(n_images):
            raise UsageError(f"{where}: box {shown(box)}: image index {box[4]:g}: expected 0 to {n_images - 1}")
    boxes = tuple((float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in value)
    return boxes, tuple(int(b[4]) if len(b) == 5 else 0 for b in value)


def text(record: dict, field: str, where: str) -> str:
    """A field that must be a text with something in it."""
    if field not in record:
        raise UsageError(f"{where}: no {field}: expected image (or images), question and answer")
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {field} is {shown(value)}: expected a text that is not empty")
    return _sound(value, field, where)


def texts(record: dict, field: str, where: str) -> tuple[str, ...]:
    """A field that must be a list of texts."""
    value = record[field]
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        raise UsageError(f"{where}: {field} is {shown(value)}: expected a list of texts")
    return tuple(_sound(v, field, where) for v in value)


def _sound(value: str, field: str, where: str) -> str:
    """Neither NUL nor half a character: no file system, tokenizer or table takes them."""
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise UsageError(f"{where}: {field} is {ascii(value)[:60]}: expected text without NUL and lone surrogates")
    return value


def _name(record: dict, field: str, where: str) -> str | None:
    value = record.get(field)
    if value is not None and (type(value) not in (str, int) or value == ""):
        raise UsageError(f"{where}: {field} is {shown(value)}: expected a text or a whole number")
    return None if value is None else _sound(str(value), field, where)


def shown(value: Any) -> str:
    """A JSON value, short enough for one line."""
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 60 else written[:57] + "..."
