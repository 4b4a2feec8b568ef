"""One case in a process of its own, forked from one that has imported everything, with limits of time."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST = 500  # characters of an error
WAITING = 4  # times the limit of processor time that a case may take on the clock: the machine may be busy
SAID = re.compile(r"note:|failed|damaged|measured again|did you mean|cannot be|unknown field|left out|undefined", re.I)


@dataclass(frozen=True)
class Outcome:
    status: int  # 128 + N: ended by signal N
    output: str
    seconds: float


def fork(argv: Sequence[str], work: Path, seconds: int) -> tuple[int, float]:
    """(process, when it began): the command in `work`, all that it says in work/output."""
    pid = os.fork()
    if pid:
        return pid, time.monotonic()
    status = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        os.chdir(work)
        said = os.open(work / "output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", errors="backslashreplace") for fd in (1, 2))
        sys.argv = ["gapcheck", *argv]
        from perception_gap.cli import main

        main(list(argv))
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def wait(pid: int, began: float, work: Path, seconds: int) -> Outcome | None:
    """The outcome of a process that has ended or is over its time; None while it runs."""
    done, how = os.waitpid(pid, os.WNOHANG)
    took = time.monotonic() - began
    if not done and took < WAITING * seconds:
        return None
    if not done:
        os.killpg(pid, signal.SIGKILL)
        how = os.waitpid(pid, 0)[1]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what it started
    status = os.waitstatus_to_exitcode(how)
    output = (work / "output").read_text(errors="replace") if (work / "output").exists() else ""
    subprocess.run(["rm", "-rf", str(work)], check=False)  # as deep as a case has made it
    return Outcome(status if status >= 0 else 128 - status, output, took)


def fault(outcome: Outcome, expected: str) -> str:
    """What is wrong with how a case ended, "" if nothing is.

    expected: "bad" must be refused, "said" at least be spoken of, "good" be taken; "any" may be both.
    """
    if outcome.status in (128 + signal.SIGXCPU, 128 + signal.SIGKILL):
        return "hang"
    if "Traceback (most recent call last)" in outcome.output or outcome.status not in (0, 1, 2):
        return "traceback" if outcome.status < 128 else f"signal {outcome.status - 128}"
    errors = [line for line in outcome.output.splitlines() if line.startswith("gapcheck: error:")]
    if len(errors) > 1 or any(len(line) > LONGEST for line in errors):
        return "long message"
    if outcome.status and not outcome.output.strip():
        return "nothing said"
    if expected == "bad" and outcome.status == 0:
        return "accepted"
    if expected == "said" and outcome.status == 0 and not SAID.search(outcome.output):
        return "accepted in silence"
    return "refused" if expected == "good" and outcome.status else ""
