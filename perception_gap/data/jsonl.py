"""Samples from JSON Lines: one object a line, checked field by field before any model is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from perception_gap.data.fields import FIELDS
from perception_gap.data.reading import Reader, Reading
from perception_gap.data.references import short
from perception_gap.data.stream import once
from perception_gap.errors import UsageError
from perception_gap.sample import LETTERS, Sample

Boxes = tuple[tuple[float, float, float, float], ...]


# Where a prompt of a published layout has its picture: our prompts place it themselves.
_PLACE = re.compile(
    r"[ \t]*(<image>|<\|image\|>|<start_of_image>|<image_placeholder>|<ImageHere>|<\|vision_start\|>|<\|image_pad\|>"
    r"|<\|vision_end\|>)"
)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)|</?lvr\d*>|<\|lvr\w*\|>", re.DOTALL | re.IGNORECASE)
_LONGEST_NAME = 1000  # characters of an id, which messages repeat
NO_ANSWER = "the answer is empty: there is nothing to hold the model's against; give the sample one"


def read_jsonl(path: Path, *, limit: int | None = None, reading: Reading | None = None) -> list[Sample]:
    """The first `limit` samples (None: all) of a JSON Lines file; images are relative to its folder.

    Fields: `id` (default: the line's number), `image` or `images`, `question`, `answer`, `boxes` (lists of x0, y0,
    x1, y1 in pixels of the original image, and the image's index where there are several), `options`, `task`, `pair`;
    others are named on stderr. UsageError with FILE:LINE for what is malformed, an empty line and an id given twice.
    reading: what the user says of it.
    """
    reader = Reader(str(path), path.parent, reading)
    return list(parse_samples(_records(path), reader, limit))


def parse_samples(
    records: Iterable[tuple[int, Any]], reader: Reader, limit: int | None = None, entry: str = "line"
) -> Iterator[Sample]:
    """The first `limit` samples of (number, record); UsageError for a malformed record and an id that comes twice."""
    numbers: dict[str, int] = {}
    for number, record in islice(records, limit):
        where = f"{reader.name}:{number}" if entry == "line" else f"{reader.name}: {entry} {number}"
        if not isinstance(record, dict):
            raise UsageError(
                f"{where}: {shown(record)}: expected a JSON object with image, question and answer, one a line"
            )
        fields = reader.fields(record, where)
        sample = parse_sample(fields, where=where, default_id=str(number), reader=reader)
        if sample.id in numbers:
            first = f"{entry} {numbers[sample.id]}"
            raise UsageError(f"{where}: id {short(sample.id)!r} is already that of {first}: expected each id once")
        numbers[sample.id] = number
        reader.watch(fields, FIELDS, sample)
        yield sample
    reader.finish()


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    raise UsageError(f"{path}:{number}: empty line: expected one JSON object a line; remove the line")
                try:
                    yield number, json.loads(line, object_pairs_hook=once)
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


def parse_sample(record: dict[str, Any], *, where: str, default_id: str, reader: Reader) -> Sample:
    """One record as a Sample; `where` (file and line) opens every message.

    UsageError for a wrong or missing field. A picture that has no path and an empty answer are the sample's fault.
    """
    if ("image" in record) == ("images" in record):
        raise UsageError(f"{where}: expected either image (a path) or images (a list of paths), and not both")
    images, fault = reader.images(_references(record, where))
    unit = reader.unit()
    boxes, box_images = parse_boxes(record.get("boxes"), where=where, n_images=len(images), unit=unit)
    options = texts(record, "options", where) if record.get("options") is not None else ()
    if len(options) > len(LETTERS):
        raise UsageError(f"{where}: {len(options)} options: expected at most {len(LETTERS)}, one for each letter")
    answer = reference(record, "answer", where)
    return Sample(
        id=_name(record, "id", where) or default_id,
        images=images,
        question=question(record, "question", where),
        answer=answer,
        boxes=boxes,
        box_images=box_images,
        options=options,
        task=text(record, "task", where) if record.get("task") is not None else "default",
        pair=_name(record, "pair", where),
        fractions=bool(boxes) and unit in ("fractions", "thousandths"),
        fault=fault or (None if answer else NO_ANSWER),
    )


def _references(record: dict[str, Any], where: str) -> list[Any]:
    """What stands for the pictures: texts, or what `locate` takes beside them."""
    if "image" in record:
        return [record["image"] if _inside(record["image"]) else text(record, "image", where)]
    values: Any = record["images"]
    if values == []:
        raise UsageError(f"{where}: images is empty: expected at least one path")
    written = [value for value in values if not _inside(value)] if isinstance(values, list) else values
    texts({"images": written}, "images", where)
    return list(values)


def _inside(value: Any) -> bool:
    return isinstance(value, (dict, bytes))


def parse_boxes(value: Any, *, where: str, n_images: int, unit: str = "pixels") -> tuple[Boxes, tuple[int, ...]]:
    """Boxes, xyxy in pixels, and the image index of each (0 where none is given); the pixels are checked later.

    unit: of the value (see `Reading`); fractions and thousandths come out in fractions. None is no box.
    """
    if not isinstance(value, list | None):
        raise UsageError(f"{where}: boxes is {shown(value)}: expected a list of [x0, y0, x1, y1]")
    boxes, images = [], []
    for box in value or []:
        numbers = isinstance(box, list) and all(type(v) in (int, float) and abs(v) < 1e9 for v in box)
        if not numbers or len(box) not in (4, 5):
            layout = "[x, y, width, height]" if unit == "xywh" else "[x0, y0, x1, y1]"
            inside = "pixels" if unit == "xywh" else unit
            raise UsageError(f"{where}: box {shown(box)}: expected {layout} in {inside}, then the image's index")
        if len(box) == 5 and box[4] not in range(n_images):
            raise UsageError(f"{where}: box {shown(box)}: image index {box[4]:g}: expected 0 to {n_images - 1}")
        x0, y0, x1, y1 = (float(v) / (1000 if unit == "thousandths" else 1) for v in box[:4])
        boxes.append((x0, y0, x0 + x1, y0 + y1) if unit == "xywh" else (x0, y0, x1, y1))
        images.append(int(box[4]) if len(box) == 5 else 0)
    return tuple(boxes), tuple(images)


def question(record: dict[str, Any], field: str, where: str) -> str:
    """The question without the marks that say where a picture stands in it."""
    plain, marks = _PLACE.subn("", text(record, field, where))
    return text({field: plain.strip()}, field, where) if marks else plain


def reference(record: dict[str, Any], field: str, where: str) -> str:
    """The answer without the tags of published layouts; "" where it is empty."""
    if isinstance(record.get(field), str) and not record[field].strip():
        return ""
    written = _THOUGHT.sub("", text(record, field, where))
    answers = _ANSWER.findall(written)
    return (answers[-1] if answers else written).strip()


def text(record: dict[str, Any], field: str, where: str) -> str:
    """A field that must be a text with something in it."""
    if field not in record:
        raise UsageError(f"{where}: no {field}: expected image (or images), question and answer")
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {field} is {shown(value)}: expected a text that is not empty")
    return _sound(value, field, where)


def texts(record: dict[str, Any], field: str, where: str) -> tuple[str, ...]:
    """A field that must be a list of texts."""
    value = record[field]
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        raise UsageError(f"{where}: {field} is {shown(value)}: expected a list of texts")
    return tuple(_sound(v, field, where) for v in value)


def _sound(value: str, field: str, where: str) -> str:
    """Neither NUL nor half a character: no file system, tokenizer or table takes them."""
    if re.search("[\0\ud800-\udfff]", value):
        raise UsageError(f"{where}: {field} is {ascii(value)[:60]}: expected text without NUL and lone surrogates")
    return value


def _name(record: dict[str, Any], field: str, where: str) -> str | None:
    value = record.get(field)
    if value is not None and (type(value) not in (str, int) or value == ""):
        raise UsageError(f"{where}: {field} is {shown(value)}: expected a text or a whole number")
    if len(str(value)) > _LONGEST_NAME:
        raise UsageError(f"{where}: {field} is {shown(value)}: expected at most {_LONGEST_NAME} characters")
    return None if value is None else _sound(str(value), field, where)


def shown(value: Any) -> str:
    """A JSON value, short enough for one line."""
    return short(json.dumps(value, ensure_ascii=False, default=repr))
