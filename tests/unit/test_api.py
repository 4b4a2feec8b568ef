"""What users import from the top: everything that is promised is there, typed, and nothing heavy comes with it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lavit
import perception_gap

ROOT = Path(__file__).parents[2]
PROMISED = {
    *("load", "LoadedModel", "AttentionCapture", "TokenGeometry", "attention_rows"),
    *("open_run", "metrics", "score", "option_letter"),
}
HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "pyarrow", "PIL", "click")


def test_every_promised_name_is_there_listed_and_documented():
    assert set(perception_gap.__all__) == PROMISED
    assert set(dir(perception_gap)) >= PROMISED
    assert lavit.__all__ == ["gamma"]
    documented = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in perception_gap.__all__:
        assert getattr(perception_gap, name).__doc__, name
        assert f"`{name}" in documented
    assert "`gamma" in documented


def test_names_are_the_objects_of_their_modules():
    from perception_gap.attention.rows import attention_rows
    from perception_gap.metrics import entropy

    assert perception_gap.attention_rows is attention_rows
    assert perception_gap.metrics.entropy is entropy


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'lode': expected one of AttentionCapture, .*, load, metr"):
        perception_gap.lode  # noqa: B018
    with pytest.raises(ImportError):
        from perception_gap import lode  # noqa: F401


@pytest.mark.parametrize(
    "line", ["import perception_gap, lavit", "from perception_gap import open_run\nfrom lavit import gamma"]
)
def test_the_door_imports_nothing_heavy(line):
    code = f"import sys\n{line}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_type_checkers_see_what_is_imported_lazily():
    """The block for type checkers names the objects that the lazy door gives, and both packages say they are typed."""
    tree = ast.parse(Path(perception_gap.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.name: getattr(import_module(str(node.module)), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {"open_run": perception_gap.open_run, **seen}.keys() - {"Path", "Run"} == PROMISED
    assert all(seen[name] is getattr(perception_gap, name) for name in PROMISED & seen.keys())
    assert all((Path(package.__file__).parent / "py.typed").is_file() for package in (perception_gap, lavit))
