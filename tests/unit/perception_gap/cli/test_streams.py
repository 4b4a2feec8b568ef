"""What the caller closed is no reason to fail."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("closed", "arguments", "status"), [
    (">&-", "--version", 0), (">&-", "tables nowhere", 2), ("2>&-", "tables nowhere", 2), (">&- 2>&-", "--help", 0),
])  # fmt: skip
def test_closed_streams(closed, arguments, status):
    command = f"exec '{sys.executable}' -m perception_gap {arguments} {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr.count("\n") == ("2>&-" not in closed and status == 2)
    assert "Traceback" not in done.stderr
