"""Errors that a user can act on: each message names the value, what was expected and what to do."""

from typing import ClassVar


class GapcheckError(Exception):
    """Something that the command line reports in one line, and exits with `exit_status`."""

    exit_status: ClassVar[int] = 1


class UsageError(GapcheckError):
    """Wrong input or options."""

    exit_status = 2


class DamagedError(GapcheckError):
    """A file or folder that is damaged, missing, unfinished or of another version."""

    exit_status = 2


class UnsupportedModelError(UsageError):
    """A model whose attention or image tokens cannot be read."""


def one_line(error: BaseException | str, most: int = 300) -> str:
    """What somebody else's error says, on one line of at most `most` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else text[: most - 3] + "..."
