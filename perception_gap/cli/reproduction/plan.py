"""A reproduction as it was asked for, and the steps that it takes: `--dry-run` prints the very ones that run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from perception_gap.cli.reproduction.recipes import TARGETS, Target
from perception_gap.storage.redaction import public_command

HUB = {
    "teacher": "Qwen/Qwen2.5-VL-32B-Instruct", "middle": "Qwen/Qwen2.5-VL-7B-Instruct",
    "student": "Qwen/Qwen2.5-VL-3B-Instruct",
}  # fmt: skip
# The image size of training (table A1), for every model: their own would compare models that see more with others.
PIXELS = ("--min-pixels", "200704", "--max-pixels", "1003520")


@dataclass(frozen=True)
class Step:
    """One gapcheck command. loads: the models that it reads, one at a time, a trained one by what it started from."""

    argv: tuple[str, ...]
    about: str
    loads: tuple[str, ...]

    @property
    def line(self) -> str:
        """What a shell takes."""
        return public_command(self.argv)

    @property
    def command(self) -> str:
        return self.argv[0]

    def option(self, name: str) -> str | None:
        """The value behind an option of the line, None without it."""
        return self.argv[self.argv.index(name) + 1] if name in self.argv else None


@dataclass(frozen=True)
class Wanted:
    """The options of `gapcheck reproduce`. models: names or folders by role; asking: options of every measurement."""

    target: str
    out: Path
    tiny: bool = False
    retrain: bool = False
    models: dict[str, str] = field(default_factory=dict)
    traces: Path | None = None
    data_root: Path | None = None
    viscot: Path | None = None
    image_root: Path | None = None
    instruction: str = ""
    limit: int | None = None
    trace_limit: int | None = None
    changes: tuple[str, ...] = ()
    batch_size: int | None = None
    asking: tuple[str, ...] = ()
    device: str | None = None

    @property
    def recipe(self) -> Target:
        return TARGETS[self.target]


@dataclass(frozen=True)
class Plan:
    """The steps in their order, the folders that the table or figure is made of, and who stands for which row.

    sources: measurements, in the order of their models. rows: model -> published row. names: role -> model.
    """

    wanted: Wanted
    steps: tuple[Step, ...]
    sources: tuple[Path, ...]
    rows: dict[str, str]
    names: dict[str, str]
    notes: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "table" if self.wanted.recipe.is_table else "figure"

    @property
    def given(self) -> list[str]:
        """The models that no step trains."""
        made = {str(self.wanted.out / name / "model") for name in self.names}
        return [name for name in self.names.values() if name not in made]
