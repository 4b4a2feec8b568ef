"""REPRODUCTION-TARGET.md: what was run, with which versions, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from perception_gap.cli.reproduction.plan import Plan


def page(plan: Plan, again: str, finding: str, files: Sequence[Path]) -> str:
    """Markdown. again: the command that makes all of it; files: the table or figure."""
    from perception_gap.runs.key import versions

    wanted = plan.wanted
    lines = "\n".join(step.line for step in plan.steps)
    used = versions() | {name: version(name) for name in ("lmms-eval", "datasets")}
    notes = "".join(f"- {note}\n" for note in plan.notes)
    models = "\n".join(f"| {plan.rows[model]} | `{model}` |" for model in plan.names.values())
    return f"""# {wanted.target}: {wanted.recipe.title}

{finding}

Of LaViT (arXiv 2601.10129). {", ".join(f"[{file.name}]({file.name})" for file in files)}. {_what(plan)}

{notes}
| in the paper | here |
|---|---|
{models}

`{again}` did:

```console
{lines}
```

Versions: {", ".join(f"{name} {number}" for name, number in used.items())}.
"""


def _what(plan: Plan) -> str:
    if not plan.wanted.tiny:
        return "Each folder's run.json or train.json has revisions, settings and data hashes."
    trained = "trained anew" if plan.wanted.retrain else "their embedded weights (perception_gap/tiny/weights)"
    return (
        f"Tiny models of a million parameters on drawn scenes, {trained}: no figure here is one of the paper's models."
    )
