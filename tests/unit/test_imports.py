"""Imports run one way; the command line alone looks at everything, inside its functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("perception_gap", "lavit", "benchmarks", "reports")
# What may be imported at the top of a module, and in addition inside a function.
ALLOWED = {
    "perception_gap": (("perception_gap",), ()),
    "perception_gap.cli": (("perception_gap",), ("lavit", "benchmarks", "reports")),
    "lavit": (("lavit", "perception_gap"), ()),
    "benchmarks": (("benchmarks", "perception_gap"), ("lavit",)),
    "reports": (
        ("reports", "benchmarks.published", "perception_gap.store", "perception_gap.files", "perception_gap.geometry",
         "perception_gap.sample", "perception_gap.errors", "perception_gap.statistics", "perception_gap.proportions",
         "perception_gap.estimates", "perception_gap.permutation", "perception_gap.measures",
         "perception_gap.datasets.images", "perception_gap.intact",
         "perception_gap.redaction", "perception_gap.run_paths", "perception_gap.shapes", "perception_gap.spreadsheet"),
         (),
    ),
}  # fmt: skip


def imports(tree: ast.AST, module: str, is_package: bool, lazy: bool = False) -> Iterator[tuple[str, int, bool]]:
    """(dotted name, line, inside a function) of every import below a node; relative ones are resolved."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            base = parents[: len(parents) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{origin}.{alias.name}", node.lineno, lazy) for alias in node.names)
        else:
            inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, module, is_package, inside)


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def violations(root: Path) -> list[str]:
    """MODULE:LINE imports NAME, for every import of ours that the table above does not allow."""
    found = []
    for path in sorted(p for package in OURS for p in (root / package).rglob("*.py")):
        is_package = path.name == "__init__.py"
        module = ".".join(path.relative_to(root).with_suffix("").parts[: -1 if is_package else None])
        rule = max((package for package in ALLOWED if below(module, package)), key=len)
        top, inside = ALLOWED[rule]
        for name, line, lazy in imports(ast.parse(path.read_text(encoding="utf-8")), module, is_package):
            if not any(below(name, package) for package in OURS):
                continue
            if not any(below(name, package) for package in (*top, *(inside if lazy else ()))):
                found.append(f"{module}:{line} imports {name}")
    return found


def test_imports_run_one_way():
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "code", "allowed"),
    [
        ("perception_gap/a.py", "import lavit", False),
        ("perception_gap/a.py", "def f():\n    from reports import tables", False),
        ("perception_gap/a.py", "import torch, perception_gap.store", True),
        ("perception_gap/cli/a.py", "from reports import tables", False),
        ("perception_gap/cli/a.py", "def f():\n    from reports import tables", True),
        ("perception_gap/cli/a.py", "if True:\n    import reports", False),
        ("lavit/a.py", "from perception_gap.geometry import TokenGeometry", True),
        ("lavit/a.py", "import benchmarks.suites", False),
        ("benchmarks/a.py", "import lavit", False),
        ("benchmarks/a.py", "def f():\n    import lavit.generate", True),
        ("reports/a.py", "from perception_gap import store, geometry", True),
        ("reports/a.py", "from perception_gap.capture import AttentionCapture", False),
        ("reports/a.py", "from benchmarks import published", True),
        ("reports/a.py", "from benchmarks import suites", False),
        ("reports/__init__.py", "from . import tables\nfrom .tables import x", True),
        ("reports/b/a.py", "from ..c import x\nfrom ...lavit import y", False),
        ("lavit/a.py", "import reportsomething", True),
    ],
)
def test_the_walk_sees_what_it_should(tmp_path, file, code, allowed):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code)
    assert (violations(tmp_path) == []) is allowed
