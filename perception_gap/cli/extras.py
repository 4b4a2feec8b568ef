"""Packages that only some commands need: the extra that brings each, and what is said where it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from perception_gap.errors import UsageError


@dataclass(frozen=True)
class Extra:
    """packages: module → distribution, as in pyproject.toml; needed_by: which commands, in words."""

    packages: dict[str, str]
    needed_by: str


EXTRAS = {
    "bench": Extra({"lmms_eval": "lmms-eval", "statsmodels": "statsmodels"}, "bench; reproduce of what it benchmarks"),
    "train": Extra({"peft": "peft"}, "train with lora_rank; PEFT adapters as models"),
}


def absent(extra: str) -> list[str]:
    """The distributions of an extra that are not installed."""
    return [name for module, name in EXTRAS[extra].packages.items() if find_spec(module) is None]


def pip_line(extra: str) -> str:
    return f"pip install 'perception-gap[{extra}]'"


def lacking(command: str, error: ModuleNotFoundError) -> UsageError | None:
    """What a command says of a module that cannot be imported; None where no extra brings it, or it is there."""
    module = (error.name or "").partition(".")[0]
    for extra, brings in EXTRAS.items():
        if (name := brings.packages.get(module)) and name in absent(extra):
            return _needs(command, name, extra)
    return None


def require(command: str, extra: str) -> None:
    """UsageError where an extra is missing that a command will need only later, after hours of other work."""
    for name in absent(extra):
        raise _needs(command, name, extra)


def _needs(command: str, name: str, extra: str) -> UsageError:
    return UsageError(f"{command} needs {name}, which is not installed; {pip_line(extra)}")
