from pathlib import Path

from reports.page.albums import albums
from reports.page.provenance import notices, provenance
from reports.sources import Unfinished
from tests.unit.reports import synthetic_run


def test_what_a_reader_must_know_is_said(pair, all_failed):
    _, student = pair
    unfinished = Unfinished(Path("runs/x"), {"command": "gapcheck analyze m"}, 3, 10)
    said = notices([student, all_failed, unfinished], albums([student, all_failed]))
    assert said[0] == "runs/x: unfinished, 3 of 10 samples are stored; `gapcheck analyze m` goes on with it"
    assert said[1].endswith(": 2 of 28 samples failed; counted as wrong.")
    assert said[2].endswith(": none of 14 samples is valid; its measures are undefined.")
    assert said[3].startswith("These runs are 2 sets: ")
    assert len(said) == 4


def test_samples_that_only_some_models_have_are_said_to_be_left_out(tmp_path):
    drawn = list(synthetic_run.scenes(n=8))
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn[:5], synthetic_run.TEACHER)
    student = synthetic_run.write_run(tmp_path / "student", drawn, synthetic_run.STUDENT, teacher)
    assert notices([student], albums([student])) == [
        "scenes, 8 samples: the browser shows the 5 samples that all 2 models have, of up to 8."
    ]


def test_a_whole_pair_needs_no_notice(tmp_path):
    _, student = synthetic_run.write_pair(tmp_path, n=4)
    assert notices([student], albums([student])) == []


def test_every_run_and_its_teacher_stand_once(pair):
    teacher, student = pair
    rows = provenance([teacher, student])
    assert [row["model"].split(":")[1] for row in rows] == ["teacher", "student"]
    assert rows[1]["command"] == "synthetic"
