"""Samples from COCO's JSON, which RefCOCO and many detection sets share: images, annotations, categories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any

from perception_gap.data.jsonl import parse_samples, shown, text
from perception_gap.data.reading import Reader, Reading
from perception_gap.data.stream import NoListError, stream_entries
from perception_gap.errors import UsageError
from perception_gap.sample import Sample

# What describes the picture or the shape and changes no question.
_OF_IMAGE = ("license", "flickr_url", "coco_url", "date_captured", "width", "height")
_BESIDE = ("segmentation", "area", "iscrowd", "image_id", "category_id", "category", "file_name")


def read_coco(path: Path, *, limit: int | None = None, reading: Reading | None = None) -> list[Sample]:
    """The first `limit` samples of a COCO file, in the order of its annotations.

    An annotation has its own fields, those of its image, and `category`, the name of its own; annotations of one
    picture with the same question and answer are one sample with several boxes. Boxes are `bbox` (x, y, width, height
    in pixels). The question is `question` or what `--field question=..` names (RefCOCO's `caption`, say), the answer
    `answer` or else the category. Annotations are streamed; what is held is the list of images. UsageError for what
    is malformed, with the annotation's number.
    """
    reader = Reader(str(path), path.parent, reading, typed=True, usual="xywh", beside=_BESIDE)
    return _merged(parse_samples(_annotations(path), reader, entry="annotation"), limit)


def _merged(samples: Iterator[Sample], limit: int | None) -> list[Sample]:
    """Samples that ask the same of the same picture as one, with the boxes of all; then the first `limit`."""
    by_question: dict[tuple[object, ...], list[Sample]] = {}
    for sample in samples:
        by_question.setdefault((sample.images, sample.question, sample.answer, sample.options), []).append(sample)
    return [
        replace(
            same[0],
            boxes=tuple(box for sample in same for box in sample.boxes),
            box_images=tuple(image for sample in same for image in sample.box_images),
        )
        for same in islice(by_question.values(), limit)
    ]


def _by_id(path: Path, field: str) -> dict[Any, dict[str, Any]]:
    """id → entry of one of the file's lists; UsageError for an id that is none, or that comes twice."""
    entries: dict[Any, dict[str, Any]] = {}
    for entry in stream_entries(path, field):
        key = entry.value.get("id")
        if type(key) not in (int, str) or key in entries:
            raise UsageError(f"{path}: {field} {entry.number}: id {shown(key)}: expected a number or a text of its own")
        entries[key] = {name: value for name, value in entry.value.items() if name not in _OF_IMAGE}
    return entries


def _annotations(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, fields) of each annotation, with those of its image and the name of its category."""
    images, categories = _by_id(path, "images"), _categories(path)
    for entry in stream_entries(path, "annotations"):
        annotation, where = entry.value, f"{path}: annotation {entry.number}"
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if type(image) not in (int, str) or image not in images:
            raise UsageError(f"{where}: image_id {shown(image)}: expected the id of one of the {len(images)} images")
        if type(category) not in (int, str, NoneType) or (categories and category not in (None, *categories)):
            raise UsageError(
                f"{where}: category_id {shown(category)}: expected the id of one of the {len(categories)} categories"
            )
        fields = images[image] | {k: v for k, v in annotation.items() if v is not None}
        fields["image"] = images[image].get("file_name")
        fields["id"] = annotation.get("id")
        if annotation.get("bbox"):
            fields["boxes"] = fields.pop("bbox")
        elif fields.get("segmentation"):  # a shape alone says where to look, and is not read
            fields["segmentation without bbox"] = fields.pop("segmentation")
        if category in categories:
            fields = {"answer": categories[category]} | fields | {"category": categories[category]}
        yield entry.number, fields


def _categories(path: Path) -> dict[Any, str]:
    """id → name; none where the file has no categories."""
    try:
        categories = _by_id(path, "categories")
    except NoListError:
        return {}
    return {key: text(entry, "name", f"{path}: category {shown(key)}") for key, entry in categories.items()}
