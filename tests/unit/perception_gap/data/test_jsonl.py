import json
from pathlib import Path

import pytest

from perception_gap.data.jsonl import read_jsonl
from perception_gap.data.reading import Reading
from perception_gap.errors import UsageError

GOOD = {"id": "a", "image": "a.png", "question": "Which color?", "answer": "red", "boxes": [[1, 2, 3, 4]]}


def written(folder: Path, *lines) -> Path:
    path = folder / "data.jsonl"
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def test_a_line_becomes_a_sample(tmp_path):
    full = GOOD | {"options": ["red", "blue"], "task": "attribute", "pair": 3, "extra": None}
    (sample,) = read_jsonl(written(tmp_path, full))
    assert sample.id == "a"
    assert sample.images == (tmp_path / "a.png",)
    assert sample.boxes == ((1.0, 2.0, 3.0, 4.0),)
    assert sample.box_images == (0,)
    assert (sample.options, sample.task, sample.pair) == (("red", "blue"), "attribute", "3")


def test_several_images_and_the_image_of_each_box(tmp_path):
    line = GOOD | {"images": ["a.png", "b.png"], "boxes": [[0, 0, 1, 1, 1], [0, 0, 2, 2]]}
    del line["image"]
    (sample,) = read_jsonl(written(tmp_path, line), reading=Reading(image_root=tmp_path / "elsewhere"))
    assert sample.images == (tmp_path / "elsewhere" / "a.png", tmp_path / "elsewhere" / "b.png")
    assert sample.box_images == (1, 0)


def test_ids_default_to_line_numbers_and_boxes_to_none(tmp_path):
    line = {k: GOOD[k] for k in ("image", "question", "answer")}
    samples = read_jsonl(written(tmp_path, line, line))
    assert [s.id for s in samples] == ["1", "2"]
    assert samples[0].boxes == ()


def test_the_limit_takes_the_first_lines(tmp_path):
    path = written(tmp_path, *(GOOD | {"id": str(i)} for i in range(5)))
    assert [s.id for s in read_jsonl(path, limit=2)] == ["0", "1"]
    assert len(read_jsonl(path)) == 5


