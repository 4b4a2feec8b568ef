"""The mutation tool: what it changes, and that it tells a test that notices from one that does not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.mutants.operators import mutants

ROOT = Path(__file__).parents[3]


def changes(source: str) -> set[tuple[str, str]]:
    return {(mutant.before, mutant.after) for mutant in mutants(ast.parse(source))}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {("a < b", "a <= b")}),
        ("a != b", {("a != b", "a == b")}),
        ("a @ b - c", {("a @ b - c", "a @ b + c")}),
        ("a += b", {("a += b", "a -= b")}),
        ("a and b and c", {("a and b and c", other) for other in ("b and c", "a and c", "a and b")}),
        ("not a", {("not a", "a")}),
        ("x = a if b else c", {("b", "not b")}),
        ("[a for a in b if not c]", {("not c", "c")}),
        ("x = 2", {("2", "3"), ("2", "1")}),
        ("x = True", {("True", "False")}),
        ("x = math.nan", {("math.nan", "0.0")}),
        ("a.mean(axis=0)", {("a.mean(axis=0)", "pass"), ("a.mean(axis=0)", "a.mean()"), ("0", "1"), ("0", "-1")}),
        ("x = a.sum(1)", {("a.sum(1)", "a.sum()"), ("1", "2"), ("1", "0")}),
        ("x = len(a)", set()),
        ("x = min(a)", {("min(a)", "max(a)")}),
        ("x = a[b:c]", {("b:c", ":c"), ("b:c", "b:")}),
        ("x = states[visible]", {("states[visible]", "states")}),
        ("def f(a: list[int] = b):\n    '''Text.'''\n    return a", {("return a", "return None")}),
        ("def f():\n    raise ValueError(f'{1 + 1}')", set()),
        ("@lru_cache(maxsize=8)\ndef f():\n    return None", set()),
        ("x = zip(a, b, strict=True)", {("zip(a, b, strict=True)", "zip(a, strict=True)")}),
        ("import a\nif TYPE_CHECKING:\n    b = 1", set()),
    ],
)
def test_one_slip_at_a_time_by_hand(source, expected):
    assert changes(source) == expected


def test_what_is_explained_is_there():
    told = tomllib.loads((ROOT / "scripts" / "mutants" / "explained.toml").read_text(encoding="utf-8"))
    named = [*told["tests"], *(test for tests in told["tests"].values() for test in tests)]
    assert [name for name in named if not (ROOT / name).exists()] == []
    for entry in told["explained"]:
        scopes = {mutant.scope for mutant in mutants(ast.parse((ROOT / entry["file"]).read_text(encoding="utf-8")))}
        assert entry["in"] in scopes, entry


def test_a_mutant_names_its_place_and_changes_its_tree_alone():
    tree = ast.parse("class A:\n    @property\n    def b(self):\n        return 1 - self.c\n")
    first = next(m for m in mutants(tree) if m.after == "1 + self.c")
    assert (first.line, first.scope, first.before) == (4, "A.b", "1 - self.c")
    first.apply()
    assert ast.unparse(tree).endswith("return 1 + self.c")


MODULE = """LIMIT = 10

def clipped(value):
    if value < 0:
        return 0
    return min(value, LIMIT)

def unseen(value):
    return value + 1

def endless(value):
    while value < 3:
        value += 1
    return value
"""
TESTS = """from package.module import clipped, endless

def test_the_bounds():
    assert clipped(-4) == 0
    assert clipped(3) == 3
    assert clipped(99) == 10

def test_the_end():
    assert endless(1) == 3
"""


def test_what_a_test_notices_is_killed_and_the_rest_survives_with_its_place(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "module.py").write_text(MODULE)
    mirror = tmp_path / "tests" / "unit" / "package" / "test_module.py"
    mirror.parent.mkdir(parents=True)
    mirror.write_text(TESTS)
    explained = tmp_path / "explained.toml"
    explained.write_text(
        "[[explained]]\nfile = 'package/module.py'\nin = 'clipped'\nbefore = 'value < 0'\nafter = 'value <= 0'\n"
        "reason = '0 either way'\n"
    )

    def run(*more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "scripts.mutants", "package/module.py", "--explained", str(explained), *more]
        where = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        return subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=120)

    done = run("--at", "1", "--at", "4", "--at", "6", "--at", "9")
    assert done.returncode == 1, done.stderr
    # Killed: both other limits, the opposite condition, max, its argument, the value. Surviving: the 0 of the
    # condition, which no test meets at 1 or -1, and all four of `unseen`.
    assert (
        "package/module.py:9: survived in unseen (no test runs this line)\n  - value + 1\n  + value - 1\n"
        in done.stdout
    )
    assert done.stdout.count("survived") == 6
    assert done.stdout.splitlines()[-1].split()[1:5] == ["13", "6", "1", "6"]

    sampled = [run("--sample", "3", "--seed", seed, "--list").stdout for seed in ("1", "1", "2")]
    assert sampled[0] == sampled[1] != sampled[2]
    assert sampled[0].count("package/module.py:") == 3
    assert (tmp_path / "package" / "module.py").read_text() == MODULE

    mirror.write_text(TESTS.replace("== 10", "== 11"))
    broken = run()
    assert broken.returncode == 1
    assert "its tests do not pass unchanged (tests/unit/package/test_module.py::test_the_bounds)" in broken.stderr
