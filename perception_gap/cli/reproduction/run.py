"""Doing a plan: its steps as the command line runs them, or printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perception_gap.cli.reproduction.plan import Plan, Step


def printed(plan: Plan, again: str) -> Iterator[str]:
    """The plan as a shell script: the command of every step, and in comments what it needs. again: the reproduction."""
    from perception_gap.cli.reproduction import needs

    wanted = plan.wanted
    yield f"# {wanted.target}: {wanted.recipe.title}, of LaViT (arXiv 2601.10129); {len(plan.steps)} steps"
    for i, step in enumerate(plan.steps, 1):
        yield ""
        yield f"# {i}. {step.about}"
        yield step.line
        if not wanted.tiny:
            yield from (f"#    {line}" for line in needs.needs(step))
    yield ""
    if not wanted.tiny:
        fetched = needs.fetches(wanted.recipe.suite) if wanted.recipe.suite else []
        yield from (f"# data by hand, then --data-root DATA: {line}" for line in fetched)
        yield "# Estimates follow the formulas of perception_gap/cli/reproduction/needs.py; none was measured."
    yield from (f"# note: {note}" for note in plan.notes)
    yield f"# Repeated without --dry-run, this does the steps and makes the {plan.kind} of what they leave:"
    yield again


def run_steps(plan: Plan, *, say: Callable[[str], None]) -> int:
    """0, or the exit status of the first step that fails; steps that are done already find that themselves."""
    for i, step in enumerate(plan.steps, 1):
        say(f"[{i}/{len(plan.steps)}] {step.about}\n$ {step.line}")
        status = call(step)
        if status:
            print(
                f"gapcheck: step {i} of {len(plan.steps)} ended with status {status}; what is computed stays in "
                f"{plan.wanted.out}: mend it and repeat the same reproduce command", file=sys.stderr,
            )  # fmt: skip
            return status
    return 0


def call(step: Step) -> int:
    """The exit status of a command line, run in this process as the shell would run it."""
    from perception_gap.cli import main

    status: object = 0
    try:
        with as_argv(["gapcheck", *step.argv]):
            main(list(step.argv))
    except SystemExit as ended:  # how every gapcheck command ends
        status = ended.code
    return status if isinstance(status, int) else int(status is not None)


@contextmanager
def as_argv(argv: list[str]) -> Iterator[None]:
    """While open, sys.argv is the step's: that is what a run directory keeps as the command that made it."""
    before, sys.argv = sys.argv, argv
    try:
        yield
    finally:
        sys.argv = before
