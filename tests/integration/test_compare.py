"""`gapcheck compare` as a user runs it: embedded models, two families side by side, and what goes wrong."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from perception_gap.storage.files import write_json
from reports.compared import CompareRun
from reports.sources import open_source
from tests.command import gapcheck

FILES = ("compare.json", "summary.json", "pairs.parquet", "words.parquet")


def opened(out: Path) -> CompareRun:
    found = open_source(out)
    assert isinstance(found, CompareRun)
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> tuple[Path, str]:
    """(OUT, what was printed) of two embedded models, without the page."""
    out = tmp_path_factory.mktemp("tiny") / "out"
    status, said = gapcheck("compare", "tiny:student", "tiny:lavit", "--limit", 6, "--out", out, "--no-page")
    assert status == 0, said
    return out, said


def test_two_embedded_models_are_compared_and_what_was_found_is_said(tiny):
    out, said = tiny
    found = opened(out)
    assert list(found.members) == ["tiny:student", "tiny:lavit"]
    assert all((out / name).exists() for name in FILES)
    assert len(found.pairs) == 6
    row = found.summary["pairs"][0]
    assert row["js"]["mean"] == pytest.approx(found.pairs["js"].mean())
    for question in ("Do the two models look alike?", "Do gazes agree more where both are right",
                     "Does more focus go with being right?"):  # fmt: skip
        assert question in said
    assert f"compare {out}\n" in said
    assert not any((out / name).exists() for name in ("report.html", "overlays.png", "tables.md", "figures"))


def test_cutting_is_told_of_every_model_that_was_cut(tiny, tmp_path):
    out = tmp_path / "out"
    status, said = gapcheck(
        "compare", "tiny:student", "tiny:lavit", "--limit", 4, "--knockout", "--out", out, "--no-page"
    )
    assert status == 0, said
    assert "Do the answers rest on what is in the boxes?" in said
    assert "Do the answers rest" not in tiny[1]
    status, table = gapcheck("tables", out, "--format", "csv")
    assert status == 0
    told = {row["row"]: row for row in csv.DictReader(table.splitlines()) if row["column"] == "boxed (nats)"}
    assert set(told) == {"tiny:student", "tiny:lavit"}
    for name, run in opened(out).members.items():
        change = run.summary["knockout"]["text"]["inside"]["change"]
        assert float(told[name]["value"]) == pytest.approx(change["mean"])
        assert int(told[name]["n"]) == change["n"] == 4


def test_a_second_call_loads_nothing_and_a_third_model_joins(tiny, tmp_path):
    out = Path(shutil.copytree(tiny[0], tmp_path / "out"))
    kept = {p: p.stat().st_mtime_ns for p in (out / "tiny-student").iterdir()}
    arguments = ("--limit", 6, "--out", out, "--no-page")
    status, said = gapcheck("compare", "tiny:student", "tiny:lavit", *arguments)
    assert status == 0
    for name in ("tiny-student", "tiny-lavit"):
        assert f"finished in {out / name}" in said
    status, said = gapcheck("compare", "tiny:student", "tiny:lavit", "tiny:sft", *arguments)
    assert status == 0
    assert said.count("finished in") == 2
    assert {p: p.stat().st_mtime_ns for p in (out / "tiny-student").iterdir()} == kept
    found = opened(out)
    assert list(found.members) == ["tiny:student", "tiny:lavit", "tiny:sft"]
    assert len(found.summary["pairs"]) == 3


def test_where_another_model_was_named_and_not_yet_measured_the_comparison_is_unfinished(tiny, tmp_path):
    out = Path(shutil.copytree(tiny[0], tmp_path / "out"))
    told = json.loads((out / "compare.json").read_text())
    told["models"]["tiny:sft"] = "tiny-sft"
    write_json(out / "compare.json", told)
    status, said = gapcheck("report", out, "--out", tmp_path / "page.html")
    assert status == 0
    assert "unfinished, 2 of 3 models are measured, not yet tiny:sft; `" in said
    status, said = gapcheck("tables", out)
    assert status == 2
    assert "not yet tiny:sft" in said


@pytest.fixture(scope="module")
def families(tmp_path_factory, tiny_checkpoint) -> tuple[Path, str]:
    """Two families of other grids and tokenizers, one of them with damaged weights beside a third; with the page."""
    out = tmp_path_factory.mktemp("families") / "out"
    broken = Path(shutil.copytree(tiny_checkpoint("llava"), out.parent / "broken"))
    for weights in broken.glob("*.safetensors"):
        weights.unlink()
    models = (tiny_checkpoint("qwen2_5_vl"), broken, tiny_checkpoint("llava_next"))
    status, said = gapcheck("compare", *models, "--limit", 6, "--max-new-tokens", 4, "--out", out)
    assert status == 1, said
    return out, said


def test_two_families_meet_and_a_model_without_weights_fails_alone(families, tiny_checkpoint):
    out, said = families
    found = opened(out)
    names = [str(tiny_checkpoint(kind)) for kind in ("qwen2_5_vl", "llava_next")]
    assert list(found.members) == names
    assert [Path(name).name for name in found.failed] == ["broken"]
    assert "broken was not measured: " in said
    counts = [found.members[name].samples["n_image_tokens"].iloc[0] for name in names]
    assert counts[0] != counts[1]
    assert len(found.pairs) == 6
    assert found.pairs["js"].between(0, 0.6932).all()


def test_everything_lies_in_the_folder(families):
    out, said = families
    for name in ("leaderboard", "pairs", "agreement"):
        for kind in ("png", "pdf"):
            assert (out / "figures" / f"{name}.{kind}").stat().st_size > 1000
    assert (out / "overlays.png").stat().st_size > 10_000
    text = (out / "tables.md").read_text()
    for table in ("(leaderboard)", "(pairs matrix)", "(pairs)", "(agreement)", "(runs)"):
        assert table in text
    page = (out / "report.html").read_text()
    for shown in ('id="figure-pairs"', 'data-table="leaderboard"', "Do the two models look alike?", "was not measured"):
        assert shown in page
    index = json.loads(page.split('id="index">')[1].split("</script>")[0])
    assert [len(album["members"]) for album in index] == [2]
    assert len(index[0]["id"]) == 6
    assert f"Open {(out / 'report.html').resolve().as_uri()}" in said


def test_the_overlays_of_a_comparison_without_teacher_show_the_text_that_all_were_read_on(families):
    from reports.overlays.models import as_models

    found = opened(families[0])
    models = as_models(found.students, None)
    sample = found.students[0].samples.iloc[0]
    for model, run in zip(models, found.students, strict=True):
        assert (model.map(sample) == run.map(sample["sample_id"], "shared")).all()


def test_other_commands_read_a_comparison(families, tmp_path):
    out = families[0]
    status, said = gapcheck("tables", out, "--format", "latex")
    assert status == 0
    assert r"\label{tab:leaderboard}" in said
    status, said = gapcheck("figures", out, "--only", "pairs", "--format", "svg", "--out", tmp_path / "f")
    assert status == 0
    assert said.endswith(f"figure {tmp_path / 'f' / 'pairs.svg'}\n")
    assert said.startswith("note: ")  # of the model that is not in it
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["pairs.svg"]
    status, _ = gapcheck("report", out, "--out", tmp_path / "page.html")
    assert status == 0
    assert 'data-table="agreement"' in (tmp_path / "page.html").read_text()


def test_a_sample_that_every_model_fails_is_said_and_strict_makes_it_an_error(tmp_path):
    status, said = gapcheck("scenes", "--n", 4, "--out", tmp_path / "scenes")
    assert status == 0, said
    data = next((tmp_path / "scenes").rglob("*.jsonl"))
    records = [json.loads(line) for line in data.read_text().splitlines()]
    picture = data.parent / str(records[0].get("image") or records[0]["images"][0])
    picture.write_bytes(b"no picture")
    arguments = ("compare", "tiny:student", "tiny:lavit", "--data", data, "--out", tmp_path / "out", "--no-page")
    status, said = gapcheck(*arguments)
    assert status == 0
    assert "tiny:student: 1 of 4 samples failed:" in said
    assert gapcheck(*arguments, "--strict")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tiny:student"], "expected at least two models"),
        (["tiny:student", "tiny:student"], "expected each once"),
        (["tiny:student", "no/such/model"], "no/such/model"),
        (["tiny:student", "tiny:lavit", "--pixels", "x"], "--pixels 'x': expected"),
        (["tiny:student", "tiny:lavit", "--raster", "4"], "--raster '4'"),
        (["tiny:student", "tiny:lavit", "--max-pixels", "4"], "--max-pixels"),
    ],
)
def test_wrong_usage_is_one_line_and_makes_nothing(tmp_path, arguments, says):
    status, said = gapcheck("compare", *arguments, "--out", tmp_path / "out")
    assert status == 2
    assert said.startswith("gapcheck: error: ")
    assert said.count("\n") == 1
    assert says in said
    assert not (tmp_path / "out").exists()


def test_a_teacher_run_of_other_data_is_wrong_usage(tmp_path):
    for task in ("iq", "attribute"):
        assert gapcheck("scenes", "--task", task, "--n", 3, "--out", tmp_path / task)[0] == 0
    status, said = gapcheck("analyze", "tiny:sft", "--data", tmp_path / "iq" / "scenes.jsonl", "--no-figures",
                            "--out", tmp_path / "other")  # fmt: skip
    assert status == 0, said
    status, said = gapcheck("compare", "tiny:student", "tiny:lavit", "--teacher", tmp_path / "other", "--no-page",
                            "--data", tmp_path / "attribute" / "scenes.jsonl", "--out", tmp_path / "out")  # fmt: skip
    assert "none of these 3 samples is in it" in said
    assert status == 2
