import json
from dataclasses import replace
from pathlib import Path

import pytest

from perception_gap.data import hash_samples, open_data
from perception_gap.data.images import check_boxes, open_image
from perception_gap.errors import UsageError
from perception_gap.sample import Sample

LINE = {"image": "a.png", "question": "q", "answer": "a"}


def test_scenes_are_drawn_below_the_work_folder_and_pass_every_check(tmp_path):
    data = open_data("scenes", limit=7, work=tmp_path)
    assert len(data) == len(data.samples) == 7
    assert {s.task for s in data.samples} == {
        "attribute", "relative_depth", "relative_reflectance", "spatial_relation", "pairs", "iq"
    }  # fmt: skip
    for sample in data.samples:
        assert tmp_path in sample.images[0].parents
        picture = open_image(sample.images[0])
        check_boxes(sample, [(picture.height, picture.width)])


def test_a_larger_limit_adds_samples_and_a_smaller_one_takes_the_first(tmp_path):
    three = open_data("scenes:iq, attribute", limit=3, work=tmp_path)
    five = open_data("scenes:attribute,iq", limit=5, work=tmp_path)
    again = open_data("scenes:iq,attribute", limit=3, work=tmp_path)
    assert five.samples[:3] == three.samples == again.samples
    assert again.hash == three.hash != five.hash
    assert {s.task for s in five.samples} == {"attribute", "iq"}


def test_the_seed_chooses_other_scenes(tmp_path):
    one = open_data("scenes:iq", limit=2, work=tmp_path)
    other = open_data("scenes:iq", limit=2, work=tmp_path, seed=1)
    assert one.samples[0].id != other.samples[0].id
    assert one.hash != other.hash


def test_jsonl_and_viscot_files_open_by_their_spec(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(LINE) + "\n")
    (tmp_path / "v.json").write_text(json.dumps([LINE | {"bboxs": [[0, 0, 1, 1]], "dataset": "gqa"}] * 3))
    assert open_data(str(tmp_path / "a.jsonl"), work=tmp_path).samples[0].images == (tmp_path / "a.png",)
    viscot = open_data(f"viscot:{tmp_path / 'v.json'}", limit=2, image_root=Path("pictures"), work=tmp_path)
    assert [s.images[0] for s in viscot.samples] == [Path("pictures/a.png")] * 2


SAMPLE = Sample("i", (Path("/x/a.png"),), "q", "a", ((0, 0, 1, 1),), (0,), ("a", "b"), "t", "p")


@pytest.mark.parametrize(
    "change",
    [{"id": "j"}, {"question": "r"}, {"answer": "b"}, {"boxes": ((0, 0, 1, 2),)}, {"box_images": (1,)},
     {"options": ("b", "a")}, {"task": "u"}, {"pair": None}, {"images": (Path("/x/a.png"), Path("/x/b.png"))}],
)  # fmt: skip
def test_the_hash_changes_with_every_field(change):
    assert hash_samples([SAMPLE]) != hash_samples([replace(SAMPLE, **change)])


def test_the_hash_does_not_depend_on_where_the_images_lie():
    assert hash_samples([SAMPLE]) == hash_samples([replace(SAMPLE, images=(Path("/y/a.png"),))])


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("scenes:colour", {}, "unknown scenes task 'colour': expected one of attribute"),
        ("scenes", {"limit": 0}, "--limit 0: expected at least 1"),
        ("scenes", {"image_root": Path("x")}, "--image-root"),
        ("none.jsonl", {}, "data none.jsonl: no such file"),
        ("viscot:none.json", {}, "data none.json: no such file"),
        ("viscot:", {}, "a folder"),
        ("coco", {}, "unknown data 'coco': expected scenes, scenes:TASK,TASK, FILE.jsonl, viscot:FILE.json"),
    ],
)
def test_what_cannot_be_opened_says_what_was_expected(tmp_path, spec, options, says):
    with pytest.raises(UsageError) as caught:
        open_data(spec, work=tmp_path, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize(("name", "spec"), [("a.jsonl", "{}"), ("a.json", "viscot:{}")])
def test_zero_samples_are_an_error(tmp_path, name, spec):
    (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match="zero samples"):
        open_data(spec.format(tmp_path / name), work=tmp_path)
