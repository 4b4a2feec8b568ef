"""A comparison as a source: what is opened, what is unfinished, what is damaged."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from perception_gap.errors import DamagedError, UsageError
from perception_gap.runs.run import Run
from perception_gap.storage.files import write_json
from reports import tables
from reports.compared import CompareRun
from reports.page import write_page
from reports.sources import Unfinished, open_source, with_members
from tests.command import gapcheck
from tests.unit.reports.synthetic_comparison import write_comparison


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("whole") / "out", n=8).path


@pytest.fixture
def out(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def edited(path: Path, change) -> None:
    told = json.loads(path.read_text())
    change(told)
    write_json(path, told)


def opened(out: Path) -> CompareRun:
    found = open_source(out)
    assert isinstance(found, CompareRun)
    return found


def test_the_teacher_is_first_and_the_others_stand_as_they_were_named(out):
    found = opened(out)
    assert list(found.members) == ["tiny:teacher", "tiny:student", "tiny:lavit"]
    assert found.teacher is found.members["tiny:teacher"]
    assert [run.info["model"]["name"] for run in found.students] == ["tiny:student", "tiny:lavit"]
    assert len(found.pairs) == 3 * 8
    assert len(found.words) == 3 * 8 * 5
    assert found.missing == ()


def test_names_that_would_stand_twice_are_told_apart(tmp_path):
    from tests.unit.reports.synthetic_run import Model

    found = write_comparison(tmp_path / "out", (Model("a/model"), Model("b/a")), n=6)
    assert found.labels["a/model"] != found.labels["b/a"]
    assert all(label.startswith("a (") for name, label in found.labels.items() if name != "tiny:teacher")


def test_members_follow_their_comparison_once(out):
    found = opened(out)
    student = Run.open(out / "tiny-student")
    sources = with_members([student, found])
    assert [source.path.name for source in sources] == ["tiny-student", "out", "teacher", "tiny-lavit"]
    assert [s.path for s in with_members(sources)] == [s.path for s in sources]


@pytest.mark.parametrize("name", ["summary.json", "pairs.parquet", "words.parquet"])
def test_without_one_of_its_files_it_is_not_finished(out, name):
    (out / name).unlink()
    found = open_source(out)
    assert isinstance(found, Unfinished)
    assert found.words == (
        f"{out}: unfinished, 3 of 3 models are measured, and not yet compared with each other; "
        "`gapcheck compare ..` goes on with it"
    )


def test_models_that_are_not_measured_yet_are_named(out):
    edited(out / "compare.json", lambda told: told["models"].update({"x/next": "x-next"}))
    (out / "tiny-lavit" / "summary.json").unlink()
    found = open_source(out)
    assert isinstance(found, Unfinished)
    assert "2 of 4 models are measured, not yet tiny:lavit, x/next; `gapcheck compare .." in found.words


def test_runs_of_other_data_than_are_asked_for_now_are_not_measured_yet(out):
    edited(out / "compare.json", lambda told: told["data"].update(hash="1"))
    found = open_source(out)
    assert isinstance(found, Unfinished)
    assert "not yet tiny:student, tiny:lavit" in found.words  # the teacher's may hold more


def test_what_was_compared_stands_when_a_run_is_gone(out, tmp_path):
    shutil.rmtree(out / "tiny-lavit")
    found = opened(out)
    assert found.missing == ("tiny:lavit",)
    assert found.labels["tiny:lavit"] == "tiny:lavit"
    page = write_page([found], tmp_path / "page.html")
    assert any("the run of tiny:lavit is gone" in notice for notice in page.notices)
    leaderboard = tables.build(None, [found])[0]
    assert [row.label for row in leaderboard.rows] == [found.labels[r["name"]] + (" (teacher, baseline)" if
            r["is_teacher"] else "") for r in found.summary["models"]]  # fmt: skip


def test_a_model_that_failed_is_named_with_its_reason(tmp_path):
    found = write_comparison(tmp_path / "out", n=6, failed={"x/broken": "no weights"})
    assert found.failed == {"x/broken": "no weights"}
    assert any("x/broken was not measured: no weights" in line for line in tables.build(None, [found])[0].about)


def refused(out: Path) -> str:
    with pytest.raises((DamagedError, UsageError)) as error:
        open_source(out)
    status, said = gapcheck("tables", out)
    assert status == 2
    assert said == f"gapcheck: error: {error.value}\n"
    return said


SUMMARIES = [
    (lambda told: told.pop("models"), "models is missing"),
    (lambda told: told["models"][1].pop("accuracy"), "models[1].accuracy is missing"),
    (lambda told: told["models"].append("a"), "models[3] is 'a', expected keys and values"),
    (lambda told: told["pairs"][0]["js"].update(mean="x"), "pairs[0].js.mean is 'x', expected a number"),
    (lambda told: told["pairs"][2]["agreement"]["js"].pop("both_right"), "pairs[2].agreement.js.both_right is missing"),
    (lambda told: told["pairs"][0].update(first="y"), "names a model that is not among its models"),
    (lambda told: told.update(baseline="y"), "names a model that is not among its models"),
    (lambda told: told.update(failed={"a": 3}), "failed.a is 3, expected text"),
]


@pytest.mark.parametrize(("change", "says"), SUMMARIES)
def test_a_damaged_summary_is_refused_in_one_line(out, change, says):
    edited(out / "summary.json", change)
    said = refused(out)
    assert "summary.json: damaged" in said
    assert says in said


@pytest.mark.parametrize("key", ["models", "teacher", "text", "budget", "most_pixels", "data"])
def test_a_damaged_description_is_refused_in_one_line(out, key):
    edited(out / "compare.json", lambda told: told.pop(key))
    assert f"compare.json: damaged ({key} is missing" in refused(out)


@pytest.mark.parametrize("content", [b"", b"text", b"[1]", b'{"a": "\xe9"}'])
@pytest.mark.parametrize("name", ["compare.json", "summary.json", "pairs.parquet", "words.parquet"])
def test_files_that_are_not_what_they_are_called_are_refused(out, name, content):
    (out / name).write_bytes(content)
    said = refused(out)
    assert name in said or "schema" in said


@pytest.mark.parametrize("column", ["first", "js", "second_correct", "cluster"])
def test_a_table_without_a_column_is_refused(out, column):
    path = out / "pairs.parquet"
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
    assert f"pairs.parquet: damaged (column {column} is missing" in refused(out)


def test_another_schema_is_refused(out):
    edited(out / "compare.json", lambda told: told.update(schema_version=9))
    assert "written in compare schema 9, this gapcheck reads 2" in refused(out)
