"""What would stop a plan hours later, said before its first step."""

from __future__ import annotations

from tempfile import TemporaryFile

from perception_gap.cli.reproduction.plan import Plan
from perception_gap.errors import UsageError
from perception_gap.storage.folders import make_folder


def check(plan: Plan) -> None:
    """UsageError, with the remedy, for a model or data of a later step that are not there; weights are not read."""
    from lavit.checkpoint import facts_of, has_latents
    from perception_gap.models.loading import check as check_model

    writable(plan)
    if len(plan.steps) > 1:  # a single step says it for itself
        for model in dict.fromkeys((*plan.given, *(model for step in plan.steps for model in step.loads))):
            check_model(model)
    given = plan.wanted.models.get("lavit")
    if given is not None and "lavit" in plan.names and not has_latents(facts_of(given)):
        raise UsageError(
            f"--lavit {given}: has no latent tokens; give a model that gapcheck train made with them, or the authors'"
        )
    data(plan)


def writable(plan: Plan) -> None:
    out = plan.wanted.out
    try:
        make_folder(out)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from None


def data(plan: Plan) -> None:
    """Visual-CoT's file and the benchmarks' data sets, where the plan needs them."""
    wanted = plan.wanted
    boxes = any(str(step.option("--data")).startswith("viscot:") for step in plan.steps)
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
