"""Answers as models write them, and what they must count as."""

import itertools
import re

import pytest

from perception_gap.data.scenes import TASKS, scene
from perception_gap.errors import UsageError
from perception_gap.text.scoring import chosen_option, matches, normalize, option_letter, score

# (answer, number of options, letter)
LETTERS = [
    # the three of the specification
    ("A. The wings are open, not (b) closed", 4, "A"),
    ("The wall is a light blue, option D", 4, "D"),
    ("There is a butterfly", 4, None),
    # nothing but the letter
    ("b", 4, "B"), ("a", 4, "A"), ("A", 4, "A"), ("(C)", 4, "C"), ("[C]", 4, "C"), ("`C`", 4, "C"), ("I", 9, "I"),
    (" D.\n", 4, "D"), ("", 4, None), ("B", 0, None),
    # explicit statements
    ("the answer is B", 4, "B"), ("The answer is (B).", 4, "B"), ("Answer: (C)", 4, "C"), ("final answer: d", 4, "D"),
    ("**Answer:** C", 4, "C"), ("Answer: **C. red**", 4, "C"), ("Answer:\n\nB", 4, "B"), ("Answer: option B", 4, "B"),
    ("The correct choice would be (d)", 4, "D"), ("The answer to the question is B", 4, "B"),
    ("answer is definitely B", 4, "B"), ("The answer is b because it is red", 4, "B"),
    ("The answer is A because it is red", 4, "A"), ("The answer is a.", 4, "A"), ("B is the correct answer.", 4, "B"),
    ("Option C is correct", 4, "C"), ("I choose B", 4, "B"), ("I'd go with (C)", 10, "C"),
    ("Between A and B, the answer is B", 4, "B"), ("The answer is A. Wait, the answer is B.", 4, "B"),
    ("A. red B. blue. The answer is B", 4, "B"), ("A. It looks red. So the answer is C.", 4, "C"),
    ("The answer is A or B", 4, None), ("The answer is A or maybe B", 4, None), ("Answer: B and C", 4, None),
    ("The answer is either A or B", 4, None), ("The answer is not A but B", 4, "B"), ("Answer: Dog", 4, None),
    ("The answer is a butterfly", 4, None), ("Answer: A butterfly", 4, None), ("The answer is E", 4, None),
    # tags, boxes, bold
    ("<answer>B</answer>", 4, "B"), ("<think>maybe A or B</think><answer>C</answer>", 4, "C"),
    ("<think>A</think> B", 4, "B"),
    ("<think>The answer is B", 4, None), ("Answer: <b>C</b>", 4, "C"), ("\\boxed{B}", 4, "B"),
    ("The correct answer is $\\boxed{\\text{D}}$.", 4, "D"), ("First \\boxed{A}, then \\boxed{B}", 4, "B"),
    ("It must be **B**, not A", 4, "B"), ("**A** butterfly", 4, None),
    # leading letters
    ("(B) the red one", 4, "B"), ("C) red", 4, "C"), ("D: the dog", 4, "D"), ("D - the dog", 4, "D"),
    ("a) yes", 4, "A"),
    ("A\nThe wings are open", 4, "A"), ("A. red\nB. blue\nC. green", 4, None), ("(A) red (B) blue", 4, None),
    ("A. It is open, unlike (B) closed", 4, "A"),
    # a letter standing alone
    ("A butterfly", 4, None), ("A dog and option B", 4, "B"), ("It's A", 4, "A"), ("A is right", 4, "A"),
    ("A or B", 4, None),
    ("not B", 4, None), ("It is A, not B", 4, "A"), ("Neither A nor B", 4, None), ("B is wrong, so C", 4, "C"),
    ("B, because A is closed", 4, None), ("I think so", 10, None), ("I.e. red", 10, None), ("option d", 4, "D"),
    ("T-shirt", 26, None), ("U.S.A.", 26, None), ("C++", 4, None), ("Grade A+", 4, None),
    ("the small star is red", 26, None),
    ("e", 4, None), ("Plan A works", 4, None),
    # a last line that is a mere letter, unless it goes on with a list
    ("It is red.\nB", 4, "B"), ("A. red\nB. blue\nC", 4, None), ("A. red\nB. blue\nB", 4, "B"),
    ("A. red\nB. blue\nD", 4, "D"), ("A. red\nB. blue\n\n(A)", 4, "A"), ("so it is OPTION D here", 4, "D"),
    # ruled out behind the letter, and nothing else is named
    ("B is wrong", 4, None), ("Surely B isn't it", 4, None), ("C cannot be", 4, None),
    ("B is definitely not it", 4, None), ("option d is incorrect", 4, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "n", "letter"), LETTERS)
