"""Numbers that are equal are written equally; what is no number stays as it is."""

import pytest

from perception_gap.text.normalisation import words
from perception_gap.text.scoring import score

SAME = [
    ("0.87", [".87", "0.870", "0,87", "+.87", "．８７", "٠٫٨٧", "$.87", ".87."]),
    ("-0.5", ["-.5", "−.5", "–.5", "-0.50", "-$.5", "$-.5"]),
    ("1000.5", ["1,000.50", "1.000,50", "1\u202f000.5", "1'000.5", "$1,000.50"]),
    ("1234567", ["1,234,567", "1.234.567", "１２３４５６７", "1234567.0"]),
    ("1000", ["1e3", "1,000", "1E+3", "1000."]),
    ("0.0015", ["1.5e-3", ".0015"]),
    ("87", ["87%", "87 %", "87 percent", "87 per cent", "87.", "87.0", "87.00"]),
    ("0", ["-0", "0.0", "zero", ".0"]),
    ("1/2", ["½", "1⁄2"]),
    ("1 1/2", ["1½"]),
    ("0.5kg", [".5kg", "0,5kg", "0.50KG"]),
    ("12.05.2026", ["12.05.2026."]),
]


@pytest.mark.parametrize(("normal", "written"), SAME)
def test_equal_numbers_are_written_equally(normal, written):
    assert [" ".join(words(text)) for text in [normal, *written]] == [normal] * (len(written) + 1)
    for text in written:
        assert score(text, normal)
        assert score(normal, text)


DIFFERENT = [
    ("87", ".87"),
    (".5", "5"),
    ("97", ".97"),
    ("-.5", ".5"),
    ("87%", "0.87"),
    ("10²", "102"),
    ("1½", "11/2"),
    ("007", "7"),
    ("1/2", "12"),
    ("1/2", "1"),
    ("24/7", "24"),
    ("3.14", "314"),
    ("1,000.50", "100050"),
    ("2nd", "2"),
    ("5kg", "5"),
    ("1.5.1", "1.5"),
    ("1,2,3", "123"),
    ("2-3", "23"),
    ("1e999", "1"),
    ("0,87", "87"),
    ("0,87", "087"),
    ("12.05.2026", "12.05"),
    ("1 000", "1"),
]


@pytest.mark.parametrize(("answer", "reference"), DIFFERENT)
def test_different_numbers_stay_different(answer, reference):
    assert not score(answer, reference)
    assert not score(reference, answer)


@pytest.mark.parametrize(
    ("answer", "right"),
    [("87", False), ("0.87", True), (".87", True), ("The value is .87", True), ("It is 0.870.", True), (".8", False)],
)
def test_published_reference_with_a_leading_dot(answer, right):
    assert score(answer, ".87") is right
