"""The fuzzer tells faults from refusals; the cases themselves are run by `python -m tests.fuzz`."""

import pytest

from tests.fuzz.run import Outcome, fault

ERROR = "gapcheck: error: --out x: cannot be written; choose another\n"


@pytest.mark.parametrize(
    ("status", "output", "expected", "found"),
    [
        (0, "run x\n", "any", ""),
        (2, ERROR, "bad", ""),
        (2, ERROR, "good", "refused"),
        (0, "run x\n", "bad", "accepted"),
        (0, "run x\n", "said", "accepted in silence"),
        (0, "note: 1 of 2 samples failed\n", "said", ""),
        (70, "Traceback (most recent call last):\nKeyError\n", "bad", "traceback"),
        (1, "Traceback (most recent call last):\nKeyError\n", "any", "traceback"),
        (139, "", "any", "signal 11"),
        (152, "", "any", "hang"),
        (2, ERROR * 2, "any", "long message"),
        (2, ERROR.replace("x", "x" * 600), "any", "long message"),
        (1, "", "any", "nothing said"),
    ],
)
def test_how_a_case_ended_is_judged(status, output, expected, found):
    assert fault(Outcome(status, output, 1.0), expected) == found
