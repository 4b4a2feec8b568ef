import json
from pathlib import Path

import pytest

from perception_gap.data import open_data
from perception_gap.data.images import check_boxes, open_pictures
from perception_gap.data.reading import Reading
from perception_gap.errors import GapcheckError, UsageError

LINE = {"image": "a.png", "question": "What color is the small square?", "answer": "red"}
SIZE = [(100, 200)]  # (height, width)
BOX = (120.0, 20.0, 180.0, 80.0)


def opened(folder: Path, *records, boxes=None, fields=None, limit=None):
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return open_data(str(path), work=folder / "run", reading=Reading(boxes, fields or {}), limit=limit)


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("box", "boxes"),
        ("bbox", "boxes"),
        ("bboxs", "boxes"),
        ("bboxes", "boxes"),
        ("Boxes", "boxes"),
        ("choices", "options"),
        ("category", "task"),
        ("Answer", "answer"),
    ],
)
def test_an_unknown_field_is_named_once_with_the_nearest_known_one(tmp_path, capsys, name, guess):
    data = opened(tmp_path, LINE | {name: [[1, 2, 30, 40]]}, LINE, LINE | {name: [[1, 2, 30, 40]], "extra": None})
    said = capsys.readouterr().err
    assert said == (
        f"note: {tmp_path / 'data.jsonl'}: passed over unknown fields {name} (in 2 of 3: did you mean {guess}?)\n"
    )
    assert all(sample.boxes == () for sample in data.samples)


def test_fields_without_a_neighbour_are_named_and_many_are_counted(tmp_path, capsys):
    opened(tmp_path, LINE | {"caption": "x"} | {f"zz{i}": 1 for i in range(20)})
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "and 13 more" in said
    assert "did you mean" not in said


def test_nothing_is_said_where_every_field_is_read(tmp_path, capsys):
    opened(tmp_path, LINE | {"id": 1, "boxes": [BOX], "options": ["red", "blue"], "task": "t", "pair": "p"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("messages", [{"role": "user", "content": "q"}], "a chat is not read"),
        ("conversations", [{"from": "human", "value": "q"}], "viscot:FILE"),
        ("video", "a.mp4", "give the frames as images"),
        ("videos", ["a.mp4"], "give the frames as images"),
        ("audio", "a.wav", "only pictures are read"),
    ],
)
def test_a_field_that_changes_what_is_asked_is_refused(tmp_path, name, value, says):
    with pytest.raises(UsageError, match=says) as caught:
        opened(tmp_path, LINE, LINE | {name: value})
    assert str(caught.value).startswith(f"{tmp_path / 'data.jsonl'}:2: {name}: ")
    opened(tmp_path, LINE | {name: None}, LINE | {name: []})  # holds nothing


@pytest.mark.parametrize(
    ("unit", "box"),
    [
        (None, BOX),
        ("pixels", BOX),
        ("fractions", (0.6, 0.2, 0.9, 0.8)),
        ("thousandths", (600, 200, 900, 800)),
        ("xywh", (120, 20, 60, 60)),
    ],
)
def test_boxes_of_every_unit_come_out_in_pixels(tmp_path, unit, box):
    (sample,) = opened(tmp_path, LINE | {"boxes": [box]}, boxes=unit).samples
    found = sample.in_pixels(SIZE)
    check_boxes(found, SIZE)
    assert found.boxes[0] == pytest.approx(BOX, rel=1e-12)  # division and product round once each
    assert found.box_fields() == {"boxes": list(found.boxes[0]), "box_images": [0]}
    assert found.unit_boxes(SIZE)[0] == pytest.approx((0.6, 0.2, 0.9, 0.8), rel=1e-12)


def test_what_the_numbers_are_is_part_of_what_defines_the_data(tmp_path):
    hashes = {opened(tmp_path, LINE | {"boxes": [[0.2, 0.2, 40, 40]]}, boxes="pixels").hash}
    hashes |= {opened(tmp_path, LINE | {"boxes": [[0.2, 0.2, 40, 40]]}, boxes="xywh").hash}
    hashes |= {opened(tmp_path, LINE | {"boxes": [[0, 0, 1, 1]]}, boxes=unit).hash for unit in ("pixels", "fractions")}
    assert len(hashes) == 4
    data = opened(tmp_path, LINE | {"boxes": [[0.5, 0, 1, 1]]}, boxes="fractions")
    assert data.description() == {"spec": data.spec, "hash": data.hash, "n": 1, "boxes": "fractions"}


