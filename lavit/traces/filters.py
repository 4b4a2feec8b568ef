"""The three filters of the paper (section 4.1, appendix C), in its order: correctness, difficulty, alignment."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception_gap.errors import UsageError
from perception_gap.sample import Sample, prompt_text
from perception_gap.text.scoring import chosen_option, matches

FILTERS = ("correctness", "difficulty", "alignment")
MIN_FOCUS = 0.2  # paper, appendix C
_VERDICTS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer to one way of putting a sample's question; `right`: index of the right option, if it has options."""

    question: str
    reference: str
    answer: str
    options: tuple[str, ...] = ()
    right: int | None = None


def judged_answer(sample: Sample, answer: str) -> JudgedAnswer:
    """The question as it stands in the data."""
    right = chosen_option(sample.answer, sample.options) if sample.options else None
    return JudgedAnswer(sample.question, sample.answer, answer, sample.options, right)


def rotations(sample: Sample) -> list[tuple[tuple[str, ...], int | None]]:
    """Every cyclic rotation of the options with the place of the right one; one without options if there are none.

    The place is None where the reference names no single option (then only a judge can tell).
    """
    options = sample.options
    if not options:
        return [((), None)]
    right = chosen_option(sample.answer, options)
    n = len(options)
    return [(options[r:] + options[:r], None if right is None else (right - r) % n) for r in range(n)]


def ask_blind(
    ask: Callable[[list[str]], list[str]], samples: Sequence[Sample], instruction: str, batch_size: int
) -> list[list[JudgedAnswer]]:
    """The answers of a model that sees no image: for every sample one for each rotation of its options.

    ask: prompts → answers, at most `batch_size` at a time.
    """
    turned = [(i, *rotation) for i, sample in enumerate(samples) for rotation in rotations(sample)]
    prompts = [prompt_text(samples[i].question, options, instruction) for i, options, _ in turned]
    answers = [a for at in range(0, len(prompts), batch_size) for a in ask(prompts[at : at + batch_size])]
    results: list[list[JudgedAnswer]] = [[] for _ in samples]
    for (i, options, right), answer in zip(turned, answers, strict=True):
        sample = samples[i]
        reference = sample.answer if right is None else options[right]
        results[i].append(JudgedAnswer(sample.question, reference, answer, options, right))
    return results


def verdicts(questions: Sequence[JudgedAnswer], judge: str | None = None) -> list[bool]:
    """Whether each answer is right: by normalised match and option letter, or by the judge command."""
    if judge is not None:
        return judged(judge, questions) if questions else []
    return [
        matches(q.answer, q.reference) if q.right is None else chosen_option(q.answer, q.options) == q.right
        for q in questions
    ]


def judged(command: str, questions: Sequence[JudgedAnswer]) -> list[bool]:
    """One start of a user's command: JSON lines {question, reference, answer, options} in, one verdict a line out.

    Verdicts: 1/0, true/false, yes/no. UsageError for a command that does not start, fails, or prints something else:
    without a trustworthy judge no verdict of the run would mean anything.
    """
    names = ("question", "reference", "answer", "options")
    lines = [json.dumps({name: getattr(q, name) for name in names}, ensure_ascii=False) + "\n" for q in questions]
    try:
        done = subprocess.run(split(command), input="".join(lines).encode(), capture_output=True, check=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"--judge {command!r}: does not start ({reason}); expected a program and its options"
        ) from None
    stdout = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing on stderr"])[-1]
        raise UsageError(f"--judge {command!r}: ended with status {done.returncode} ({last[:200]}); mend the command")
    printed = [line.strip() for line in stdout.splitlines() if line.strip()]
    for line in printed:
        if line.lower() not in _VERDICTS:
            raise UsageError(
                f"--judge {command!r}: printed {line[:80]!r}; expected 1/0, true/false or yes/no on a line"
            )
    if len(printed) != len(questions):
        raise UsageError(
            f"--judge {command!r}: printed {len(printed)} verdicts for {len(questions)} answers; expected one line each"
        )
    return [_VERDICTS[line.lower()] for line in printed]


def judge_hash(command: str | None) -> str | None:
    """sha256 of the files that a judge command names, so that an edited script never lends its old verdicts."""
    if command is None:
        return None
    digest = hashlib.sha256()
    for path in map(Path, split(command)):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def split(command: str) -> list[str]:
    """The program and its options; UsageError for nothing, and for a quotation that does not end."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--judge {command!r}: does not start ({error}); close the quotation") from None
    if not words:
        raise UsageError(f"--judge {command!r}: does not start (empty); expected a program and options")
    return words


def decide(row: dict[str, Any], filters: Sequence[str], min_focus: float, without_boxes: str) -> dict[str, Any]:
    """The verdict fields of a row from what was measured: `status`, `correct`, `blind_correct`, `focus`.

    The first filter that drops a sample decides; the fields of filters that are off or come later are null. An
    undefined focus (no boxes, an empty answer) is no verdict: `aligned` is null, and the sample is dropped unless it
    has no boxes and `without_boxes` is "keep".
    """
    fields = dict.fromkeys(("correct", "blind_answers", "blind_correct", "focus", "aligned")) | {"blind_answers": []}
    if row["status"] != "ok":
        return fields | {"kept": False, "dropped_by": "failed"}
    if "correctness" in filters:
        fields["correct"] = row["correct"]
        if not row["correct"]:
            return fields | {"kept": False, "dropped_by": "correctness"}
    if "difficulty" in filters:
        fields |= {"blind_answers": row["blind_answers"], "blind_correct": row["blind_correct"]}
        if row["blind_correct"]:
            return fields | {"kept": False, "dropped_by": "difficulty"}
    if "alignment" in filters:
        focus = row["focus"]
        if focus is None or math.isnan(focus):
            unchecked = not row["boxes"] and without_boxes == "keep"
            return fields | {"kept": unchecked, "dropped_by": None if unchecked else "alignment"}
        fields |= {"focus": focus, "aligned": focus >= min_focus}
        if focus < min_focus:
            return fields | {"kept": False, "dropped_by": "alignment"}
    return fields | {"kept": True, "dropped_by": None}