def test_option_letter(text, n, letter):
    assert option_letter(text, n) == letter


@pytest.mark.parametrize(("text", "n", "letter"), [case for case in LETTERS if case[2]])
def test_a_letter_beyond_the_options_never_counts(text, n, letter):
    assert option_letter(text, ord(letter) - ord("A")) != letter


NORMAL = {
    "The  RED star!": "red star",
    "Two cats, one dog": "2 cats 1 dog",
    "1,000.5 m": "1000.5 m",
    "It isn’t a T-shirt": "it isnt t shirt",
    "ＡＢＣ": "abc",
    "point a": "point a",
    "Is it a, or b?": "is it a or b",
    "-5 °C": "-5 c",
    "the": "the",
    "cafe\u0301": "caf\u00e9",
    "**red**": "red",
    " ?! ": "",
}


@pytest.mark.parametrize(("text", "normal"), NORMAL.items())
def test_normalize(text, normal):
    assert normalize(text) == normal
    assert normalize(normal) == normal


# (answer, reference, right)
MATCHES = [
    ("Red.", "red", True), ("the small star is red", "red", True), ("reddish", "red", False),
    ("The RED star!", "red star", True),
    ("**Red**", "red", True), ("Sure, red.", "red", True), ("No, it is red", "red", True),
    ("It's a T-shirt", "t shirt", True),
    ("It is Paris, France.", "Paris, France", True), ("Paris", "Paris, France", False),
    ("He lives in the U.S. now", "U.S.", True),
    # alternatives and lists
    ("red or blue", "red", False), ("either red or blue", "blue", False), ("red and blue", "red", False),
    ("red/blue", "blue", False),
    ("red, blue", "red", False), ("red, blue, green", "green", False), ("It is red. It is red or blue.", "red", False),
    # denied, contrasted, asked
    ("not red", "red", False), ("It isn't red", "red", False), ("red is not the color", "red", False),
    ("no red", "red", False),
    ("red, not blue", "red", True), ("red, not blue", "blue", False), ("neither red nor blue", "red", False),
    ("blue instead of red", "red", False), ("Is it red? No.", "red", False),
    ("point a is closer than point b", "point b", False), ("point a is closer than point b", "point a", True),
    # the letter a is no article
    ("point b is closer", "point a", False), ("point a is closer", "point a", True), ("A", "a", True),
    # yes and no
    ("yes, it is", "yes", True), ("Yes it is", "yes", True), ("No.", "no", True), ("No, there isn't.", "no", True),
    ("The answer is yes.", "yes", True), ("no, yes it is", "no", False), ("no, yes it is", "yes", False),
    ("yes or no", "no", False),
    ("yes, it is not", "yes", False), ("There is no dog", "no", False), ("none", "no", False),
    ("it is, yes", "no", False),
    # numbers
    ("Two", "2", True), ("there are two cats", "2", True), ("20", "2", False), ("2.5", "2", False), ("2-3", "2", False),
    ("-2", "2", False), ("1,000", "1000", True), ("more than two", "2", False),
    # only the final statement counts
    ("<think>blue</think>red", "blue", False), ("<answer>red</answer>", "red", True),
    ("Final answer: red. Blue is wrong", "blue", False),
    ("It could be blue or red. The answer is red.", "red", True), ("The answer is not red.", "red", False),
    # sentences
    ("The small star is red.", "the small star is red", True), ("the star is red", "the small star is red", False),
    ("the small star is red and blue", "the small star is red", False),
    ("", "", False), ("", "red", False), ("?", "?", True), ("?", "!", False),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reference", "right"), MATCHES)
def test_matches(answer, reference, right):
    assert matches(answer, reference) is right


@pytest.mark.parametrize(("answer", "reference", "right"), MATCHES)
def test_matches_ignores_case_width_blanks_and_a_final_stop(answer, reference, right):
    if answer and answer[-1].isalpha():
        answer += "."
    assert matches(f"  {answer.upper()} \n", reference) is right


WITH_MARKUP = [
    ("red", "<answer>red</answer>", True),
    ("<answer>red</answer>", "red", True),
    ("red", "<think>blue</think><answer>Red.</answer>", True),
    ("red", "<lvr>\n<answer> red </answer>", True),
    ("red", "\\boxed{red}", True),
    ("so \\boxed{\\text{red}}", "red", True),
    ("\\boxed{orange triangle}", "orange", False),
    ("red<|im_end|>", "red", True),
    ("red", "red</s>", True),
    ("red", "<lvr1><lvr2>red", True),
    ("<|begin_of_box|>red<|end_of_box|>", "red", True),
    ("\\boxed{\\frac{1}{2}}", "1/2", True),
    ("\\boxed{B}", "B", True),
]


@pytest.mark.parametrize(("answer", "reference", "right"), WITH_MARKUP)
def test_markup_is_taken_from_answer_and_reference_alike(answer, reference, right):
    assert score(answer, reference) is right
    assert score(reference, answer) is right


MARKED = ("point b", "point a")  # option A is point b
CHOSEN = [
    ("point a is closer", MARKED, 1), ("Point B is closer", MARKED, 0), ("Point B is the correct answer.", MARKED, 0),
    ("A. point b", MARKED, 0), ("B", MARKED, 1), ("The answer is B", MARKED, 1),
    ("point a is closer than point b", MARKED, 1),
    ("light blue", ("blue", "light blue"), 1), ("It is blue.", ("blue", "light blue"), 0),
    ("red or blue", ("red", "blue"), None),
    ("The wall is a light blue, option D", ("red", "blue", "green", "light blue"), 3),
    ("not red, blue", ("red", "blue"), 1),
    ("the star is red, not blue", ("blue", "red"), 1), ("The answer is red. Blue is wrong.", ("red", "blue"), 0),
    ("yes, it is", ("yes", "no"), 0), ("No, there is not.", ("yes", "no"), 1), ("Yes. No.", ("yes", "no"), None),
    ("A dog", ("cat", "dog"), 1), ("nothing", ("cat", "dog"), None), ("B", ("B", "A"), 0), ("two", ("1", "2"), 1),
    ("red", ("red", "Red"), None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "index"), CHOSEN)
def test_chosen_option(text, options, index):
    assert chosen_option(text, options) == index


def test_reference_may_be_a_letter_an_option_or_a_sentence():
    options = ("purple cross", "yellow triangle")
    for reference in ("B", "(b)", "yellow triangle", "the missing shape is a yellow triangle", "B. yellow triangle"):
        assert score("A yellow triangle.", reference, options)
        assert score("b", reference, options)
        assert not score("the missing shape is a purple cross", reference, options)
        assert not score("I cannot tell", reference, options)


def test_reference_that_names_no_option_is_an_error_that_lists_them():
    for reference in ("green", "purple cross or yellow triangle"):
        with pytest.raises(UsageError, match=r"does not name exactly one.*'purple cross', 'yellow triangle'"):
            score("purple cross", reference, ("purple cross", "yellow triangle"))


WITH_OPTION = {
    "attribute": lambda answer, option: re.sub(r"is \w+$", f"is {option}", answer),
    "relative_depth": lambda _, option: f"{option} is closer",
    "relative_reflectance": lambda _, option: f"{option} is darker",
    "spatial_relation": lambda answer, option: re.sub(r"left of|right of|above|below", option, answer),
    "pairs": lambda answer, option: re.sub(r"\w+$", option, answer),
    "iq": lambda _, option: f"the missing shape is {'an' if option[0] == 'o' else 'a'} {option}",
}


@pytest.mark.parametrize("task", TASKS)
def test_scenes_reference_is_right_and_every_other_option_is_wrong(task):
    scenes = [scene(task, i) for i in range(80)]
    asked = [s for s in scenes if s.options]
    assert len(asked) >= 20
    for s in scenes:
        assert score(s.answer, s.answer, s.options), s
        assert score(f"{s.answer[0].upper()}{s.answer[1:]}.", s.answer, s.options), s
    for s in asked:
        sentences = [WITH_OPTION[task](s.answer, option) for option in s.options]
        assert sentences.count(s.answer) == 1, s
        for letter, option, sentence in zip("ABCD", s.options, sentences, strict=False):
            for text in (sentence, option, letter, f"{letter}. {option}", f"The answer is ({letter})."):
                assert score(text, s.answer, s.options) is (sentence == s.answer), (text, s)
    free = [s for s in scenes if not s.options]
    for s, other in itertools.pairwise(free):
        assert score(other.answer, s.answer) is (other.answer == s.answer)
