"""From a recipe to its command lines."""

from __future__ import annotations

from pathlib import Path

from perception_gap.cli.reproduction.plan import HUB, Plan, Step, Wanted
from perception_gap.cli.reproduction.recipes import Role, models_of

SAMPLES, TINY_SAMPLES = 1000, 480  # the paper's figure 2; the held-out scenes of docs/tiny-reproduction.md


def plan_of(wanted: Wanted) -> Plan:
    return _Planner(wanted).plan()


class _Planner:
    """Collects steps, each once, in the order in which they are needed."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.roles = models_of(wanted.target, tiny=wanted.tiny, retrain=wanted.retrain)
        self.steps: list[Step] = []

    def plan(self) -> Plan:
        wanted, recipe = self.wanted, self.wanted.recipe
        names = {name: self.model(name, role) for name, role in self.roles.items()}
        sources = self.benchmarks(names) if recipe.suite else self.analyses(names)
        rows = {names[name]: role.row for name, role in self.roles.items()}
        notes = recipe.notes
        if wanted.tiny:
            notes += recipe.tiny_notes
        if wanted.tiny and not wanted.retrain:
            notes += recipe.embedded_notes
        return Plan(wanted, tuple(self.steps), tuple(sources), rows, names, notes)

    def add(self, about: str, loads: tuple[str, ...], *argv: str) -> None:
        step = Step(argv, about, loads)
        if step not in self.steps:
            self.steps.append(step)

    def model(self, name: str, role: Role) -> str:
        """The model of a role: given, embedded, on the hub, or trained by steps that are added."""
        wanted = self.wanted
        if name in wanted.models:
            return wanted.models[name]
        if wanted.tiny and role.tiny and not (wanted.retrain and role.preset):
            return role.tiny
        return self.trained(name, role) if role.preset else HUB[name]

    def base(self, name: str) -> str:
        """Teacher or student, which need no step."""
        return self.wanted.models.get(name) or (f"tiny:{name}" if self.wanted.tiny else HUB[name])

    def traces(self) -> Path:
        wanted, teacher = self.wanted, self.base("teacher")
        if wanted.traces is not None:
            return wanted.traces
        out = wanted.out / "traces"
        options = self.data() + self.asking("48" if wanted.tiny else None)
        limit = wanted.trace_limit or (14400 if wanted.tiny else None)
        options += [] if limit is None else ["--limit", str(limit)]
        # Blind guessing is right half the time on two-choice scenes: the filter would leave one answer.
        options += ["--no-difficulty", "--max-new-tokens", "16"] if wanted.tiny else []
        self.add("the teacher's answers, gaze and states", (teacher,), "trace", teacher, *options, "--out", str(out))
        return out

    def trained(self, name: str, role: Role) -> str:
        wanted, student = self.wanted, self.base("student")
        traces = self.traces()
        scale = ["--scale", "tiny", "--cache-vision", str(wanted.out / "cache")] if wanted.tiny else []
        memory = () if wanted.tiny else ("bf16=true", "checkpointing=true")
        changes = [part for change in (*role.changes, *memory, *wanted.changes) for part in ("--set", change)]
        device = ["--device", wanted.device] if wanted.device else []
        self.add(
            f"trains {role.row}", (student,), "train", student, "--traces", str(traces), "--preset", str(role.preset),
            *scale, *changes, *device, "--out", str(wanted.out / name),
        )  # fmt: skip
        return str(wanted.out / name / "model")

    def asking(self, batch: str | None = None) -> list[str]:
        wanted = self.wanted
        size = str(wanted.batch_size) if wanted.batch_size else batch
        return [*wanted.asking, *(["--batch-size", size] if size else [])]

    def data(self) -> list[str]:
        """Pictures with boxes: drawn scenes, or Visual-CoT."""
        wanted = self.wanted
        if wanted.tiny:
            return ["--data", "scenes"]
        root = ["--image-root", str(wanted.image_root)] if wanted.image_root else []
        asked = ["--instruction", wanted.instruction] if wanted.instruction else []
        return ["--data", f"viscot:{wanted.viscot}", *root, *asked]

    def loaded(self, names: dict[str, str]) -> tuple[str, ...]:
        trained = {n for n in names if self.roles[n].preset and n not in self.wanted.models}
        return tuple(dict.fromkeys(self.base("student") if n in trained else name for n, name in names.items()))

    def benchmarks(self, names: dict[str, str]) -> list[Path]:
        wanted, recipe = self.wanted, self.wanted.recipe
        suite = recipe.tiny_suite if wanted.tiny else recipe.suite
        root = ["--data-root", str(wanted.data_root)] if wanted.data_root and not wanted.tiny else []
        limit = ["--limit", str(wanted.limit)] if wanted.limit else []
        options = ["--suite", suite, *root, *limit, *(["--gaze"] if recipe.gaze else []),
                   *self.asking("40" if wanted.tiny else None)]  # fmt: skip
        baseline = ["--baseline", names[recipe.baseline]] if recipe.baseline else []
        # Table 2 and figure 4 are one measurement: in one --out it is done once.
        out = wanted.out / ("bench-relative-depth" if recipe.gaze else f"bench-{wanted.target}")
        self.add("asks every model the same questions", self.loaded(names), "bench", *names.values(), *baseline,
                 *options, "--out", str(out))  # fmt: skip
        if not recipe.masked:
            return [out]
        first = next(iter(names))
        hidden = out.with_name(f"{out.name}-mask")
        self.add("the first again, with its latents hidden from the answer", self.loaded({first: names[first]}),
                 "bench", names[first], "--latents", "mask", *options, "--out", str(hidden))  # fmt: skip
        return [out, hidden]

    def analyses(self, names: dict[str, str]) -> list[Path]:
        """The teacher first, whose stored pass the others are compared with."""
        wanted = self.wanted
        shared = [
            *self.data(),
            "--limit",
            str(wanted.limit or (TINY_SAMPLES if wanted.tiny else SAMPLES)),
            *self.asking("48" if wanted.tiny else None),
        ]
        shared += ["--max-new-tokens", "16"] if wanted.tiny else []
        teacher = wanted.out / "teacher"
        found = []
        for name, model in names.items():
            out = teacher if name == "teacher" else wanted.out / f"{name}-vs-teacher"
            against = [] if name == "teacher" else ["--teacher", str(teacher)]
            about = "the teacher's own answers and maps" if name == "teacher" else "the same pictures, the same text"
            self.add(about, self.loaded({name: model}), "analyze", model, *against, *shared, "--no-figures",
                     "--out", str(out))  # fmt: skip
            found.append(out)
        return found
