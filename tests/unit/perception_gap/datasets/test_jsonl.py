import json
from pathlib import Path

import pytest

from perception_gap.datasets.jsonl import read_jsonl
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
    (sample,) = read_jsonl(written(tmp_path, line), image_root=tmp_path / "elsewhere")
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


def test_an_id_given_twice_is_an_error_with_both_lines(tmp_path):
    path = written(tmp_path, GOOD, GOOD | {"id": "b"}, GOOD)
    with pytest.raises(UsageError, match=r":3: id 'a' is already that of line 1"):
        read_jsonl(path)


def test_text_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes('{"question": "où"}\n'.encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8"):
        read_jsonl(path)
