import os
import subprocess
import sys
from importlib import metadata

import pytest
from click.testing import CliRunner

from perception_gap import tiny
from perception_gap.cli import doctor, main


def test_a_whole_installation_passes_and_shows_every_section():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.stderr
    for title in ("Versions", "Devices", "Attention", "Embedded models", "Packages", "Extras", "Optional"):
        assert f"\n{title}\n" in f"\n{result.stdout}"
    for name in ("torch", "transformers", "lmms-eval", "click"):
        assert f"{metadata.version(name)}\n" in result.stdout


def test_a_folder_of_the_same_name_on_the_path_is_reported_with_the_remedy(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("")
    code = "from perception_gap.cli.doctor import shadowed; print(shadowed('reports')); print(shadowed('lavit'))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True, text=True, timeout=60, check=True, env=os.environ,
    )  # fmt: skip
    reports, lavit = done.stdout.splitlines()
    assert str(tmp_path / "reports") in reports
    assert f"take {tmp_path} off PYTHONPATH" in reports
    assert lavit == "None"


def test_a_shadowed_package_makes_doctor_fail(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "problem: benchmarks is shadowed by" in result.stderr


def test_missing_and_old_dependencies_are_problems_and_no_crash(monkeypatch):
    wanted = ["not-a-real-package>=2", "click>=999", "numpy>=1.26", "ghost; extra == 'dev'"]
    wanted += ["ghost>=1; extra == 'train'", 'peft>=999; extra == "train"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    lines, problems = doctor.required_packages()
    assert dict(lines)["not-a-real-package"] == "missing"
    assert [p.split()[0] for p in problems] == ["not-a-real-package", "click", "peft"]
    assert problems[1].endswith("pip install 'click>=999'")
    assert problems[2].endswith("pip install 'peft>=999'")
    assert "ghost" not in dict(lines)


def test_devices_and_attention_survive_a_missing_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert ("torch", "cannot be imported: no accelerator can be seen") in doctor.devices()
    assert doctor.attention_backends() == [("sdpa", "torch cannot be imported")]


def test_embedded_models_are_listed_with_the_size_of_their_weights(monkeypatch, tmp_path):
    for module in (doctor, tiny):
        monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    assert "missing" in doctor.embedded_models()[0][1]
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"0" * 2**20)
    assert doctor.embedded_models() == [("tiny:student", "1.0 MiB")]


@pytest.mark.parametrize("name", doctor.OPTIONAL)
def test_optional_things_are_present_or_say_what_misses_them(name):
    shown, text = doctor.optional(name, *doctor.OPTIONAL[name])
    assert shown == name
    assert text == "present" or text.startswith("missing (")
