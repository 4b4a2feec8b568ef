"""What is read from documents: worked by hand for every suite, and strict verdicts on them."""

from __future__ import annotations

import pytest

from benchmarks.suites.questions import Question, read

MMVP = {"Index": 4, "Question": "Are the wings open?", "Options": "(a) Open (b) Closed", "Correct Answer": "(b)"}
VSTAR = {
    "text": "What is the color of the glove? (A) rubber red (B) blue\nAnswer with the option's letter from the given "
    "choices directly.",
    "category": "direct_attributes", "label": "b", "question_id": "17",
}  # fmt: skip
BLINK = {
    "idx": "val_IQ_Test_3", "question": "Which picture?", "prompt": "Which picture?\n(A) ..", "sub_task": "IQ_Test",
    "choices": ["picture A", "picture B", "picture C"], "answer": "(C)",
}  # fmt: skip
MMSTAR = {
    "index": 9, "question": "What is it?\nOptions: A: A boat, B: A tree, C: A dog, D: A house", "answer": "C",
    "category": "math", "l2_category": "geometry",
}  # fmt: skip
HRBENCH = {
    "index": 5, "question": "Which colour?", "answer": "B", "category": "cross", "cycle_category": 2, "A": "Red",
    "B": "Blue", "C": "Green", "D": None,
}  # fmt: skip
HRBENCH_QUESTION = Question("5-2", "Which colour?", ("B",), ("Red", "Blue", "Green"), 3, None, "cross")
SCENE = {
    "id": "iq-7", "question": "Which one?", "answer": "star", "options": ["star", "disc"], "pair": "iq-7",
    "boxes": [[1.0, 2.0, 3.0, 4.0]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "doc", "target", "expected"),
    [
        ("mmvp", MMVP, "B", Question("4", "Are the wings open?", ("B",), ("Open", "Closed"), 2, "pair-1")),
        (
            "vstar_bench_direct_attributes", VSTAR, "b",
            Question(
                "17", "What is the color of the glove?", ("B",), ("rubber red", "blue"), 2, None, "direct_attributes"
            ),
        ),
        (
            "blink_iq_test", BLINK, "(C)",
            Question(
                "val_IQ_Test_3", "Which picture?", ("C",), ("picture A", "picture B", "picture C"), 3, None, "IQ_Test"
            ),
        ),
        (
            "mmstar", MMSTAR, "C",
            Question("9", "What is it?", ("C",), ("A boat", "A tree", "A dog", "A house"), 4, None, "math"),
        ),
        ("hrbench4k", HRBENCH, "B", HRBENCH_QUESTION),
        ("hrbench8k", HRBENCH, "B", HRBENCH_QUESTION),
        (
            "scenes_iq", SCENE, "star",
            Question("iq-7", "Which one?", ("star",), ("star", "disc"), 2, "iq-7", None, ((1.0, 2.0, 3.0, 4.0),)),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_suite_gives_its_question(task, doc, target, expected):
    assert read(task, doc, 0, target) == expected


@pytest.mark.parametrize(
    ("task", "doc", "target", "right", "wrong"),
    [
        ("mmvp", MMVP, "B", ["B", "(b)", "Closed", "The answer is B."], ["A", "Open", "", "no idea", "D"]),
        ("vstar_bench", VSTAR, "b", ["B", "blue", "B. blue"], ["A", "rubber red", "C", "rubber red or blue"]),
        ("blink_iq_test", BLINK, "(C)", ["C", "(C)", "picture C", "(C) picture C"], ["A", "picture A", "picture", ""]),
        ("mmstar", MMSTAR, "C", ["C", "a dog", "C: A dog"], ["A", "a boat", "A dog and a boat", "E"]),
        ("hrbench4k", HRBENCH, "B", ["B", "Blue", "It is blue."], ["A", "Red", "D", "Red or blue"]),
        ("scenes_iq", SCENE, "star", ["star", "A", "the star"], ["disc", "B", "square", ""]),
    ],
)
def test_letters_and_option_texts_are_judged_alike(task, doc, target, right, wrong):
    question = read(task, doc, 0, target)
    assert [answer for answer in right if question.strict(answer) is not True] == []
    assert [answer for answer in wrong if question.strict(answer) is not False] == []


def test_mmvp_pairs_are_1_2_and_3_4():
    pairs = [read("mmvp", MMVP | {"Index": i}, 0, "A").pair for i in range(1, 7)]
    assert pairs == ["pair-0", "pair-0", "pair-1", "pair-1", "pair-2", "pair-2"]
    assert read("mmvp", {**MMVP, "Index": None}, 2, "A").id == "3"


@pytest.mark.parametrize(
    "tail",
    [
        "Options: A: red, B: light blue, C: green, D: black",
        "Options:\nA. red\nB. light blue\nC. green\nD. black",
        "Options:\n(A) red\n(B) light blue\n(C) green\n(D) black",
        "Options: A) red, B) light blue, C) green, D) black",
        "Options: A : red,\nB : light blue,\nC : green,\nD : black,",
    ],
)
def test_mmstar_lists_options_in_several_spellings(tail):
    question = read("mmstar", MMSTAR | {"question": f"Which colour?\n{tail}"}, 0, "C")
    assert question.text == "Which colour?"
    assert question.options == ("red", "light blue", "green", "black")
    assert question.strict("green") is True
    assert question.strict("light blue") is False


def test_mmstar_without_listed_options_has_four_letters():
    question = read("mmstar", MMSTAR | {"question": "Which of A to D?"}, 0, "C")
    assert (question.options, question.n_options) == ((), 4)
    assert (question.strict("C"), question.strict("D"), question.strict("E")) == (True, False, False)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("A: 1, 2 and 3, B: 4, 5, C: none, D: all", ("1, 2 and 3", "4, 5", "none", "all")),
        ("A: vitamin C: high, B: vitamin D: low, C: x, D: y", ("vitamin C: high", "vitamin D: low", "x", "y")),
        ("A: the one at (B), B: the one at (C), C: x, D: y", ("the one at (B)", "the one at (C)", "x", "y")),
    ],
)
def test_option_texts_keep_commas_and_letters_of_their_own(listed, expected):
    assert read("mmstar", MMSTAR | {"question": f"Which?\nOptions: {listed}"}, 0, "C").options == expected


def test_v_star_options_keep_a_letter_out_of_turn():
    doc = VSTAR | {"text": "Where? (A) left of (D) (B) right of it", "label": "A"}
    assert read("vstar_bench", doc, 0, "A").options == ("left of (D)", "right of it")


@pytest.mark.parametrize(
    ("task", "doc"),
    [
        ("blink_jigsaw", BLINK | {"choices": ["image", "image", "other"], "answer": "(B)"}),
        ("mmstar", MMSTAR | {"question": "Which?\nOptions: A: image, B: image, C: a, D: b", "answer": "B"}),
        ("hrbench4k", HRBENCH | {"A": "image", "B": "image"}),
    ],
)
def test_of_options_with_equal_texts_only_the_letter_tells(task, doc):
    question = read(task, doc, 0, "B")
    assert question.strict("B") is True
    assert question.strict("A") is False
    assert question.strict("image") is False


@pytest.mark.parametrize(
    ("task", "doc"),
    [
        ("blink_iq_test", BLINK | {"answer": "hidden"}),  # BLINK's test split
        ("blink_jigsaw", BLINK | {"choices": ["image", "image"], "answer": "hidden"}),
        ("blink_iq_test", BLINK | {"answer": ""}),
        ("blink_iq_test", BLINK | {"choices": None}),
        ("mmstar", MMSTAR | {"question": "Which?", "answer": None}),
        ("mmstar", MMSTAR | {"question": "Which?", "answer": "E"}),
        ("vstar_bench", VSTAR | {"label": None}),
        ("hrbench4k", HRBENCH | {"answer": "D"}),  # which has no text
    ],
)
def test_without_a_right_answer_the_verdict_is_undefined(task, doc):
    question = read(task, doc, 0, None)
    assert question.strict("A") is None
    assert question.strict("hidden") is None


@pytest.mark.parametrize(
    ("doc", "target", "answer", "verdict"),
    [
        ({"question": "?"}, ["red", "crimson"], "crimson", True),  # any of a list
        ({"question": "?"}, ["red", "crimson"], "blue", False),
        ({"question": "?"}, "a red star", "a red star", True),  # free text
        ({"question": "?"}, 4, "four", True),
        ({"question": "?"}, "A", "A", None),  # a letter of options that the document does not give
        ({"question": "?"}, "(b).", "B", None),
        ({"question": "?"}, None, "None", None),
        ({"question": "?"}, [], "red", None),
        ({"question": "?", "choices": ["red", "blue"]}, "B", "blue", True),
        ({"question": "?", "options": ["red", "blue"]}, "blue", "B", True),
        ({"question": "?", "options": ["red", "blue"]}, "blue", "A", False),
        ({"question": "?", "options": ["red", "blue"]}, "green", "A", None),
        ({"question": "?", "options": ["2", "1"]}, 1, "1", None),  # the second option, or the text?
    ],
)
def test_a_task_without_a_reader_is_judged_by_its_target(doc, target, answer, verdict):
    assert read("some_task", doc, 0, target).strict(answer) is verdict


def test_a_task_without_a_reader_is_identified_by_what_it_has():
    assert read("some_task", {"question_id": 12, "prompt": "Why?"}, 3, "so") == Question("12", "Why?", ("so",), (), 0)
    assert read("some_task", {"query": "Why?"}, 3, "x").id == "3"
    # The name of a suite must be a whole part of the task's: "mmvpx" is another task.
    assert read("mmvpx", {"question": "?"}, 0, "x").pair is None
