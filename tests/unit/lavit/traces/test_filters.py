"""Verdicts: rotations of the options, judge commands, the order of the filters."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lavit.traces.filters import JudgedAnswer, ask_blind, decide, judge_hash, judged, judged_answer, rotations, verdicts
from perception_gap.errors import UsageError
from perception_gap.sample import Sample

COLORS = ("red", "green", "blue")


def sample(answer: str, options: tuple[str, ...] = COLORS) -> Sample:
    return Sample("s", (Path("a.png"),), "What color is it?", answer, options=options)


@pytest.mark.parametrize("answer", ["green", "B", "it is green"])
def test_every_rotation_keeps_the_right_option(answer):
    turned = rotations(sample(answer))
    assert [options for options, _ in turned] == [COLORS, ("green", "blue", "red"), ("blue", "red", "green")]
    assert [right for _, right in turned] == [1, 0, 2]
    assert rotations(sample(answer, ())) == [((), None)]


def test_who_always_says_a_letter_is_not_right_under_every_rotation():
    prompts: list[str] = []

    def always_b(batch: list[str]) -> list[str]:
        assert len(batch) <= 2
        prompts.extend(batch)
        return ["B"] * len(batch)

    found = ask_blind(always_b, [sample("green"), sample("green", ())], "", 2)
    assert [len(turned) for turned in found] == [3, 1]
    assert verdicts(found[0]) == [True, False, False]
    assert verdicts(found[1]) == [False]
    assert prompts[1] == "What color is it?\nA. green\nB. blue\nC. red"
    assert prompts[3] == "What color is it?"
    knows = ask_blind(lambda batch: ["green"] * len(batch), [sample("B")], "", 8)
    assert verdicts(knows[0]) == [True] * 3


def test_an_answer_is_scored_by_option_or_by_words():
    assert verdicts([judged_answer(sample("green"), "B"), judged_answer(sample("green"), "red")]) == [True, False]
    worded = [judged_answer(sample("a green one", ()), "A green one."), judged_answer(sample("green", ()), "red")]
    assert verdicts(worded) == [True, False]


def judge(tmp_path: Path, code: str) -> str:
    (tmp_path / "judge.py").write_text("import json, sys\nasked = [json.loads(line) for line in sys.stdin]\n" + code)
    return f"{sys.executable} {tmp_path / 'judge.py'}"


QUESTIONS = [JudgedAnswer("q?", "größer\n", "größer", ("a", "b"), 0), JudgedAnswer("q?", "red", "blue")]


def test_a_judge_gets_json_lines_and_gives_verdicts(tmp_path):
    same = "print(*(int(a['answer'] == a['reference'].strip()) for a in asked), sep='\\n')"
    assert judged(judge(tmp_path, same), QUESTIONS) == [True, False]
    assert judged(judge(tmp_path, "print('YES\\n\\nfalse')"), QUESTIONS) == [True, False]
    keep = f"open({str(tmp_path / 'seen')!r}, 'w').write(json.dumps(asked)); print('1\\n0')"
    judged(judge(tmp_path, keep), QUESTIONS)
    assert json.loads((tmp_path / "seen").read_text()) == [
        {"question": "q?", "reference": "größer\n", "answer": "größer", "options": ["a", "b"]},
        {"question": "q?", "reference": "red", "answer": "blue", "options": []},
    ]
    assert verdicts([], "no such program") == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('1\\nmaybe')", "printed 'maybe'"),
        ("print('1')", "1 verdicts for 2 answers"),
        ("print('1\\n1\\n1')", "3 verdicts for 2 answers"),
        ("sys.exit('no key')", "status 1 (no key)"),
    ],
)
def test_a_judge_that_gives_no_verdicts_is_named_with_what_it_said(tmp_path, code, says):
    with pytest.raises(UsageError) as caught:
        judged(judge(tmp_path, code), QUESTIONS)
    assert says in str(caught.value)
    assert "judge.py" in str(caught.value)


@pytest.mark.parametrize("command", ["/no/such/program", "", "'"])
def test_a_judge_that_does_not_start_is_named(command):
    with pytest.raises(UsageError, match="does not start"):
        judged(command, QUESTIONS)


def test_an_edited_judge_is_another_judge(tmp_path):
    first = judge_hash(judge(tmp_path, "print(1)"))
    assert judge_hash(judge(tmp_path, "print(1)")) == first
    assert judge_hash(judge(tmp_path, "print(0)")) != first
    assert judge_hash(None) is None


ROW = {"status": "ok", "correct": True, "blind_answers": ["x"], "blind_correct": False, "focus": 0.5, "boxes": [1.0]}
ALL = ("correctness", "difficulty", "alignment")


@pytest.mark.parametrize(
    ("change", "filters", "expected"),
    [
        ({}, ALL, (True, False, 0.5, True, True, None)),
        ({"status": "failed"}, ALL, (None, None, None, None, False, "failed")),
        ({"correct": False}, ALL, (False, None, None, None, False, "correctness")),
        ({"blind_correct": True}, ALL, (True, True, None, None, False, "difficulty")),
        ({"focus": 0.1}, ALL, (True, False, 0.1, False, False, "alignment")),
        ({"focus": 0.2}, ALL, (True, False, 0.2, True, True, None)),
        ({"focus": float("nan"), "boxes": []}, ALL, (True, False, None, None, False, "alignment")),
        ({"focus": None}, ALL, (True, False, None, None, False, "alignment")),
        ({"correct": False}, ALL[1:], (None, False, 0.5, True, True, None)),
        ({"blind_correct": True}, (ALL[0], ALL[2]), (True, None, 0.5, True, True, None)),
        ({"focus": 0.1}, ALL[:2], (True, False, None, None, True, None)),
        ({"correct": False, "blind_correct": True, "focus": 0.0}, (), (None, None, None, None, True, None)),
    ],
)
def test_the_first_filter_that_drops_decides_and_later_ones_are_null(change, filters, expected):
    found = decide(ROW | change, filters, 0.2, "drop")
    names = ("correct", "blind_correct", "focus", "aligned", "kept", "dropped_by")
    assert tuple(found[name] for name in names) == expected


def test_samples_without_boxes_are_kept_where_asked_but_not_without_a_map():
    keep = decide(ROW | {"focus": None, "boxes": []}, ALL, 0.2, "keep")
    assert (keep["aligned"], keep["kept"]) == (None, True)
    assert decide(ROW | {"focus": None}, ALL, 0.2, "keep")["dropped_by"] == "alignment"