@pytest.mark.parametrize(
    ("unit", "boxes"),
    [
        (None, [[0.6, 0.2, 0.9, 0.8]]),
        ("pixels", [[0.6, 0.2, 0.9, 0.8], [0, 0, 1, 0.5]]),
        ("xywh", [[0.1, 0.1, 0.3, 0.3]]),
        ("fractions", [list(BOX)]),
        ("fractions", [[600, 200, 900, 800]]),
        ("thousandths", [[0.6, 0.2, 0.9, 0.8]]),
        ("thousandths", [[1600, 1200, 1900, 1800]]),
    ],
)
def test_boxes_of_another_unit_are_refused_with_the_remedy(tmp_path, unit, boxes):
    with pytest.raises(UsageError) as caught:
        opened(tmp_path, LINE | {"boxes": boxes}, boxes=unit)
    assert f"{len(boxes)} of {len(boxes)} boxes" in str(caught.value)
    assert "--boxes pixels|fractions|thousandths|xywh" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_few_odd_boxes_do_not_refuse_the_file_but_fail_their_rows(tmp_path):
    small = [[0.6, 0.2, 0.9, 0.8]]
    data = opened(tmp_path, LINE | {"boxes": small}, *[LINE | {"boxes": [BOX]}] * 2, LINE | {"boxes": [[0, 0, 1, 1]]})
    for index in (0, 3):
        with pytest.raises(GapcheckError, match=r"is under one pixel of image 0 .*; --boxes says"):
            check_boxes(data.samples[index], SIZE)
    check_boxes(data.samples[1], SIZE)


def test_our_fields_are_taken_from_others(tmp_path, capsys):
    record = {
        "pic": "a.png",
        "prompt": "Which one?",
        "gt": "red",
        "bbox": list(BOX),
        "kind": "color",
        "image": "no.png",
    }
    fields = {"image": "pic", "question": "prompt", "answer": "gt", "boxes": "bbox", "task": "{kind} of {gt}"}
    data = opened(tmp_path, record, fields=fields)
    (sample,) = data.samples
    assert sample.images == (tmp_path / "a.png",)
    assert (sample.question, sample.answer, sample.task) == ("Which one?", "red", "color of red")
    assert sample.boxes == (BOX,)
    assert data.description()["fields"] == fields
    assert capsys.readouterr().err == ""
    nested = LINE | {"answers": ["red", "crimson"], "meta": {"source": "gqa", "n": [1]}}
    (deep,) = opened(tmp_path, nested, fields={"answer": "answers.0", "task": "{meta.source}-{meta.n.0}"}).samples
    assert (deep.answer, deep.task) == ("red", "gqa-1")
    (same,) = opened(tmp_path, LINE, fields={"id": "image", "task": "answer"}).samples
    assert (same.id, same.images, same.task, same.answer) == ("a.png", (tmp_path / "a.png",), "red", "red")
    assert capsys.readouterr().err == ""
    (said,) = opened(tmp_path, LINE, fields={"question": "What is to see?"}).samples
    assert said.question == "What is to see?"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"question": "prompt"},
            r":1: --field question=prompt: no field 'prompt': expected one of image, question, an",
        ),
        ({"boxes": "bbox"}, r"--field boxes=bbox: no field 'bbox': expected one of box$"),
        ({"question": "Is it {color}?"}, r"no field 'color': expected one of"),
        ({"colour": "answer"}, r"--field colour=\.\.: expected one of id, image, images, question"),
    ],
)
def test_a_field_that_is_not_there_is_refused_with_those_that_are(tmp_path, fields, says):
    with pytest.raises(UsageError, match=says):
        opened(tmp_path, LINE, LINE | {"box": [BOX]}, fields=fields)


def test_an_unknown_unit_and_options_of_scenes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--boxes yolo: expected one of pixels, fractions, thousandths, xywh"):
        Reading("yolo")
    for reading, option in ((Reading("xywh"), "--boxes"), (Reading(None, {"question": "q"}), "--field")):
        with pytest.raises(UsageError, match=f"{option}: scenes bring their own"):
            open_data("scenes", limit=1, work=tmp_path, reading=reading)


def test_a_fault_is_said_before_a_picture_is_opened(tmp_path):
    (sample,) = opened(tmp_path, LINE | {"image": "https://example.org/a.png"}).samples
    with pytest.raises(GapcheckError, match="addresses are not fetched; download it and give its path"):
        open_pictures(sample)
