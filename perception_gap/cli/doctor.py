"""`gapcheck doctor`: what this installation has, what it lacks, and which command would miss it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from perception_gap.cli.extras import EXTRAS, absent, pip_line
from perception_gap.tiny import TINY, WEIGHTS, embedded

DISTRIBUTION = "perception-gap"
PACKAGES = ("perception_gap", "lavit", "benchmarks", "reports")
ROOT = Path(__file__).resolve().parents[2]

# what -> (is it there?, what it is for, how to get it)
OPTIONAL: dict[str, tuple[Callable[[], object], str, str]] = {
    "spaCy's English model": (
        lambda: _importable("spacy") and _importable("en_core_web_sm"),
        "analyze: parts of speech by spaCy; without it by HanTa, which is installed",
        "pip install spacy && python -m spacy download en_core_web_sm",
    ),
    "bitsandbytes": (lambda: _importable("bitsandbytes"), "models in 8 or 4 bit", "pip install bitsandbytes"),
    "chromium": (
        lambda: any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
        "tests of the HTML page",
        "apt-get install chromium",
    ),
    "LaTeX": (
        lambda: shutil.which("pdflatex"),
        "tests that compile LaTeX tables",
        "apt-get install texlive-latex-recommended",
    ),
}


@click.command("doctor")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Print versions, devices, attention backends, shadowed packages, and what is missing for which command.

    Exit status 1 when something required is missing, too old or shadowed.

    \b
    Example:
      gapcheck doctor
    """
    packages, problems = required_packages()
    shadows = [problem for name in PACKAGES if (problem := shadowed(name))]
    section(
        "Versions", [("python", platform.python_version()), (DISTRIBUTION, installed(DISTRIBUTION) or "-"), *packages]
    )
    section("Devices", devices())
    section("Attention", attention_backends())
    section("Embedded models", embedded_models())
    section("Packages", [(name, str(location(name) or "not found")) for name in PACKAGES])
    section("Extras", [(extra, extra_state(extra)) for extra in EXTRAS])
    section("Optional", [optional(name, *entry) for name, entry in OPTIONAL.items()])
    for problem in (*problems, *shadows):
        click.echo(f"problem: {problem}", err=True)
    if problems or shadows:
        ctx.exit(1)
    click.echo("Everything required is here.")


def section(title: str, lines: list[tuple[str, str]]) -> None:
    click.echo(title)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"  {name:<{width}}  {text}")


def installed(name: str) -> str | None:
    """The version of a distribution, None when it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _importable(module: str) -> bool:
    return find_spec(module) is not None


def required_packages() -> tuple[list[tuple[str, str]], list[str]]:
    """(name, version) of every dependency, and a problem for each that is missing or too old.

    Of the extras those packages that are installed; `extra_state` names the others.
    """
    if installed(DISTRIBUTION) is None:
        return [], [f"{DISTRIBUTION} is not installed for {sys.executable}: run `pip install -e .` in its checkout"]
    lines, problems = [], []
    for requirement in metadata.requires(DISTRIBUTION) or ():
        wanted, _, marker = requirement.partition(";")
        name = re.split(r"[\s<>=!~\[]", wanted, maxsplit=1)[0]
        version = installed(name)
        of_extra = re.search(r"extra == ['\"](\w+)", marker)
        if of_extra and (of_extra[1] not in EXTRAS or version is None):
            continue
        lines.append((name, version or "missing"))
        if version is None:
            problems.append(f"{name} is missing: pip install '{wanted}'")
        elif not satisfies(version, wanted):
            problems.append(f"{name} {version} is too old or too new: pip install '{wanted}'")
    return sorted(lines, key=lambda line: line[0].lower()), problems


def satisfies(version: str, requirement: str) -> bool:
    """Whether a version is one that the requirement allows; True where `packaging` is not there to say."""
    if not _importable("packaging"):
        return True
    from packaging.requirements import Requirement

    return Requirement(requirement).specifier.contains(version, prereleases=True)


def extra_state(extra: str) -> str:
    """What of an extra is missing, for which command, and the line that installs it."""
    missing = absent(extra)
    if not missing:
        return "present"
    return f"missing {', '.join(missing)} ({EXTRAS[extra].needed_by}); {pip_line(extra)}"


def location(name: str) -> Path | None:
    """The folder that `import name` would take, without importing it."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if places:
        return Path(places[0]).resolve()
    return Path(spec.origin).resolve() if spec and spec.origin else None


def shadowed(name: str) -> str | None:
    """What is wrong with `import name`, and the remedy; None when it takes the package beside this one."""
    place = location(name)
    if place == ROOT / name:
        return None
    if place is None:
        return f"{name} cannot be imported: run `pip install -e .` in the checkout, or install {DISTRIBUTION} again"
    owners = [d for d in metadata.packages_distributions().get(name, ()) if d != DISTRIBUTION]
    remedy = f"pip uninstall {' '.join(sorted(set(owners)))}" if owners else f"take {place.parent} off PYTHONPATH"
    return f"{name} is shadowed by {place}, ours is {ROOT / name}: {remedy}, or use an environment of its own"


def _torch() -> Any | None:
    try:
        return import_module("torch")
    # A torch whose shared libraries do not load raises OSError; doctor is there to say so.
    except (ImportError, OSError):
        return None


def devices() -> list[tuple[str, str]]:
    """CPU cores and memory, and every accelerator that torch sees."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [("cpu", f"{cores} cores, {platform.machine()}")]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        lines.append(("memory", gib(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))))
    torch = _torch()
    if torch is None:
        return [*lines, ("torch", "cannot be imported: no accelerator can be seen")]
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        lines.append((f"cuda:{i}", f"{properties.name}, {gib(properties.total_memory)}"))
    if not torch.cuda.is_available():
        lines.append(("cuda", "none"))
    lines.append(("mps", "available" if torch.backends.mps.is_available() else "none"))
    return lines


def gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def attention_backends() -> list[tuple[str, str]]:
    """The kernels that scaled_dot_product_attention may choose from, and the separate flash-attn package."""
    torch = _torch()
    if torch is None:
        return [("sdpa", "torch cannot be imported")]
    switches = (("flash", "flash"), ("memory-efficient", "mem_efficient"), ("cudnn", "cudnn"), ("math", "math"))
    enabled = [name for name, switch in switches if getattr(torch.backends.cuda, f"{switch}_sdp_enabled", bool)()]
    return [("sdpa", ", ".join(enabled) or "none"), ("flash-attn", installed("flash-attn") or "not installed")]


def embedded_models() -> list[tuple[str, str]]:
    """The models that ship inside the package, with the size of their weights."""
    lines = []
    for name in embedded():
        size = sum(file.stat().st_size for file in (WEIGHTS / name.removeprefix(TINY)).glob("*.safetensors"))
        lines.append((name, f"{size / 2**20:.1f} MiB"))
    return lines or [("tiny:*", f"missing: no weights under {WEIGHTS}; demo and tiny:* need them, reinstall")]


def optional(name: str, present: Callable[[], object], purpose: str, remedy: str) -> tuple[str, str]:
    return name, "present" if present() else f"missing ({purpose}); {remedy}"
