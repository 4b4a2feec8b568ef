"""Imports run down the listing; the command line alone looks at the other packages, inside its functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("perception_gap", "lavit", "benchmarks", "reports", "scripts")
# The folders and modules of `perception_gap` from the ground up: each may import itself and those before it, whether
# at the top of a module, inside a function or for types alone.
ORDER = (
    *("errors", "grid", "storage", "sample", "geometry", "text", "stats", "data", "tiny", "models", "attention"),
    *("gaze", "metrics", "runs", "knockout", "measure", "compare", "cli"),
)
# What may be imported at the top of a module of another package, and in addition inside a function.
ALLOWED = {
    "perception_gap": (("perception_gap",), ()),
    "perception_gap.cli": (("perception_gap",), ("lavit", "benchmarks", "reports")),
    "lavit": (("lavit", "perception_gap"), ()),
    "benchmarks": (("benchmarks", "perception_gap"), ("lavit",)),
    "reports": (
        (
            "reports",
            "benchmarks.published",
            *(f"perception_gap.{name}" for name in ("errors", "grid", "storage", "sample", "geometry", "stats")),
            *(f"perception_gap.{name}" for name in ("data.images", "runs")),
            *(f"perception_gap.metrics.{name}" for name in ("table", "measure", "columns")),  # what is declared
            "perception_gap.metrics.means.of_gaze",  # of the part of a teacher's samples that others were asked
        ),
        (),
    ),
    "scripts": (OURS, ()),  # and nobody else may import it: no wheel holds it
}


def imports(tree: ast.AST, module: str, is_package: bool, lazy: bool = False) -> Iterator[tuple[str, int, bool]]:
    """(dotted name, line, whether in a function or for types alone) of every import below a node, relative ones too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            base = parents[: len(parents) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{origin}.{alias.name}", node.lineno, lazy) for alias in node.names)
        else:
            for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            inside = lazy or for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, module, is_package, inside)


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def place(name: str) -> int | None:
    """Where a dotted name stands in ORDER; None outside of it (the top of the package is a door, not a room)."""
    parts = name.split(".")
    return ORDER.index(parts[1]) if parts[0] == "perception_gap" and len(parts) > 1 and parts[1] in ORDER else None


def upwards(importer: str, name: str) -> bool:
    """Whether a module of `perception_gap` imports what stands after it."""
    mine, other = place(importer), place(name)
    return mine is not None and other is not None and other > mine


def private(importer: str, name: str) -> bool:
    """Whether a name with a leading underscore crosses a file; a private module serves its own folder."""
    *path, last = name.split(".")
    hidden = [part for part in path if part.startswith("_") and not part.startswith("__")]
    own_folder = not hidden or below(importer, ".".join(path[: path.index(hidden[0])]))
    return (last.startswith("_") and not last.startswith("__")) or not own_folder


def violations(root: Path) -> list[str]:
    """MODULE:LINE imports NAME, for every import of ours that the tables above do not allow."""
    faults = []
    for path in sorted(p for package in OURS for p in (root / package).rglob("*.py")):
        is_package = path.name == "__init__.py"
        module = ".".join(path.relative_to(root).with_suffix("").parts[: -1 if is_package else None])
        rule = max((package for package in ALLOWED if below(module, package)), key=len)
        top, inside = ALLOWED[rule]
        for name, line, lazy in imports(ast.parse(path.read_text(encoding="utf-8")), module, is_package):
            if not any(below(name, package) for package in OURS):
                continue
            allowed = any(below(name, package) for package in (*top, *(inside if lazy else ())))
            if not allowed or upwards(module, name) or private(module, name):
                faults.append(f"{module}:{line} imports {name}")
    return faults


def test_imports_run_down_the_listing():
    assert violations(ROOT) == []


def test_every_folder_has_its_place_in_the_order():
    there = {path.stem for path in (ROOT / "perception_gap").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__main__", "__pycache__", "py"} == set(ORDER)


@pytest.mark.parametrize(
    ("file", "code", "allowed"),
    [
        ("perception_gap/a.py", "import lavit", False),
        ("perception_gap/a.py", "def f():\n    from reports import tables", False),
        ("perception_gap/a.py", "import torch, perception_gap.runs", True),
        ("perception_gap/runs/a.py", "from perception_gap.storage.files import x", True),
        ("perception_gap/storage/a.py", "from perception_gap.runs import x", False),
        ("perception_gap/attention/a.py", "def f():\n    from perception_gap import runs", False),
        ("perception_gap/metrics/a.py", "if TYPE_CHECKING:\n    import perception_gap.measure.x", False),
        ("perception_gap/metrics/a.py", "from perception_gap.stats.x import _hidden", False),
        ("perception_gap/metrics/a.py", "from perception_gap.metrics._arrays import pair", True),
        ("perception_gap/measure/a.py", "from perception_gap.metrics._arrays import pair", False),
        ("perception_gap/cli/a.py", "from reports import tables", False),
        ("perception_gap/cli/a.py", "def f():\n    from reports import tables", True),
        ("perception_gap/cli/a.py", "if True:\n    import reports", False),
        ("perception_gap/cli/a.py", "if TYPE_CHECKING:\n    import reports", True),
        ("lavit/a.py", "if TYPE_CHECKING:\n    import reports", False),
        ("lavit/a.py", "from perception_gap.geometry import TokenGeometry", True),
        ("lavit/a.py", "import benchmarks.suites", False),
        ("benchmarks/a.py", "import lavit", False),
        ("benchmarks/a.py", "def f():\n    import lavit.generate", True),
        ("reports/a.py", "from perception_gap import runs, geometry", True),
        ("reports/a.py", "from perception_gap.attention.capture import AttentionCapture", False),
        ("reports/a.py", "from benchmarks import published", True),
        ("reports/a.py", "from benchmarks import suites", False),
        ("reports/__init__.py", "from . import tables\nfrom .tables import x", True),
        ("reports/b/a.py", "from ..c import x\nfrom ...lavit import y", False),
        ("lavit/a.py", "import reportsomething", True),
        ("scripts/a.py", "import lavit.student, benchmarks.power", True),
        ("benchmarks/a.py", "def f():\n    from scripts import leak", False),
    ],
)
def test_the_walk_sees_what_it_should(tmp_path, file, code, allowed):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code)
    assert (violations(tmp_path) == []) is allowed
