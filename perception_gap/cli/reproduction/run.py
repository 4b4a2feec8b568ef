"""Doing a plan: what would stop it hours later, said first; its steps as the command line runs them, or printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from tempfile import TemporaryFile

from perception_gap.cli.reproduction.plan import Plan, Step
from perception_gap.errors import UsageError
from perception_gap.storage.folders import make_folder


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
            left = f"what is computed stays in {plan.wanted.out}: mend it and repeat the same reproduce command"
            print(f"gapcheck: step {i} of {len(plan.steps)} ended with status {status}; {left}", file=sys.stderr)
            return status
    return 0


def call(step: Step) -> int:
    """The exit status of a command line, run in this process as the shell would run it."""
    from perception_gap.cli import main

    status: object = 0
    # sys.argv is what a run directory keeps as the command that made it.
    before, sys.argv = sys.argv, ["gapcheck", *step.argv]
    try:
        main(step.argv)
    except SystemExit as ended:  # how every gapcheck command ends
        status = ended.code
    finally:
        sys.argv = before
    return status if isinstance(status, int) else int(status is not None)


def refuse_early(plan: Plan) -> None:
    """UsageError, with the remedy, for a model or data of a later step that are not there; weights are not read."""
    from lavit.checkpoint import facts_of, has_latents
    from perception_gap.models.loading import require_supported

    _writable(plan)
    if len(plan.steps) > 1:  # a single step says it for itself
        for model in dict.fromkeys((*plan.given, *(model for step in plan.steps for model in step.loads))):
            require_supported(model)
    given = plan.wanted.models.get("lavit")
    if given is not None and "lavit" in plan.names and not has_latents(facts_of(given)):
        raise UsageError(
            f"--lavit {given}: has no latent tokens; give a model that gapcheck train made with them, or the authors'"
        )
    _data_there(plan)


def _writable(plan: Plan) -> None:
    out = plan.wanted.out
    try:
        make_folder(out)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from None


def _data_there(plan: Plan) -> None:
    """Visual-CoT's file and the benchmarks' data sets, where the plan needs them."""
    wanted = plan.wanted
    boxes = any(str(step.options.get("data")).startswith("viscot:") for step in plan.steps)
    if boxes and wanted.viscot is not None and not wanted.viscot.is_file():
        raise UsageError(
            f"--viscot {wanted.viscot}: no such file; gapcheck reproduce {wanted.target} --dry-run says how to fetch it"
        )
    if wanted.tiny or not wanted.recipe.suite or plan.steps[0].command == "bench":
        return
    from benchmarks.suites.sources import table_of
    from perception_gap.cli.reproduction.needs import definitions

    for task, definition in definitions(wanted.recipe.suite).items():
        table_of(task, definition, wanted.data_root)
