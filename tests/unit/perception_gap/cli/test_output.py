"""Where files may go: every `--out` of report, tables, figures and overlay."""

import os

import pytest

from tests.command import gapcheck
from tests.unit.reports import synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return synthetic_run.write_pair(folder, n=4)[1].path


COMMANDS = [
    pytest.param(["report"], "page.html", id="report"),
    pytest.param(["tables"], "table.md", id="tables"),
    pytest.param(["figures", "--only", "entropy", "--format", "png"], "figures/entropy.png", id="figures"),
]


def write(run, command, out) -> tuple[int, str]:
    name, *more = command
    return gapcheck(name, run, *more, "--out", out.parent if name == "figures" else out)


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_a_file_is_written_anew_where_it_is_ours_and_left_where_it_is_not(run, tmp_path, command, name):
    out = tmp_path / name
    out.parent.mkdir(exist_ok=True)
    out.write_text("my notes")
    status, said = write(run, command, out)
    assert (status, out.read_text()) == (2, "my notes"), said
    assert "is a file that gapcheck did not write; choose another name, or remove it" in said
    assert len(said.splitlines()) == 1
    out.write_text("")  # as `mktemp` leaves it
    assert write(run, command, out)[0] == 0
    first = out.read_bytes()
    assert write(run, command, out)[0] == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize("layout", ["md", "latex", "csv", "html"])
def test_every_layout_of_a_table_is_known_again(run, tmp_path, layout):
    for _ in range(2):
        assert gapcheck("tables", run, "--format", layout, "--out", tmp_path / "t")[0] == 0


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_a_very_deep_place_is_made_and_a_name_too_long_is_one_line(run, deep, tmp_path, command, name):
    assert write(run, command, deep / name)[0] == 0
    assert (deep / name).is_file()
    for place in (deep.joinpath(*["d"] * 1200), tmp_path / ("x" * 300)):
        status, said = write(run, command, place / name)
        assert status == 2, said
        assert "File name too long" in said
        assert len(said) < 500
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_a_folder_a_file_in_the_way_and_a_loop_are_one_line(run, tmp_path, command, name):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for out in (tmp_path / name, tmp_path / "file" / name, tmp_path / "loop" / name):
        status, said = write(run, command, out)
        assert status == 2, said
        assert "Error" not in said
        assert len(said.splitlines()) == 1


def test_a_page_goes_through_a_link_and_into_a_device(run, tmp_path):
    (tmp_path / "page.html").symlink_to(tmp_path / "real.html")
    assert gapcheck("report", run, "--out", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "real.html").stat().st_size > 1000
    assert gapcheck("tables", run, "--out", os.devnull)[0] == 0


@pytest.mark.parametrize("command", [["scenes", "--n", "1"], ["figures", "run"]], ids=["scenes", "figures"])
def test_an_empty_name_is_no_folder(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    status, said = gapcheck(*command, "--out", "")
    assert status == 2
    assert "--out" in said
    assert "is empty; expected a folder, . for the current one" in said
    assert not list(tmp_path.iterdir())
