"""A run that somebody else made may name any file of this machine: what of that reports follow."""

import re
import shutil

import pytest

from perception_gap.runs.schema.versions import BENCH, COMPARISON
from perception_gap.storage import machine_key
from perception_gap.storage.files import write_json
from tests.command import gapcheck
from tests.unit.reports import synthetic_run


@pytest.fixture
def somebody(monkeypatch, tmp_path):
    """Call it, and what was made before was made by somebody else."""

    def become() -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
        machine_key._key.cache_clear()

    yield become
    machine_key._key.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """student, teacher, and beside them the pictures of both."""
    synthetic_run.write_pair(tmp_path / "runs", n=4)
    return tmp_path / "runs"


def pictures(page) -> list[str]:
    return re.findall(r"data:image/webp;base64,[\w+/=]+", page.read_text())


def report(folder, *arguments) -> tuple[str, list[str]]:
    """(what is said, the pictures on the page) of the student's run."""
    status, said = gapcheck("report", folder / "student", *arguments, "--out", folder / "page.html")
    assert status == 0, said
    return said, pictures(folder / "page.html")


def test_ones_own_run_shows_pictures_and_teacher_wherever_it_stands(folder, tmp_path):
    said, shown = report(folder)
    assert len(set(shown)) == 4
    assert "note" not in said
    shutil.move(folder, tmp_path / "moved")  # with all that it refers to
    assert report(tmp_path / "moved") == (said.replace(str(folder), str(tmp_path / "moved")), shown)


def test_another_persons_run_shows_what_lies_below_the_folders_that_are_named(folder, somebody):
    own = report(folder)[1]
    somebody()
    said, shown = report(folder)
    assert shown == []
    notes = [line for line in said.splitlines() if line.startswith("note")]
    assert len(notes) == 2
    assert "outside of this run, which was not made here; give that folder as a RUN too" in notes[0]
    outside = (
        f"4 of the 4 samples in the browser; if its files are yours to show, add --image-root {folder / 'images'}."
    )
    assert notes[1].endswith(f"a picture lies outside the run: {outside}")
    said, shown = report(folder, folder / "teacher", "--image-root", folder / "images")
    assert "note" not in said
    assert shown == own


def test_pictures_in_the_run_need_no_word(folder, somebody):
    below = folder / "all"
    synthetic_run.write_run(below / "run", list(synthetic_run.scenes(n=2)), synthetic_run.STUDENT)
    somebody()
    status, said = gapcheck("report", below / "run", "--image-root", below, "--out", folder / "page.html")
    assert (status, len(pictures(folder / "page.html"))) == (0, 2), said


def test_a_picture_replaced_since_is_not_shown_as_the_measured_one(folder):
    first, second = sorted((folder / "images").iterdir())[:2]
    shutil.copy(second, first)
    said, shown = report(folder)
    assert "a picture is not the one that was measured: 1 of the 4 samples in the browser." in said
    assert len(shown) == 3


@pytest.mark.parametrize("command", [["tables"], ["figures", "--only", "entropy"]])
def test_a_teacher_outside_is_followed_where_its_folder_is_named(folder, somebody, command):
    somebody()
    name, *more = command
    out = ["--out", folder / ("t.md" if name == "tables" else "figures")]
    said = gapcheck(name, folder / "student", *more, *out)[1]
    assert "give that folder as a RUN too" in said
    status, said = gapcheck(name, folder / "student", folder / "teacher", *more, *out)
    assert status == 0
    assert "as a RUN too" not in said


def test_an_image_root_that_is_no_folder_is_one_line(folder):
    status, said = gapcheck("report", folder / "student", "--image-root", folder / "none", "--out", folder / "p.html")
    assert status == 2
    assert "--image-root" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("made", "shape"), [("bench.json", "models.m"), ("compare.json", "models.m")])
def test_a_member_outside_of_its_folder_is_refused(tmp_path, made, shape):
    info = {
        "schema_version": BENCH.version if made == "bench.json" else COMPARISON.version,
        "models": {"m": "../../elsewhere"},
        "tasks": {},
        "teacher": None,
        "text": "own",
        "budget": "",
        "most_pixels": {},
        "data": {"spec": "s", "hash": "h", "n": 1},
    }
    write_json(tmp_path / made, info | {"raster": [16, 16]})
    status, said = gapcheck("tables", tmp_path)
    assert status == 2
    assert f"{shape} is a folder outside of this one" in said
