"""The package as users get it: built, installed, and started in a folder with `benchmarks` and `reports` of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("perception_gap", "lavit", "benchmarks", "reports")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
GAPCHECK = {
    "module": [sys.executable, "-m", "perception_gap"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "-m", "perception_gap"],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout: building writes into it."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "scripts", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source]
    subprocess.run([*PIP, *build], check=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", folder, wheel], check=True, timeout=300)
    return folder


@pytest.fixture
def decoys(tmp_path) -> Path:
    """A folder of somebody who has packages of these names."""
    for name in ("benchmarks", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the decoy was imported')\n")
    return tmp_path


def run(command: list, *, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {} if path is None else {"PYTHONPATH": str(path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, env=env)


def test_the_wheel_holds_what_runs_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    expected = {
        *("perception_gap/py.typed", "lavit/py.typed", "lavit/configs/fsdp.json"),
        *("perception_gap/tiny/weights/teacher/model.safetensors", "perception_gap/tiny/weights/teacher/README.md"),
        *("reports/page/template/page.html.j2", "benchmarks/published/papers/lavit.toml"),
        *("benchmarks/scoring_cases.jsonl", "benchmarks/suites/scenes/scenes_iq.yaml"),
    }
    assert expected - names == set()
    weights = [path.relative_to(ROOT) for path in (ROOT / "perception_gap/tiny/weights").rglob("*") if path.is_file()]
    assert {path.as_posix() for path in weights} - names == set()


def test_the_decoys_would_be_imported(decoys):
    done = run([sys.executable, "-c", "import reports"], cwd=decoys)
    assert "the decoy was imported" in done.stderr


@pytest.mark.parametrize("start", [*GAPCHECK, "script"])
def test_it_starts_in_a_folder_with_packages_of_our_names(start, installed, decoys):
    gapcheck = GAPCHECK.get(start, [sys.executable, installed / "bin" / "gapcheck"])
    published = run([*gapcheck, "published"], cwd=decoys, path=installed)  # of benchmarks
    assert (published.returncode, "LaViT 3B" in published.stdout) == (0, True), published.stderr
    tables = run([*gapcheck, "tables", "nowhere"], cwd=decoys, path=installed)  # of reports
    assert tables.returncode != 0
    assert "gapcheck: error: nowhere" in tables.stderr


@pytest.mark.parametrize("place", ["installed", "source"])
def test_all_packages_are_of_one_place(place, installed, source, decoys):
    """Installed, beside the decoys; and a checkout that is not installed, in its own folder."""
    folder = installed if place == "installed" else source
    done = run(
        [*GAPCHECK["module"], "doctor"],
        cwd=decoys if place == "installed" else source,
        path=installed if place == "installed" else None,
    )
    for name in PACKAGES:
        assert f"{name}  " in done.stdout
        assert f"{(folder / name).resolve()}\n" in done.stdout, done.stderr
    assert "shadowed" not in done.stderr
