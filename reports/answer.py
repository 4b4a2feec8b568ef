"""What a page or a command answers."""

from __future__ import annotations

from typing import NamedTuple


class Answer(NamedTuple):
    """A question, a short verdict, and the sentence with the numbers that it rests on."""

    question: str
    verdict: str
    reason: str

    @property
    def line(self) -> str:
        """For a terminal."""
        return f"{self.question} {self.verdict}: {self.reason}"
