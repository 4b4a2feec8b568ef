"""Sentences as answers to a short reference: containing it is not stating it."""

import re

import pytest

from perception_gap.text.scoring import score
from perception_gap.text.statements import number_stated, phrases

# reference: (right answers, wrong answers)
ANSWERS = {
    ".97": (
        "The value is .97",
        "",
    ),
    "87": (
        "The value is 87%.",
        "",
    ),
    "orange": (
        "The triangle is orange",
        "the missing shape is an orange triangle | an orange, a triangle | The orange triangle",
    ),
    "triangle": (
        "",
        "the missing shape is an orange triangle",
    ),
    "orange triangle": (
        "the missing shape is an orange triangle",
        "orange",
    ),
    "red": (
        """The colour is red. | The color of the star is red. | It is red | It's red.
        The star in the image is red. | The star is red in the image. | I think it is red
        I think that the star is red because it is bright | The star appears to be red
        The star appears red | Red, because it is bright. | maybe red | not sure, red
        Red. It is a red star.""",
        """dark red | It is dark red | not red | red or blue | red and blue | It is red and blue
        It's not red | red triangle | There is a red triangle | a red one | The red star is small
        red with white stripes | blue, not red | The apple is the red one | is it red?""",
    ),
    "blue": (
        "it is not red but blue",
        "",
    ),
    "small": (
        "The red star is small",
        "",
    ),
    "dog": (
        "A dog is on the sofa. | I see a dog | The answer is a dog.",
        "",
    ),
    "man": (
        "The man is wearing a hat",
        "",
    ),
    "hat": (
        "The man is wearing a hat",
        "",
    ),
    "star": (
        "",
        "The star is red | The circle is left of the star | That red star",
    ),
    "left": (
        "The circle is to the left of the star | the circle is on the left",
        "",
    ),
    "2": (
        "There are two cats in the image.",
        "2 million | two hundred | 3 red and 2 blue",
    ),
    "stop": (
        "The sign says STOP",
        "",
    ),
    "roja": (
        "La estrella es roja",
        "La estrella no es roja",
    ),
    "rot": (
        "Der Stern ist rot",
        "Der Stern ist nicht rot",
    ),
    "rouge": (
        "C'est rouge",
        "",
    ),
    "yes": (
        "Yes, it is",
        "no",
    ),
    "bank": (
        "",
        "bank of america",
    ),
    "not red": (
        "",
        "red",
    ),
}


def _cases(table):
    return [
        (answer.strip(), reference, right)
        for reference, sides in table.items()
        for right, answers in zip((True, False), sides, strict=True)
        for answer in re.split(r" \| |\n", answers)
        if answer.strip()
    ]


@pytest.mark.parametrize(("answer", "reference", "right"), _cases(ANSWERS))
def test_sentence_is_right_if_a_template_frees_the_reference_from_it(answer, reference, right):
    assert score(answer, reference) is right


def test_phrases_of_a_clause():
    freed = [" ".join(p) for p in phrases(["colour", "of", "star", "is", "red", "in", "image"])]
    assert {"red", "red in image", "colour of star is red in image"} <= set(freed)
    assert not {"star", "colour"} & set(freed)


@pytest.mark.parametrize(
    ("phrase", "number"), [("2 cats", "2"), ("2", "2"), ("2 million", None), ("2 red 3 blue", None), ("cats 2", None)]
)
def test_number_of_a_phrase(phrase, number):
    assert number_stated(phrase.split()) == number
