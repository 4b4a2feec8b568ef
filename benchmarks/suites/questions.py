"""What a verdict and a map need of a document: the reference, the options, the boxes, and what belongs together."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perception_gap.text.scoring import chosen_option, matches, option_letter

Doc = dict[str, Any]
Boxes = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Question:
    """reference: the right answer, a letter where the options have letters; several where any of them is right.

    options: their texts in order, empty where unknown. n_options: how many there are, 0 for a free answer and None
    where that is unknown (the strict verdict is then undefined). pair: the label of questions that are judged
    together. boxes: xyxy, pixels of the document's first picture.
    """

    id: str
    text: str
    references: tuple[str, ...]
    options: tuple[str, ...] = ()
    n_options: int | None = None
    pair: str | None = None
    category: str | None = None
    boxes: Boxes = ()

    def strict(self, answer: str) -> bool | None:
        """The verdict of `perception_gap.text.scoring`; None where the document does not say what it would need."""
        if not self.references or self.n_options is None:
            return None
        if self.options:
            right = {_index(reference, self.options) for reference in self.references}
            return None if None in right else chosen_option(answer, self.options) in right
        if self.n_options:
            letters = string.ascii_uppercase[: self.n_options]
            if not all(len(reference) == 1 and reference in letters for reference in self.references):
                return None  # "hidden", as in a test split, or a letter beyond the options
            return option_letter(answer, self.n_options) in self.references
        return any(matches(answer, reference) for reference in self.references)


def _index(reference: str, options: tuple[str, ...]) -> int | None:
    """Which option a reference means: a letter by its place, anything else as an answer would be read."""
    letter = reference.strip("() ")
    place = string.ascii_uppercase.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(options) else chosen_option(reference, options)


def read(task: str, doc: Doc, index: int, target: Any) -> Question:
    """The Question of a document. `target`: what lmms-eval's definition calls the right answer."""
    return _reader(task)(doc, index, target)


def is_known(task: str) -> bool:
    """Whether this module knows the task's columns; any of these tasks asks about a picture."""
    return _reader(task) is not _any


def _reader(task: str) -> Callable[[Doc, int, Any], Question]:
    return next((r for prefix, r in _READERS.items() if task == prefix or task.startswith(f"{prefix}_")), _any)


def _mmvp(doc: Doc, index: int, target: Any) -> Question:
    number = int(doc.get("Index") or index + 1)
    options = _marked(str(doc["Options"]), r"\(([a-z])\)")
    pair = f"pair-{(number - 1) // 2}"
    return Question(str(number), str(doc["Question"]), (str(target),), options, len(options) or 2, pair)


def _vstar(doc: Doc, index: int, target: Any) -> Question:
    stem = str(doc["text"]).split("\nAnswer with")[0]
    question, options = stem.split("(A)")[0].strip(), _marked(stem, r"\(([A-D])\)")
    letter, identity = str(doc["label"]).strip().upper(), str(doc.get("question_id", index))
    return Question(identity, question, (letter,), options, len(options) or 4, None, doc.get("category"))


def _blink(doc: Doc, index: int, target: Any) -> Question:
    letter, options = str(doc["answer"]).strip("() "), tuple(map(str, doc.get("choices") or ()))
    text = doc.get("question") or doc["prompt"]
    # Two equal texts (in jigsaw-like tasks, or "image" twice) leave the letters alone to tell them apart.
    texts = options if len(set(options)) == len(options) else ()
    return Question(
        str(doc.get("idx", index)), text, (letter,), texts, len(options) or None, category=doc.get("sub_task")
    )


def _mmstar(doc: Doc, index: int, target: Any) -> Question:
    head, _, tail = str(doc["question"]).partition("Options:")
    first = re.match(r"\s*(\(?)A\s*([:.)])", tail)  # its spelling is that of the others
    mark = rf"(?<![^\s,]){re.escape(first[1])}([A-D])\s*{re.escape(first[2])}" if first else None
    options = tuple(text.rstrip(", ") for text in _marked(tail, mark)) if mark else ()
    letter = str(doc["answer"]).strip().upper()
    known = options if len(set(options)) == len(options) > string.ascii_uppercase.find(letter) else ()
    identity, category = str(doc.get("index", index)), doc.get("category")
    return Question(identity, head.strip(), (letter,), known, len(known) or 4, None, category)


def _hrbench(doc: Doc, index: int, target: Any) -> Question:
    options = tuple(str(doc[letter]) for letter in string.ascii_uppercase if doc.get(letter) is not None)
    letter = str(doc["answer"]).strip().upper()
    identity = f"{doc.get('index', index)}-{doc.get('cycle_category', 0)}"
    return Question(identity, doc["question"], (letter,), options, len(options), category=doc.get("category"))


def _scenes(doc: Doc, index: int, target: Any) -> Question:
    boxes = tuple(tuple(box) for box in doc["boxes"])
    options = tuple(doc["options"])
    return Question(doc["id"], doc["question"], (doc["answer"],), options, len(options), doc["pair"], None, boxes)


def _any(doc: Doc, index: int, target: Any) -> Question:
    """A task that this module does not know: options from `choices` or `options`, a list of right answers as such."""
    identity = next((str(doc[k]) for k in ("id", "question_id", "idx", "index") if doc.get(k) is not None), str(index))
    text = next((doc[k] for k in ("question", "prompt", "text", "query") if isinstance(doc.get(k), str)), "")
    options: list[Any] = next((doc[k] for k in ("choices", "options") if isinstance(doc.get(k), list)), [])
    targets = [t for t in (target if isinstance(target, list) else [target]) if t is not None]
    # Beside options a number may be a place or a text: undefined.
    references = () if options and any(isinstance(t, int) for t in targets) else tuple(map(str, targets))
    if options and all(isinstance(option, str) for option in options):
        return Question(identity, text, references, tuple(options), len(options))
    lettered = any(re.fullmatch(r"\(?[A-Za-z]\)?\.?", reference.strip()) for reference in references)
    return Question(identity, text, references, (), None if lettered else 0)


_READERS: dict[str, Callable[[Doc, int, Any], Question]] = {
    "mmvp": _mmvp,
    "vstar_bench": _vstar,
    "blink": _blink,
    "mmstar": _mmstar,
    "hrbench4k": _hrbench,
    "hrbench8k": _hrbench,
    "scenes": _scenes,
}


def _marked(text: str, mark: str) -> tuple[str, ...]:
    """Texts behind the marks of consecutive letters: "(a) open (b) closed" → ("open", "closed"); () without a first.

    A mark out of turn belongs to the text of the option that it stands in.
    """
    marks: list[re.Match[str]] = []
    for match in re.finditer(mark, text):
        if match[1].upper() == string.ascii_uppercase[len(marks) : len(marks) + 1]:
            marks.append(match)
    starts = [match.start() for match in marks[1:]]
    return tuple(text[m.end() : end].strip() for m, end in zip(marks, [*starts, None], strict=False))
