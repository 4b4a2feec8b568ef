"""Visual-CoT's own JSON (Shao et al., arXiv 2403.16999) in both layouts in which its authors publish it.

Training file and benchmark: `{"dataset", "question_id", "image": ["cot/gqa/1.jpg", "cot/gqa/1.jpg###[x0, y0, x1, y1]"],
"conversations": [question, box, "<image>", answer]}`. Metadata: `{"question", "answer", "image", "bboxs", "dataset"}`.
The box in the conversation is in fractions of the image padded to a square; the one behind ### is in pixels.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from perception_gap.datasets.jsonl import parse_boxes, shown, text, texts
from perception_gap.datasets.stream import read_entry, stream_entries
from perception_gap.errors import UsageError
from perception_gap.sample import Sample

# What the authors append to every question to have the model predict the box first.
REQUEST = re.compile(
    r"\s*Please (think step by step and )?provide the bounding box coordinate of the region "
    r"that can help you answer the question better\.?\s*$"
)


class VisualCoT(Sequence[Sample]):
    """The samples of a Visual-CoT file, which stay on disk: opening checks every entry and keeps where it lies.

    Sixteen bytes a sample are held in memory; indexing and iterating read the file again. An id is the dataset's name
    and the entry's number in the file, from 1. UsageError names the number of a malformed entry.
    """

    def __init__(self, path: Path, *, limit: int | None = None, image_root: Path | None = None):
        self.path, self.root = path, image_root or path.parent
        self._offsets, self._sizes = array("q"), array("q")
        for entry in stream_entries(path):
            parse_entry(entry.value, number=entry.number, path=path, root=self.root)
            self._offsets.append(entry.offset)
            self._sizes.append(entry.size)
            if entry.number == limit:
                break

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
        return parse_entry(entry, number=position + 1, path=self.path, root=self.root)


def parse_entry(entry: dict[str, Any], *, number: int, path: Path, root: Path) -> Sample:
    """One entry of either layout as a Sample; UsageError names the entry's number and what was expected."""
    where = f"{path}: entry {number}"
    if "conversations" in entry:
        images, boxes = _marked_images(entry, where)
        question, answer = _turns(entry["conversations"], where)
    elif "question" in entry:
        images = (text(entry, "image", where),)
        boxes = entry.get("bboxs", entry.get("bboxes")) or []
        question, answer = text(entry, "question", where), text(entry, "answer", where)
    else:
        raise UsageError(f"{where}: neither conversations nor question: is this a Visual-CoT file?")
    checked, box_images = parse_boxes(boxes, where=where, n_images=len(images))
    dataset = entry.get("dataset") or "viscot"
    return Sample(
        id=f"{dataset}-{number:06d}",
        images=tuple(root / image for image in images),
        question=question,
        answer=answer,
        boxes=checked,
        box_images=box_images,
        task=str(dataset),
    )


def _marked_images(entry: dict[str, Any], where: str) -> tuple[tuple[str, ...], list]:
    """The images of an entry, each once, and the boxes behind ### with the index of their image."""
    if isinstance(entry.get("image"), str):
        entry = {"image": [entry["image"]]}
    elif not entry.get("image"):
        raise UsageError(f'{where}: no image: expected ["FILE", "FILE###[x0, y0, x1, y1]"]')
    names: list[str] = []
    boxes: list = []
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
    said = [(t.get("from"), t.get("value")) for t in turns if isinstance(t, dict)]
    if len(said) < 2 or len(said) != len(turns) or said[0][0] != "human" or said[-1][0] != "gpt":
        raise UsageError(f"{where}: conversations: expected turns from human and gpt, the answer last")
    record = {"question": said[0][1], "answer": said[-1][1]}
    question = REQUEST.sub("", text(record, "question", where).replace("<image>", "")).strip()
    return text({"question": question}, "question", where), text(record, "answer", where).strip()
