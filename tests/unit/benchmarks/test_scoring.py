"""Adversarial outputs: what the strict reader reads, and that lmms-eval's own readers misread some of them."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

import pytest
from click.testing import CliRunner

import perception_gap.text.scoring
from benchmarks import scoring
from benchmarks.scoring import STRICT, Case, Reader, letter_read, load_cases
from perception_gap.errors import UsageError

ALL = load_cases()


@pytest.mark.parametrize("case", ALL, ids=[json.dumps(case.output) for case in ALL])
def test_strict_reader_reads_what_a_careful_human_reads_or_is_known_not_to(case):
    read = letter_read(STRICT, case)
    if case.known is None:
        assert read == case.expected, case
    else:
        assert read != case.expected, f"no longer misread: take `known` out of {case}"
        assert f"reads {read or 'no letter'}" == case.known


def test_the_cases_are_many_distinct_and_of_every_kind():
    assert len(ALL) >= 120
    assert len({(case.output, case.options, case.n_options) for case in ALL}) == len(ALL)
    kinds = {"explicit", "boxed", "leading", "standalone", "correction", "option text", "none"}
    assert {case.kind for case in ALL} == kinds
    assert all((case.kind == "none") == (case.expected is None) and case.why for case in ALL)
    assert sum(case.n_options == 2 for case in ALL) >= 100  # MMVP's reader is for two options only


def test_the_module_gives_the_strict_scorer_under_its_own_name():
    assert scoring.__all__ == ["chosen_option", "matches", "normalize", "option_letter", "score"]
    for name in scoring.__all__:
        assert getattr(scoring, name) is getattr(perception_gap.text.scoring, name)


# (reader, output, options or their number, what a human reads, what lmms-eval 0.7.3 reads)
MISREAD = [
    ("mmvp", "Blue", 2, None, "B"),
    ("mmvp", "There is a butterfly.", 2, None, "A"),
    ("mmvp", "The answer is not A but B.", 2, "B", "A"),
    ("vstar_bench", "Answer: B", 4, "B", "A"),
    ("vstar_bench", "Certainly! The answer is B.", 4, "B", "C"),
    ("vstar_bench", "A green car", ("red", "blue", "green", "white"), "C", "A"),
    ("blink", "Cannot tell.", 4, None, "C"),
    ("blink", "Both butterflies face left", ("Left", "Right"), "A", "B"),
    ("blink", "Definitely option C.", 4, "C", "D"),
    ("mmstar", "The answer is B, not A.", 2, "B", "A"),
    ("mmstar", "The answer is B. Wait, let me check A again.", 4, "B", "A"),
    ("mmstar", "The answer is either A or B.", 4, None, "B"),
    ("hrbench", "A dog", ("A cat", "A dog", "A bird"), "B", "A"),
    ("hrbench", "point A", ("point B", "point A"), "B", "A"),
    ("hrbench", "The answer is B, not A.", 2, "B", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def built_in() -> dict[str, Reader]:
    return {reader.name: reader for reader in scoring.built_in_readers()}


@pytest.mark.parametrize(("name", "output", "options", "human", "read"), MISREAD)
def test_lmms_eval_0_7_3_misreads(built_in, name, output, options, human, read):
    texts = () if isinstance(options, int) else options
    case = Case(output, texts, len(texts) or options, human, "", "")
    assert case.n_options in built_in[name].reads
    found = letter_read(built_in[name], case)
    assert found == read, f"lmms-eval {version('lmms-eval')} reads this otherwise than 0.7.3: see docs/scoring.md"
    assert found != human
    assert letter_read(STRICT, case) == human


def test_every_built_in_reader_has_a_proof_and_reads_a_plain_letter(built_in):
    assert {line[0] for line in MISREAD} == built_in.keys()
    for reader in built_in.values():
        assert letter_read(reader, Case("B", (), 2, "B", "leading", "plain")) == "B"


def test_built_in_readers_never_see_finished_thinking(built_in):
    case = Case("<think>Is it A? The answer is A.</think>B", (), 2, "B", "leading", "as lmms-eval hands it on")
    assert {letter_read(reader, case) for reader in built_in.values()} == {"B"}


def lines_of(*cases: dict) -> str:
    blank = {"options": [], "kind": "leading", "why": "by hand"}
    return "".join(json.dumps({**blank, **case}) + "\n" for case in cases)


MINI = lines_of(
    {"output": "B", "n_options": 2, "expected": "B"},
    {"output": "Blue", "n_options": 2, "expected": None, "held_out": True},
    {"output": "Answer: B", "n_options": 4, "expected": "B"},
)


def test_the_command_counts_what_was_counted_by_hand(tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_text(MINI)
    result = CliRunner().invoke(scoring.main, ["--cases", str(path), "--list"])
    assert result.exit_code == 0, result.output
    whole, held_out, listed = [re.sub(" +", " ", part) for part in result.stdout.split("\n\n") if part.startswith("| ")]
    assert whole.splitlines()[2:] == [
        "| strict | 3 | 3 | 0 | 0 | 0 | 3 |",
        "| mmvp | 2 | 1 | 0 | 1 | 0 | 2 |",
        "| vstar_bench | 3 | 1 | 1 | 1 | 0 | 3 |",
        "| blink | 3 | 2 | 0 | 1 | 0 | 3 |",
        "| mmstar | 3 | 2 | 0 | 1 | 0 | 3 |",
        "| hrbench | 3 | 3 | 0 | 0 | 0 | 3 |",
    ]
    assert "| blink | 1 | 0 | 0 | 1 | 0 | 1 |" in held_out
    assert listed.splitlines()[2:] == [
        '| `"Blue"` | 2 | – | – | B | B | B | B | – | by hand |',
        '| `"Answer: B"` | 4 | B | B | | A | B | B | B | by hand |',
    ]


def test_each_outcome_has_its_column():
    always_a = Reader("always A", lambda case: "A")
    cases = [Case("", (), 2, expected, "", "") for expected in ("A", "B", "B", None)]
    never = Reader("never", lambda case: None)
    too_far = Reader("too far", lambda case: "D")  # of two options: can match nothing, so no letter
    rows = re.sub(" +", " ", scoring.table([always_a, never, too_far], cases)).splitlines()[2:]
    assert rows == [
        "| always A | 4 | 1 | 2 | 1 | 0 | 1 |",
        "| never | 4 | 1 | 0 | 0 | 3 | 1 |",
        "| too far | 4 | 1 | 0 | 0 | 3 | 1 |",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"output": "B", "n_options": 2, "expected": "C"}, "line 2: expected 'C' is none of AB"),
        ({"output": "B", "n_options": 2, "expected": ""}, "line 2: expected '' is none of AB"),
        ({"output": "B", "n_options": 2, "expected": "B", "options": ["x"]}, "line 2: 1 options and n_options 2"),
        ({"output": "B", "n_options": 2}, "line 2: .*'expected'; expected the fields of Case"),
        ({"output": "B", "n_options": 2, "expected": "B", "other": 1}, "line 2: .*'other'"),
    ],
)
def test_a_case_that_contradicts_itself_is_an_error_with_its_line(tmp_path, line, message):
    path = tmp_path / "cases.jsonl"
    path.write_text(lines_of({"output": "", "n_options": 2, "expected": None}, line))
    with pytest.raises(UsageError, match=message):
        load_cases(path)
    result = CliRunner().invoke(scoring.main, ["--cases", str(path)])
    assert result.exit_code == 1
    assert "line 2" in result.stderr
