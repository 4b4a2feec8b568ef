"""The command line as tests call it."""

from __future__ import annotations

from click.testing import CliRunner

from perception_gap.cli import main


def gapcheck(*arguments) -> tuple[int, str]:
    """Exit status and everything printed."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output