def without(field):
    return {k: v for k, v in GOOD.items() if k != field}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "b", ', "not valid JSON"),
        ("", "empty line"),
        ("   ", "empty line"),
        ("[1, 2]", "expected a JSON object"),
        (without("question"), "no question"),
        (without("answer"), "no answer"),
        (without("image"), "either image"),
        (GOOD | {"images": ["a.png"]}, "not both"),
        (without("image") | {"images": []}, "images is empty"),
        (without("image") | {"images": ["a.png", 3]}, "list of texts"),
        (GOOD | {"question": "  "}, "question is"),
        (GOOD | {"answer": 3}, "answer is 3"),
        (GOOD | {"boxes": {"x": 1}}, "boxes is"),
        *((GOOD | {"boxes": value}, "boxes is") for value in (0, False, "", {}, "[[1, 2, 3, 4]]", 1.5, True)),
        (GOOD | {"boxes": [None]}, "box null"),
        (GOOD | {"boxes": [{"x0": 1}]}, "box {"),
        (GOOD | {"boxes": [[1, 2, 3, None]]}, "expected [x0, y0, x1, y1]"),
        (GOOD | {"boxes": [[1, 2, 3, 4, 0.5]]}, "image index 0.5"),
        ('{"image": "a", "question": "q", "answer": "a", "boxes": [[0, 0, 1, -Infinity]]}', "expected [x0, y0"),
        (GOOD | {"options": [1, 2]}, "options is"),
        (GOOD | {"options": 0}, "options is"),
        (GOOD | {"options": {}}, "options is"),
        (GOOD | {"answer": None}, "answer is null"),
        (GOOD | {"answer": ["red"]}, "answer is"),
        (GOOD | {"answer": True}, "answer is true"),
        (GOOD | {"question": "<image>\n"}, "question is"),
        (GOOD | {"image": 5}, "image is 5"),
        (GOOD | {"id": True}, "id is true"),
        (GOOD | {"id": "x" * 200_000}, "expected at most 1000 characters"),
        ('{"image": "a", "question": "q", "answer": "a", "answer": "b"}', "'answer' stands twice"),
        (GOOD | {"boxes": [1, 2, 3, 4]}, "box 1"),
        (GOOD | {"boxes": [[1, 2, 3]]}, "box [1, 2, 3]"),
        (GOOD | {"boxes": [[1, 2, 3, "4"]]}, "expected [x0, y0, x1, y1]"),
        (GOOD | {"boxes": [[1, 2, 3, True]]}, "expected [x0, y0, x1, y1]"),
        ('{"image": "a", "question": "q", "answer": "a", "boxes": [[0, 0, NaN, 1]]}', "expected [x0, y0, x1, y1]"),
        (GOOD | {"boxes": [[1, 2, 3, 4, 1]]}, "image index 1: expected 0 to 0"),
        (GOOD | {"options": "red"}, "options is"),
        (GOOD | {"options": [str(i) for i in range(27)]}, "27 options"),
        (GOOD | {"task": 5}, "task is 5"),
        (GOOD | {"id": [1]}, "id is [1]"),
        (GOOD | {"pair": 1.5}, "pair is 1.5"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(tmp_path, line, says):
    path = written(tmp_path, GOOD | {"id": "first"}, line, GOOD | {"id": "last"})
    with pytest.raises(UsageError) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_answer_is_the_fault_of_its_sample_alone(tmp_path):
    samples = read_jsonl(
        written(tmp_path, *(GOOD | {"id": str(i), "answer": a} for i, a in enumerate(("red", "", " "))))
    )
    assert [sample.fault is None for sample in samples] == [True, False, False]
    assert samples[1].fault.startswith("the answer is empty")
    assert samples[1].answer == ""


@pytest.mark.parametrize(
    ("written_as", "asked"),
    [
        ("<image>\nWhat is it?", "What is it?"),
        ("What is it?<image>", "What is it?"),
        ("Is <image> the same as <image>?", "Is the same as?"),
        ("<|vision_start|><|image_pad|><|vision_end|>What is it?", "What is it?"),
        ("Is a < b and b > c?", "Is a < b and b > c?"),
    ],
)
def test_marks_of_a_pictures_place_are_taken_out_of_the_question(tmp_path, written_as, asked):
    (sample,) = read_jsonl(written(tmp_path, GOOD | {"question": written_as}))
    assert sample.question == asked


@pytest.mark.parametrize(
    ("written_as", "answer"),
    [
        ("<answer>red</answer>", "red"),
        ("<think>blue?</think>\n<answer> red </answer>", "red"),
        ("<lvr><lvr1><|lvr_end|>red", "red"),
        ("a < b", "a < b"),
    ],
)
def test_tags_of_published_layouts_are_taken_out_of_the_answer(tmp_path, written_as, answer):
    (sample,) = read_jsonl(written(tmp_path, GOOD | {"answer": written_as}))
    assert (sample.answer, sample.fault) == (answer, None)


def test_a_picture_that_cannot_be_had_is_the_fault_of_its_sample_and_keeps_its_place(tmp_path):
    line = without("image") | {"images": ["https://example.org/a.png", "b.png"], "boxes": [[1, 2, 3, 4, 1]]}
    (sample,) = read_jsonl(written(tmp_path, line))
    assert "addresses are not fetched" in sample.fault
    assert sample.images[1] == tmp_path / "b.png"
    assert len(sample.images) == 2


def test_a_long_value_is_cut_in_messages(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_jsonl(written(tmp_path, GOOD | {"options": "x" * 200_000}))
    assert len(str(caught.value)) < 300


def test_an_id_given_twice_is_an_error_with_both_lines(tmp_path):
    path = written(tmp_path, GOOD, GOOD | {"id": "b"}, GOOD)
    with pytest.raises(UsageError, match=r":3: id 'a' is already that of line 1"):
        read_jsonl(path)


def test_text_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes('{"question": "où"}\n'.encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8"):
        read_jsonl(path)
