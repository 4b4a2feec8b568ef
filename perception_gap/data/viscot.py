"""Visual-CoT's own JSON (Shao et al., arXiv 2403.16999) in both layouts in which its authors publish it, and LVR's.

Training file and benchmark: `{"dataset", "question_id", "image": ["cot/gqa/1.jpg", "cot/gqa/1.jpg###[x0, y0, x1, y1]"],
"conversations": [question, box, "<image>", answer]}`. Metadata: `{"question", "answer", "image", "bboxs", "dataset"}`.
The box in the conversation is in fractions of the image padded to a square; the one behind ### is in pixels. LVR
(VincentLeebang/lvr) and LaViT leave the turns about the box out, put tags around the answer, and LVR gives the boxes as
`bboxes` in fractions of the image: `{"image": ["a.jpg"], "conversations": [question, "<lvr>\n<answer> red </answer>"],
"bboxes": [[0.6, 0.2, 0.9, 0.8]]}`.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from perception_gap.data.fields import refuse_meaningful
from perception_gap.data.jsonl import NO_ANSWER, parse_boxes, question, reference, shown, text, texts
from perception_gap.data.reading import Reader, Reading
from perception_gap.data.stream import read_entry, stream_entries
from perception_gap.errors import UsageError
from perception_gap.sample import Sample

# What the authors append to every question: Visual-CoT's to have the box first, LVR's for a short answer (give such a
# line as --instruction).
REQUEST = re.compile(
    r"\s*(Please (think step by step and )?provide the bounding box coordinate of the region "
    r"that can help you answer the question better|\nProvide a short and direct response)\.?\s*$"
)


# What the layouts hold beside what is read, and what changes nothing.
_BESIDE = ("dataset", "split", "question_id", "width", "height", "possible_answers", "full_answer")
_CONVERSATIONS = (*_BESIDE, "image", "conversations")
_METADATA = (*_BESIDE, "image", "question", "answer", "bboxs", "bboxes")


class VisualCoT(Sequence[Sample]):
    """The samples of a Visual-CoT file, which stay on disk: opening checks every entry and keeps where it lies.

    Sixteen bytes a sample are held in memory; indexing and iterating read the file again. An id is the dataset's name
    and the entry's number in the file, from 1. UsageError names the number of a malformed entry. reading: what the
    user says of the file; the layouts' fields are fixed.
    """

    def __init__(self, path: Path, *, limit: int | None = None, reading: Reading | None = None):
        if reading is not None and reading.fields:
            raise UsageError("--field: Visual-CoT's fields have their names; leave it out")
        self.path, self.reader = path, Reader(str(path), path.parent, reading)
        self._offsets, self._sizes = array("q"), array("q")
        for entry in stream_entries(path):
            sample = parse_entry(entry.value, number=entry.number, reader=self.reader)
            self.reader.watch(entry.value, known_fields(entry.value), sample)
            self._offsets.append(entry.offset)
            self._sizes.append(entry.size)
            if entry.number == limit:
                break
        self.reader.finish(_METADATA)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        entry = read_entry(self.path, self._offsets[position], self._sizes[position])
        return parse_entry(entry, number=position + 1, reader=self.reader)


def parse_entry(entry: dict[str, Any], *, number: int, reader: Reader) -> Sample:
    """One entry of any of the layouts as a Sample; UsageError names the entry's number and what was expected.

    An empty answer, and a picture that has no path, are faults of the sample.
    """
    where, usual = f"{reader.name}: entry {number}", "pixels"
    boxes: Any
    refuse_meaningful(entry, where, allowed=("conversations",))
    if "conversations" in entry:
        images, boxes = _marked_images(entry, where)
        if not boxes:
            boxes, usual = entry.get("bboxes"), "fractions"
        question_text, answer = _turns(entry["conversations"], where)
    elif "question" in entry:
        images = (text(entry, "image", where),)
        boxes = entry.get("bboxes") if entry.get("bboxs") in (None, []) else entry["bboxs"]
        question_text, answer = question(entry, "question", where), reference(entry, "answer", where)
    else:
        raise UsageError(f"{where}: neither conversations nor question: is this a Visual-CoT file?")
    unit = reader.unit(usual)
    checked, box_images = parse_boxes(boxes, where=where, n_images=len(images), unit=unit)
    paths, fault = reader.images(images)
    dataset = entry.get("dataset") or "viscot"
    return Sample(
        id=f"{dataset}-{number:06d}",
        images=paths,
        question=question_text,
        answer=answer,
        boxes=checked,
        box_images=box_images,
        task=str(dataset),
        fractions=bool(checked) and unit in ("fractions", "thousandths"),
        fault=fault or (None if answer else NO_ANSWER),
    )


def known_fields(entry: dict[str, Any]) -> tuple[str, ...]:
    """The fields of the entry's layout; `bboxes` beside boxes behind ### are not read."""
    if "conversations" not in entry:
        return _METADATA
    images = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
    return _CONVERSATIONS if any("###" in name for name in images) else (*_CONVERSATIONS, "bboxes")


def _marked_images(entry: dict[str, Any], where: str) -> tuple[tuple[str, ...], list[Any]]:
    """The images of an entry, each once, and the boxes behind ### with the index of their image."""
    if isinstance(entry.get("image"), str):
        entry = {"image": [entry["image"]]}
    elif not entry.get("image"):
        raise UsageError(f'{where}: no image: expected ["FILE", "FILE###[x0, y0, x1, y1]"]')
    names: list[str] = []
    boxes: list[Any] = []
    for name in texts(entry, "image", where):
        name, mark, written = name.partition("###")
        if name not in names:
            names.append(name)
        if mark:
            try:
                box = json.loads(written)
            except json.JSONDecodeError:
                box = None
            if not isinstance(box, list) or len(box) != 4:
                raise UsageError(f"{where}: box {shown(written)}: expected [x0, y0, x1, y1] behind ###")
            boxes.append([*box, names.index(name)])
    return tuple(names), boxes


def _turns(conversations: Any, where: str) -> tuple[str, str]:
    """The question of the first turn, without image marks and the request for a box, and the answer of the last."""
    turns = conversations if isinstance(conversations, list) else []
    messages = [(t.get("from"), t.get("value")) for t in turns if isinstance(t, dict)]
    of_turns = [sender for sender, _ in messages]
    if len(messages) < 2 or len(messages) != len(turns) or (of_turns[0], of_turns[-1]) != ("human", "gpt"):
        raise UsageError(f"{where}: conversations: expected turns from human and gpt, the answer last")
    record = {"question": messages[0][1], "answer": messages[-1][1]}
    without_request = {"question": REQUEST.sub("", question(record, "question", where)).strip()}
    return text(without_request, "question", where), reference(record, "answer", where)
