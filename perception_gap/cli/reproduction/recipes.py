"""Each table and figure of LaViT (arXiv 2601.10129) as data: which models, asked what, shown how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Table A2's steps, of which 1,000 are the published setting (table A1).
STEPS, PUBLISHED_STEPS = (600, 800, 1000, 1200, 1400), 1000
LATENTS = (4, 6, 8)
TINY_STEPS = 400  # of a published 1,000: --scale tiny
# The presets of table 3 and A2 have a closing token, the paper's method has none: without it they differ by one thing.
PLAIN = "closing_token="


@dataclass(frozen=True)
class Role:
    """A model of the paper. row: its published row. tiny: the embedded model in its place, None without one.

    preset, changes: how it is trained (`gapcheck train --preset PRESET --set ..`), None for a model that is given.
    """

    row: str
    tiny: str | None = None
    preset: str | None = None
    changes: tuple[str, ...] = ()


ROLES: dict[str, Role] = {
    "teacher": Role("Qwen2.5-VL 32B", "tiny:teacher"),
    "middle": Role("Qwen2.5-VL 7B"),
    "student": Role("Qwen2.5-VL 3B", "tiny:student"),
    "sft": Role("Naive SFT 3B", "tiny:sft", "naive-sft"),
    "lavit": Role("LaViT 3B", "tiny:lavit", "paper"),
}
ABLATIONS = {
    "no-trajectory": "w/o Trajectory Alignment",
    "no-semantic": "w/o Semantic Reconstruction",
    "hard-gate": "w/o Curriculum Sensory Gating",
    "single-stage": "Single Stage Training",
}
ROLES |= {name: Role(f"LaViT 3B, {row}", f"tiny:{name}", name, (PLAIN,)) for name, row in ABLATIONS.items()}


def latent_roles(tiny: bool) -> dict[str, Role]:
    """Table A2's models by name, `k6-800` for K = 6 after 800 steps; those of the published steps are `lavit`, k6, k8.

    tiny: steps in the ratio of --scale tiny's 400 to the paper's 1,000 (240 to 560).
    """
    roles = {}
    for k in LATENTS:
        for steps in STEPS:
            usual = steps == PUBLISHED_STEPS
            name = ("lavit" if k == 4 else f"k{k}") if usual else f"k{k}-{steps}"
            schedule = steps * TINY_STEPS // PUBLISHED_STEPS if tiny else steps
            changes = (*(() if k == 4 else (PLAIN,)), *(() if usual else (f"steps={schedule}",)))
            row, preset = f"LaViT 3B, K = {k}, {steps} steps", "paper" if k == 4 else f"k{k}"
            roles[name] = Role(row, f"tiny:{name}" if usual else None, preset, changes)
    return roles


@dataclass(frozen=True)
class Target:
    """One table or figure. models: roles. baseline: the one that the others are compared with, "" for the first.

    suite, tiny_suite: what `gapcheck bench` asks, "" for an analysis (`gapcheck analyze`) of pictures with boxes.
    masked: the first model also with its latents hidden. show: a kind of `reports.tables.build`, a name of
    `reports.figures.figures_of`, or "overlays". notes: what a reader has to know; tiny_notes: of --tiny alone;
    embedded_notes: of the weights that ship.
    """

    title: str
    models: tuple[str, ...]
    show: str
    suite: str = ""
    tiny_suite: str = ""
    baseline: str = ""
    gaze: bool = False
    masked: bool = False
    notes: tuple[str, ...] = ()
    tiny_notes: tuple[str, ...] = ()
    embedded_notes: tuple[str, ...] = ()

    @property
    def is_table(self) -> bool:
        return self.show.startswith("table")


def scenes(*tasks: str) -> str:
    return ",".join(f"scenes_{task}" for task in tasks)


BLINK = ("blink_relative_depth", "blink_iq_test", "blink_relative_reflectance", "blink_spatial_relation")
CLOSING = (
    "the embedded {} have a closing token, tiny:lavit has none (docs/training.md): they differ by two things; "
    "--retrain trains all without one, as the paper"
)
MASKED_NOTE = (
    "without a closing token the last latent itself says the first word of an answer: hiding the latents cannot change "
    "an answer of one token"
)
TEACHER_AND_STUDENTS = ("teacher", "student", "lavit")
DEPTH: dict[str, Any] = {"suite": "blink_relative_depth", "tiny_suite": scenes("relative_depth")}
DEPTH |= {"models": TEACHER_AND_STUDENTS, "gaze": True, "baseline": "student"}
SCHEDULE_NOTE = (
    "each number of steps is a training of its own, to the end of its learning rate's schedule; the gate's warm-up "
    "stays that of table A1. The paper does not say whether it took checkpoints instead"
)
SEEN_NOTE = (
    "LaViT was trained on pictures of the same file: give another with --viscot (Visual-CoT's benchmark) for pictures "
    "that it never saw"
)

TARGETS: dict[str, Target] = {
    "table1": Target(
        "main results",
        ("student", "middle", "teacher", "sft", "lavit"),
        "table1",
        "paper",
        "scenes",
        tiny_notes=("there is no tiny model for the 7B",),
    ),
    "table2": Target("attention maps on relative depth: salient regions and entropy", show="table2", **DEPTH),
    "table3": Target(
        "ablations",
        ("lavit", *ABLATIONS),
        "table3",
        ",".join(("mmvp", *BLINK)),
        scenes("pairs", "relative_depth", "iq", "relative_reflectance", "spatial_relation"),
        masked=True,
        notes=(MASKED_NOTE,),
        embedded_notes=(CLOSING.format("ablations"),),
    ),
    "tableA2": Target(
        "latent tokens and training steps",
        ("student", "sft"),
        "tableA2",
        ",".join(("mmvp", *BLINK[1:])),
        scenes("pairs", "iq", "relative_reflectance", "spatial_relation"),
        notes=(SCHEDULE_NOTE,),
        tiny_notes=("240, 320, 400, 480, 560 steps stand for 600, 800, 1,000, 1,200, 1,400",),
        embedded_notes=(
            "only 400 steps, the K axis: the steps axis is trained with --retrain",
            CLOSING.format("tiny:k6 and tiny:k8"),
        ),
    ),
    "figure2": Target("focus and correctness of the teacher", ("teacher",), "focus_accuracy"),
    "figure3": Target(
        "divergence of the student from the teacher by kind of word", ("teacher", "student"), "divergence_by_category"
    ),
    "figure4": Target("entropy of the attention maps on relative depth", show="entropy", **DEPTH),
    "figure5": Target(
        "where baseline, teacher and LaViT look, on the same pictures",
        TEACHER_AND_STUDENTS,
        "overlays",
        notes=(SEEN_NOTE,),
        tiny_notes=("the scenes are held out",),
    ),
}


def models_of(target: str, *, tiny: bool, retrain: bool) -> dict[str, Role]:
    """The target's models by name, in the order of the comparison.

    Table A2's steps have no embedded models, so that they are trained (--retrain), or left out of a tiny table. Roles
    without a tiny model are absent with `tiny`.
    """
    roles = {name: ROLES[name] for name in TARGETS[target].models} | (latent_roles(tiny) if target == "tableA2" else {})
    return {name: role for name, role in roles.items() if not tiny or role.tiny or (retrain and role.preset)}
