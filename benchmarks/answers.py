"""Answers of a model, and where they are kept: written as they come, found again by everything that decides them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lmms_eval.api.instance import GenerationResult, Instance, unwrap_generation_output
from PIL import Image

from perception_gap.data.images import pixel_bytes
from perception_gap.errors import GapcheckError, one_line
from perception_gap.runs.engine import Arrays, Engine, open_parts
from perception_gap.runs.key import key_of
from perception_gap.runs.schema import tables
from perception_gap.runs.schema.versions import ANSWERS
from perception_gap.storage.redaction import without_secrets

# What lmms-eval's own backends answer when a request failed: no answer, and never one to keep.
_FAILED = ("[LMMS_EVAL_REQUEST_FAILED", "[LMMS_EVAL_BUDGET_EXCEEDED")


@dataclass
class Answer(GenerationResult):
    """What a model of ours gives for one request; lmms-eval reads `text` and `token_counts`.

    error: why there is no answer, None where there is one. fields: columns of `tables.ANSWERS` that the model knows.
    arrays: what goes beside them, such as the attention map (`own`, float32 [N], raw).
    """

    error: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """One user turn with its pictures before its text, the form of all tasks of the paper.

    system: the system prompt, None where the messages have none.
    """

    images: tuple[Image.Image, ...]
    text: str
    system: str | None = None


def prompt_of(messages: Sequence[dict[str, Any]]) -> Prompt:
    """GapcheckError for what a Prompt cannot hold: several turns, text before a picture, video, audio."""
    system = None
    turns = list(messages)
    if turns and turns[0]["role"] == "system":
        system = "".join(part["text"] for part in _parts(turns.pop(0)))
    if len(turns) != 1 or turns[0]["role"] != "user":
        raise GapcheckError(f"{len(turns)} turns: gapcheck's models answer one user turn")
    parts = _parts(turns[0])
    kinds = [part["type"] for part in parts]
    n = kinds.count("image")
    if set(kinds) - {"image", "text"}:
        raise GapcheckError(f"{sorted(set(kinds) - {'image', 'text'})[0]} input: gapcheck's models see pictures alone")
    if kinds[:n] != ["image"] * n:
        raise GapcheckError("text before a picture: gapcheck's models take all pictures first")
    images = [part["url"] for part in parts[:n]]
    if not all(isinstance(image, Image.Image) for image in images):
        raise GapcheckError(f"a picture given as {type(images[0]).__name__}: expected a decoded one")
    return Prompt(tuple(images), "".join(part["text"] for part in parts[n:]), system)


def shown(messages: Sequence[dict[str, Any]]) -> str:
    """The messages as one text, `<image>` for each picture."""
    parts = [part for message in messages for part in _parts(message)]
    return "".join(part["text"] if part["type"] == "text" else f"<{part['type']}>" for part in parts)


def images_hash(messages: Sequence[dict[str, Any]]) -> str:
    """sha256 over mode, size and pixels of every picture, and over whatever else they refer to; "" for text alone."""
    digest, empty = hashlib.sha256(), True
    for message in messages:
        for part in _parts(message):
            empty = empty and part["type"] == "text"
            if part["type"] == "image" and isinstance(part["url"], Image.Image):
                digest.update(pixel_bytes(part["url"]))
            elif part["type"] != "text":
                digest.update(str(part.get("url")).encode())
    return "" if empty else digest.hexdigest()


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


Ask = Callable[[list[Instance]], Sequence[Any]]
Item = TypeVar("Item")
Rows = list[dict[str, Any] | None]


class AnswerStore:
    """Answers by key, a hash of the model's identity, the messages, the pictures and the generation settings.

    identity: everything about the model that decides an answer (weights, precision, libraries, latents, resolution).
    Several processes may write to one folder; each knows what it wrote and what was there when it opened it.
    """

    def __init__(
        self, folder: Path, identity: Sequence[Any], *, described_in: str = "answers.json", fresh: bool = False
    ) -> None:
        self.identity = list(identity)
        self.parts = open_parts(folder, schema=tables.ANSWERS, described_in=described_in, fresh=fresh, shared=True)
        self.rows = {row["key"]: row for row, _ in self.parts.read(list(self.parts.done()), kinds=())}

    def key(self, messages: Sequence[dict[str, Any]], generation: dict[str, Any]) -> str:
        turns = [[message["role"], shown([message])] for message in messages]
        return key_of(ANSWERS.version, self.identity, turns, images_hash(messages), generation)

    def keep(self, keys: Sequence[str], outputs: Sequence[Any], seconds: float) -> tuple[Rows, Arrays, dict[str, str]]:
        """What an engine keeps of a model's outputs: (rows, arrays, key → reason of those that failed).

        A failed request is not kept: the next run asks again. seconds: an answer's, of a backend that does not say it.
        """
        rows: Rows = []
        arrays: Arrays = {}
        reasons: dict[str, str] = {}
        for key, output in zip(keys, outputs, strict=True):
            answer = _answer(output)
            if answer.error is not None:
                reasons[key] = answer.error
                rows.append(None)
                continue
            counts = answer.token_counts
            row = {
                "key": key,
                "answer": answer.text,
                "seconds": seconds,
                "n_tokens": counts.output_tokens if counts else None,
                "n_prompt_tokens": counts.input_tokens if counts else None,
            } | answer.fields
            self.rows[key] = {name: row.get(name) for name in tables.ANSWERS.names}
            rows.append(self.rows[key])
            arrays |= {f"{key}/{kind}": array for kind, array in answer.arrays.items()}
        return rows, arrays, reasons

    def engine(
        self,
        key: Callable[[Item], str | None],
        instance: Callable[[Item], Instance],
        ask: Ask,
        reasons: dict[str, str],
        batch_size: int,
        label: str | None = None,
    ) -> Engine[Item]:
        """An engine that asks for what is not there yet; `reasons` is told key → reason of what failed."""

        def process(items: Sequence[Item]) -> tuple[Rows, Arrays]:
            began = time.perf_counter()
            outputs = ask([instance(item) for item in items])
            seconds = (time.perf_counter() - began) / len(items)
            rows, arrays, failed = self.keep([str(key(item)) for item in items], outputs, seconds)
            reasons.update(failed)
            for row in rows:
                if row is not None:
                    reasons.pop(row["key"], None)
            return rows, arrays

        return Engine(self.parts, key, process, batch_size, label, unit="question")

    def through(self, keys: Sequence[str], instances: Sequence[Instance], ask: Ask) -> dict[str, str]:
        """Ask for what is not there yet, as one batch, and keep it. Returns key → reason of those that failed."""
        reasons: dict[str, str] = {}
        pairs = list(zip(keys, instances, strict=True))
        engine: Engine[tuple[str, Instance]] = self.engine(itemgetter(0), itemgetter(1), ask, reasons, len(pairs))
        engine.batch(pairs)
        return reasons


def _answer(output: Any) -> Answer:
    """What any lmms-eval backend returned, as an Answer."""
    if isinstance(output, Answer):
        return output
    text, counts = unwrap_generation_output(output)
    if text.startswith(_FAILED):
        return Answer("", error=f"the backend gave no answer: {one_line(without_secrets(text))}")
    if not text.strip():
        return Answer("", error="the backend returned no text, as it also does when a request fails; see its log")
    return Answer(text, counts)
