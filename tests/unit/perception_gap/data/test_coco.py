import json
from pathlib import Path

import pytest

from perception_gap.data import open_data
from perception_gap.data.reading import Reading
from perception_gap.errors import UsageError

FILE = {
    "info": {"year": 2014, "numbers": list(range(300))},
    "licenses": [],
    "images": [
        {"id": 7, "file_name": "a.png", "width": 200, "height": 100, "caption": "the small square"},
        {"id": 8, "file_name": "b.png", "width": 200, "height": 100, "caption": "the circle"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 3,
            "bbox": [120, 20, 60, 60],
            "area": 3600,
            "iscrowd": 0,
            "segmentation": [[120, 20, 180, 80]],
        },
        {"id": 2, "image_id": 8, "category_id": 4, "bbox": [0, 0, 10, 10]},
        {"id": 3, "image_id": 7, "category_id": 3, "bbox": [5, 5, 10, 10]},
        {"id": 4, "image_id": 7, "category_id": 4, "bbox": None},
    ],
    "categories": [{"id": 3, "name": "red", "supercategory": "color"}, {"id": 4, "name": "blue"}],
}


def opened(folder: Path, content: dict, boxes=None, limit=None, **fields):
    path = folder / "coco.json"
    path.write_text(json.dumps(content))
    return open_data(f"coco:{path}", work=folder / "run", reading=Reading(boxes, fields), limit=limit).samples


@pytest.mark.parametrize("turned", [False, True])
def test_annotations_are_samples_and_those_that_ask_the_same_are_one(tmp_path, capsys, turned):
    content = dict(reversed(FILE.items())) if turned else FILE
    one, two, three = opened(tmp_path, content, question="caption", task="category")
    assert (one.id, one.question, one.answer, one.task) == ("1", "the small square", "red", "red")
    assert one.images == (tmp_path / "a.png",)
    assert one.boxes == ((120, 20, 180, 80), (5, 5, 15, 15))
    assert one.box_images == (0, 0)
    assert (two.id, two.images, two.boxes) == ("2", (tmp_path / "b.png",), ((0, 0, 10, 10),))
    assert (three.id, three.answer, three.boxes) == ("4", "blue", ())
    assert capsys.readouterr().err == ""


def test_the_limit_counts_samples_and_keeps_all_their_boxes(tmp_path):
    (one,) = opened(tmp_path, FILE, limit=1, question="What is {caption}?")
    assert one.question == "What is the small square?"
    assert len(one.boxes) == 2


def test_other_units_and_unknown_fields_are_taken_and_said(tmp_path, capsys):
    content = FILE | {"annotations": [FILE["annotations"][0] | {"bbox": [0.6, 0.2, 0.9, 0.8], "note": "x"}]}
    with pytest.raises(UsageError, match="1 of 1 boxes lie within one pixel"):
        opened(
            tmp_path,
            content | {"annotations": [content["annotations"][0] | {"bbox": [0.6, 0.2, 0.3, 0.6]}]},
            question="caption",
        )
    (one,) = opened(tmp_path, content, boxes="fractions", question="caption")
    assert one.in_pixels([(100, 200)]).boxes[0] == pytest.approx((120, 20, 180, 80))
    assert "passed over unknown fields note (in 1 of 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (FILE, "annotation 1: no question: expected one of .*caption.* as --field question=NAME"),
        (FILE | {"annotations": [{"image_id": 9}]}, "annotation 1: image_id 9: expected the id of one of the 2 images"),
        (FILE | {"annotations": [{"image_id": [7]}]}, r"annotation 1: image_id \[7\]"),
        (FILE | {"images": [{"id": [1]}]}, r"images 1: id \[1\]: expected a number or a text of its own"),
        (FILE | {"images": [{"id": 1}, {"id": 1}]}, "images 2: id 1: expected a number or a text of its own"),
        (FILE | {"annotations": [{"image_id": 7, "category_id": 9}]}, "category_id 9: expected the id of one of the 2"),
        (FILE | {"annotations": [{"image_id": 7, "category_id": {}}]}, "category_id {}: expected the id of one"),
        (FILE | {"categories": [{"id": 3, "name": None}]}, "category 3: name is null"),
        ({"images": []}, "holds no list 'annotations'"),
        ({"annotations": []}, "holds no list 'images'"),
        (FILE | {"annotations": []}, "zero samples"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, content, says):
    with pytest.raises(UsageError, match=says):
        opened(tmp_path, content)


def test_without_categories_the_answer_is_named(tmp_path):
    content = {k: v for k, v in FILE.items() if k != "categories"}
    with pytest.raises(UsageError, match="annotation 1: no answer: expected one of"):
        opened(tmp_path, content, question="caption")
    first = opened(tmp_path, content, question="What is there?", answer="caption")[0]
    assert first.answer == "the small square"


def test_a_shape_without_a_box_is_said(tmp_path, capsys):
    shape = {name: value for name, value in FILE["annotations"][0].items() if name != "bbox"}
    (one,) = opened(tmp_path, FILE | {"annotations": [shape]}, question="caption", task="category")
    assert one.boxes == ()
    assert "passed over unknown fields segmentation without bbox (in 1 of 1)" in capsys.readouterr().err
