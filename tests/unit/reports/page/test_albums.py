import numpy as np
import pytest

from perception_gap.geometry import TokenGeometry
from perception_gap.runs.run import Run
from reports.page.albums import albums
from tests.unit.reports import synthetic_run


def test_a_teacher_and_its_students_are_one_album_with_the_teacher_first(tmp_path):
    drawn = list(synthetic_run.scenes(n=8))
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn, synthetic_run.TEACHER)
    first = synthetic_run.write_run(tmp_path / "a", drawn, synthetic_run.STUDENT, teacher)
    second = synthetic_run.write_run(tmp_path / "b", drawn[:5], synthetic_run.Model("tiny:lavit"), teacher)
    (album,) = albums([teacher, first, second])  # the teacher's own run is no album of its own
    assert [(m.label, m.role) for m in album.members] == [
        ("tiny:teacher", "teacher"), ("tiny:student", "student"), ("tiny:lavit", "student"),
    ]  # fmt: skip
    assert len({m.color for m in album.members}) == 3
    assert album.ids == list(second.samples["sample_id"])  # the samples that all have


def test_other_data_and_other_teachers_are_other_albums(pair, no_boxes):
    _, student = pair
    other = Run(
        student.path,
        student.info | {"data": student.info["data"] | {"spec": "x/mine.jsonl", "hash": "1"}},
        student.summary,
    )
    found = albums([student, other, no_boxes])
    assert [album.title.split(",")[0] for album in found] == ["scenes", "mine.jsonl", "scenes"]
    assert [len(album.members) for album in found] == [2, 2, 1]


def test_the_words_of_a_text_are_those_of_the_run_with_their_maps(pair):
    teacher, student = pair
    (album,) = albums([student])
    sample = student.samples["sample_id"].iloc[0]
    for member, run, kind in zip(album.members, (teacher, student), ("own", "shared"), strict=True):
        text = member.text(sample, member.shared)
        rows = run.words[(run.words["sample_id"] == sample) & (run.words["text"] == kind)]
        assert text.words == rows["word"].tolist()
        np.testing.assert_array_equal(text.kl, rows["kl"])
        np.testing.assert_array_equal(text.maps, run.map(sample, f"{kind}_words"))


def test_a_failed_sample_has_no_text(pair):
    (album,) = albums([pair[1]])
    failed = pair[1].samples.loc[pair[1].samples["status"] != "ok", "sample_id"].iloc[0]
    assert album.members[1].text(failed, "shared") is None


@pytest.mark.parametrize("geometry", [TokenGeometry.grid(4, 4), TokenGeometry.grid(2, 2, within=(0, 0, 1, 0.5))])
def test_the_geometry_is_the_run_s(tmp_path, geometry):
    model = synthetic_run.Model("m", geometry=geometry)
    run = synthetic_run.write_run(tmp_path / "run", list(synthetic_run.scenes(n=2)), model)
    (album,) = albums([run])
    assert album.members[0].geometry(run.samples["sample_id"].iloc[0]) == geometry
