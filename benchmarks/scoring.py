"""Which answer an output gives: the strict reader, and how often it and lmms-eval's own readers misread.

`perception_gap.text.scoring` under the benchmarks' name, and `python -m benchmarks.scoring` over `scoring_cases.jsonl`:
outputs as models write them, each with the letter that a careful human reads there, decided before any reader saw it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click

from perception_gap.errors import UsageError
from perception_gap.grid import grid
from perception_gap.sample import LETTERS
from perception_gap.text.scoring import chosen_option, matches, normalize, option_letter, score

__all__ = ["chosen_option", "matches", "normalize", "option_letter", "score"]

CASES = Path(__file__).with_name("scoring_cases.jsonl")
OUTCOMES = ("right", "wrong letter", "invents", "misses")


@dataclass(frozen=True)
class Case:
    """One output. `expected`: capital letter, or None where a careful human could not say.

    `options` may be empty (unknown texts); `kind`: the rule that should decide. `held_out`: written after the strict
    reader was last changed. `known`: the strict reader's misreading, "reads B" or "reads no letter".
    """

    output: str
    options: tuple[str, ...]
    n_options: int
    expected: str | None
    kind: str
    why: str
    held_out: bool = False
    known: str | None = None

    @property
    def letters(self) -> str:
        return LETTERS[: self.n_options]


@dataclass(frozen=True)
class Reader:
    """`read` gives an output's letter, None for none; `reads` says for which numbers of options it was written."""

    name: str
    read: Callable[[Case], str | None]
    reads: range = range(1, len(LETTERS) + 1)


def load_cases(path: Path = CASES) -> list[Case]:
    """The cases in the file's order. UsageError with the line for a field that is unknown, missing or contradictory."""
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            case = Case(**{**fields, "options": tuple(fields["options"])})
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}, line {number}: {error}; expected the fields of {Case.__name__}") from None
        if case.options and len(case.options) != case.n_options:
            raise UsageError(f"{path}, line {number}: {len(case.options)} options and n_options {case.n_options}")
        if case.expected is not None and (len(case.expected) != 1 or case.expected not in case.letters):
            raise UsageError(f"{path}, line {number}: expected {case.expected!r} is none of {case.letters}")
        cases.append(case)
    return cases


def _read_strictly(case: Case) -> str | None:
    if not case.options:
        return option_letter(case.output, case.n_options)
    index = chosen_option(case.output, case.options)
    return None if index is None else LETTERS[index]


STRICT = Reader("strict", _read_strictly)


def built_in_readers() -> list[Reader]:
    """lmms-eval's readers of multiple-choice answers, each with the letters of its task; importing them takes 10 s.

    They see the output as lmms-eval hands it on by default: without <think> and <analysis> elements.
    """
    from lmms_eval.api.reasoning import strip_reasoning_tags
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
    from lmms_eval.tasks.blink.utils import _extract_answer_letter as blink
    from lmms_eval.tasks.hrbench.hrbench_evals import HRBenchEval
    from lmms_eval.tasks.mmvp.utils import _extract_answer_letter as mmvp
    from lmms_eval.tasks.vstar_bench.utils import extract_answer_letter as vstar

    judge = HRBenchEval(api_key="")  # `can_infer` asks nobody; where it gives False, the task asks a judge by network

    def untagged(case: Case) -> str:
        return strip_reasoning_tags(case.output, [["<think>", "</think>"], ["<analysis>", "</analysis>"]])

    def hrbench(case: Case) -> str | None:
        # Unknown texts become what no output contains; the dict is new every time, since `can_infer` changes it.
        texts = case.options or [f"\0{letter}" for letter in case.letters]
        return judge.can_infer(untagged(case), dict(zip(case.letters, texts, strict=True))) or None

    return [
        Reader("mmvp", lambda case: mmvp(untagged(case)), range(2, 3)),
        Reader("vstar_bench", lambda case: vstar(untagged(case)), range(1, 5)),
        Reader("blink", lambda case: blink(untagged(case), case.letters)),
        Reader("mmstar", lambda case: extract_mcq_answer(untagged(case), list(case.letters))),
        Reader("hrbench", hrbench),
    ]


def letter_read(reader: Reader, case: Case) -> str | None:
    """The reader's letter; one that is no option's ("Z", "D" of two) can match no reference and counts as none."""
    letter = reader.read(case)
    return letter if letter and letter in case.letters else None


def outcome(read: str | None, expected: str | None) -> str:
    """One of OUTCOMES: "misses" has no letter where there is one, "invents" has one where there is none."""
    if read == expected:
        return "right"
    if expected is None:
        return "invents"
    return "misses" if read is None else "wrong letter"


def table(readers: Sequence[Reader], cases: Sequence[Case]) -> str:
    """A Markdown table, a reader a row, over the cases that it was written for; last the strict reader over those."""
    lines = []
    for reader in readers:
        own = [case for case in cases if case.n_options in reader.reads]
        counts = Counter(outcome(letter_read(reader, case), case.expected) for case in own)
        strict = sum(letter_read(STRICT, case) == case.expected for case in own)
        lines.append([reader.name, len(own), *(counts[name] for name in OUTCOMES), strict])
    head = ["reader", "cases", *OUTCOMES, "strict right on the same"]
    return grid(head, lines, "markdown", range(1, len(head)))


def disagreements(readers: Sequence[Reader], cases: Sequence[Case]) -> str:
    """A Markdown table of every case that some reader misreads; "–" is no letter, blank is not written for it."""
    lines = []
    for case in cases:
        read = [letter_read(r, case) if case.n_options in r.reads else "" for r in readers]
        if all(letter in ("", case.expected) for letter in read):
            continue
        options = ", ".join(case.options) or str(case.n_options)
        letters = [letter if letter is not None else "–" for letter in (case.expected, *read)]
        lines.append([f"`{json.dumps(case.output, ensure_ascii=False)}`", options, *letters, case.why])
    return grid(["output", "options", "human", *(reader.name for reader in readers), "why"], lines, "markdown")


@click.command()
@click.option("--list", "listed", is_flag=True, help="Also list every case that some reader misreads.")
@click.option(
    "--cases", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=CASES, show_default=True
)
def main(listed: bool, path: Path) -> None:
    """How often the strict reader and those of lmms-eval misread an output.

    Example: python -m benchmarks.scoring --list
    """
    try:
        cases = load_cases(path)
    except UsageError as error:
        raise click.ClickException(str(error)) from None
    readers = [STRICT, *built_in_readers()]
    click.echo(f"All {len(cases)} cases, lmms-eval {version('lmms-eval')}:\n")
    click.echo(table(readers, cases))
    held_out = [case for case in cases if case.held_out]
    if held_out:
        click.echo(f"\nOf these, the {len(held_out)} written after the strict reader was last changed:\n")
        click.echo(table(readers, held_out))
    if listed:
        click.echo()
        click.echo(disagreements(readers, cases))


if __name__ == "__main__":
    main()
