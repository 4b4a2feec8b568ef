import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from perception_gap import cli
from perception_gap.cli import COMMANDS, main
from perception_gap.errors import GapcheckError, UnsupportedModelError, UsageError

HEAVY = ("torch", "transformers", "numpy", "pandas", "matplotlib", "PIL", "lmms_eval", "datasets")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["scenes", "--help"], ["doctor", "--help"]])
def test_help_answers_without_heavy_imports(arguments):
    done = python(
        "import sys\nfrom perception_gap.cli import main\n"
        f"try: main({arguments!r})\nfinally: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    assert "gapcheck" in done.stdout


def test_help_lists_every_command_and_imports_none_of_them():
    done = python(
        "import sys\nfrom perception_gap.cli import main\ntry: main(['--help'])\n"
        "finally: print([m for m in sys.modules if m.startswith('perception_gap.cli.')], file=sys.stderr)"
    )
    assert all(name in done.stdout and text[:20] in done.stdout for name, (_, text) in COMMANDS.items())
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output


def raising(error):
    @click.command()
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (GapcheckError("no rows:\n  all failed"), 1, "gapcheck: error: no rows: all failed\n"),
        (UsageError("file a: no such file"), 2, "gapcheck: error: file a: no such file\n"),
        (UnsupportedModelError("model b"), 2, "gapcheck: error: model b\n"),
        (click.BadParameter("c"), 2, "gapcheck: error: Invalid value: c (see gapcheck doctor --help)\n"),
    ],
)
def test_an_error_is_one_line_with_its_exit_status(monkeypatch, error, status, line):
    monkeypatch.setattr(cli, "import_module", lambda name: type("module", (), {"command": raising(error)}))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == status
    assert result.stderr == line


def test_an_interrupt_exits_with_130_and_no_traceback(monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda name: type("m", (), {"command": raising(KeyboardInterrupt())}))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 130
    assert result.stderr.strip() == "gapcheck: error: interrupted; repeat the command"


def test_a_programming_error_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda name: type("m", (), {"command": raising(ZeroDivisionError())}))
    assert isinstance(CliRunner().invoke(main, ["doctor"]).exception, ZeroDivisionError)


def test_unknown_commands_and_options_are_one_line():
    result = CliRunner().invoke(main, ["analyse"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"unknown command 'analyse': expected one of {', '.join(cli.COMMANDS)}" in result.stderr
    result = CliRunner().invoke(main, ["scenes", "--frobnicate"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "(see gapcheck scenes --help)" in result.stderr


def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m perception_gap --help | true", shell=True, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""


def test_an_error_is_short_names_its_remedy_and_no_secret(monkeypatch):
    error = UsageError(f"model {'x' * 5000}: at http://me:hunter2@host/ not there; choose another")
    monkeypatch.setattr(cli, "import_module", lambda name: type("m", (), {"command": raising(error)}))
    said = CliRunner().invoke(main, ["doctor"]).stderr
    assert len(said) < 500
    assert said.startswith("gapcheck: error: model xxx")
    assert said.endswith("xxx: at http://***@host/ not there; choose another\n")
