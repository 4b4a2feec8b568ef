import json
import tracemalloc
from pathlib import Path

import pytest

from perception_gap.data.images import open_image
from perception_gap.data.reading import Reading
from perception_gap.data.viscot import VisualCoT
from perception_gap.errors import UsageError

REQUEST = " Please provide the bounding box coordinate of the region that can help you answer the question better."


def conversation(i: int = 0) -> dict:
    """An entry as the training file and the benchmark have it."""
    return {
        "dataset": "gqa",
        "split": "train",
        "question_id": i,
        "image": [f"cot/gqa/{i}.jpg", f"cot/gqa/{i}.jpg###[303, 96, 486, 289]"],
        "conversations": [
            {"from": "human", "value": f"<image>\nWhat is the person {i} doing?{REQUEST}"},
            {"from": "gpt", "value": "[0.606, 0.358, 0.972, 0.744]"},
            {"from": "human", "value": "<image>"},
            {"from": "gpt", "value": "Sitting on the floor."},
        ],
    }


PLAIN = {"question": "What is it?", "answer": "a cup", "image": "7.jpg", "width": 640, "height": 480,
         "bboxs": [[1, 2, 30, 40], [50, 60, 70, 80]], "dataset": "flickr30k", "split": "train"}  # fmt: skip


def written(folder: Path, entries: list) -> Path:
    path = folder / "viscot.json"
    path.write_text(json.dumps(entries, indent=1))
    return path


def test_the_conversation_layout_takes_the_box_in_pixels_and_drops_the_request_for_it(tmp_path):
    (sample,) = VisualCoT(written(tmp_path, [conversation()]), reading=Reading(image_root=Path("root")))
    assert sample.id == "gqa-000001"
    assert sample.images == (Path("root/cot/gqa/0.jpg"),)
    assert sample.question == "What is the person 0 doing?"
    assert sample.answer == "Sitting on the floor."
    assert sample.boxes == ((303.0, 96.0, 486.0, 289.0),)
    assert sample.box_images == (0,)
    assert sample.task == "gqa"


QUESTION = {"from": "human", "value": "<image>\nWhat color is the small square?"}


def test_lvrs_layout_has_boxes_in_fractions_and_tags_around_the_answer(tmp_path, capsys):
    asked = {"from": "human", "value": QUESTION["value"] + "\nProvide a short and direct response."}
    answer = {"from": "gpt", "value": "<lvr>\n<answer> red </answer>"}
    entry = {
        "dataset": "flickr30k",
        "split": "train",
        "question_id": 1,
        "image": ["a.png"],
        "conversations": [asked, answer],
        "bboxes": [[0.6, 0.2, 0.9, 0.8]],
    }
    (sample,) = VisualCoT(written(tmp_path, [entry]))
    assert (sample.question, sample.answer) == ("What color is the small square?", "red")
    assert sample.in_pixels([(100, 200)]).boxes[0] == pytest.approx((120, 20, 180, 80), rel=1e-12)
    assert capsys.readouterr().err == ""
    pixels = entry | {"bboxes": [[120, 20, 180, 80]]}
    with pytest.raises(UsageError, match=r"1 of 1 boxes are no fractions, .* --boxes pixels"):
        VisualCoT(written(tmp_path, [pixels]))
    (sample,) = VisualCoT(written(tmp_path, [pixels]), reading=Reading("pixels"))
    assert (sample.boxes, sample.fractions) == (((120, 20, 180, 80),), False)


def test_lavits_layout_has_two_turns_and_no_boxes(tmp_path):
    entry = {"image": ["a.png"], "conversations": [QUESTION, {"from": "gpt", "value": "<answer>red</answer>"}]}
    (sample,) = VisualCoT(written(tmp_path, [entry]))
    assert (sample.question, sample.answer, sample.boxes) == ("What color is the small square?", "red", ())


@pytest.mark.parametrize("empty", ["", " \n", "<answer></answer>", "<lvr>"])
def test_an_empty_answer_is_the_fault_of_its_entry_alone(tmp_path, empty):
    silent = conversation(1)
    silent["conversations"][-1]["value"] = empty
    samples = VisualCoT(written(tmp_path, [conversation(0), silent, PLAIN | {"answer": empty}, conversation(2)]))
    assert [sample.fault is None for sample in samples] == [True, False, False, True]
    assert samples[1].id == "gqa-000002"


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([conversation(i) for i in range(3)]).encode())
    assert VisualCoT(path)[2].question == "What is the person 2 doing?"


def test_unknown_fields_are_named_and_the_published_ones_are_not(tmp_path, capsys):
    VisualCoT(written(tmp_path, [conversation(), PLAIN, PLAIN | {"bbox": [[1, 2, 3, 4]], "possible_answers": ["x"]}]))
    said = capsys.readouterr().err
    assert "passed over unknown fields bbox (in 1 of 3: did you mean bboxs?)\n" in said
    VisualCoT(written(tmp_path, [conversation() | {"bboxes": [[0.1, 0.1, 0.2, 0.2]]}]))
    assert "bboxes (in 1 of 1)" in capsys.readouterr().err


def test_pictures_inside_the_file_and_addresses_are_read_or_said(tmp_path):
    content = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    entries = [PLAIN | {"image": content}, conversation() | {"image": ["http://x.org/a.png"]}, conversation()]
    samples = VisualCoT(written(tmp_path, entries), reading=Reading(pictures=tmp_path / "pictures"))
    assert open_image(samples[0].images[0]).size == (1, 1)
    assert "addresses are not fetched" in samples[1].fault
    assert samples[2].fault is None


@pytest.mark.parametrize("key", ["bboxs", "bboxes"])
def test_the_metadata_layout_keeps_every_box(tmp_path, key):
    entry = {key if k == "bboxs" else k: v for k, v in PLAIN.items()}
    (sample,) = VisualCoT(written(tmp_path, [entry]))
    assert sample.images == (tmp_path / "7.jpg",)
    assert sample.boxes == ((1, 2, 30, 40), (50, 60, 70, 80))
    assert (sample.question, sample.answer, sample.task) == ("What is it?", "a cup", "flickr30k")


def test_samples_are_indexed_sliced_and_limited_like_a_list(tmp_path):
    path = written(tmp_path, [conversation(i) for i in range(9)])
    samples = VisualCoT(path, limit=5)
    assert len(samples) == 5
    assert [s.id for s in samples] == [f"gqa-{i:06d}" for i in range(1, 6)]
    assert samples[-1] == samples[4] == list(samples)[4]
    assert samples[1:3] == [samples[1], samples[2]]
    with pytest.raises(IndexError):
        samples[5]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *(({"image": ["a.jpg"], "bboxes": value}, "boxes is") for value in (0, False, "", {})),
        ({"image": ["a.jpg"], "bboxes": [[0.1, 0.2, "x", 1]]}, "expected [x0, y0, x1, y1] in fractions"),
        ({"video": "a.mp4"}, "give the frames as images"),
        ({"image": []}, "no image"),
        ({"image": None}, "no image"),
        ({"image": ["a.jpg", 3]}, "list of texts"),
        ({"image": ["a.jpg", "a.jpg###[1, 2"]}, "behind ###"),
        ({"image": ["a.jpg", "a.jpg###[1, 2, 3]"]}, "expected [x0, y0, x1, y1]"),
        ({"conversations": []}, "turns from human and gpt"),
        ({"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "y"}]}, "turns from human"),
        ({"conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "y"}]}, "question is"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt"}]}, "answer is null"),
    ],
)
def test_a_malformed_entry_is_named_by_its_number(tmp_path, change, says):
    path = written(tmp_path, [conversation(), conversation(1) | change])
    with pytest.raises(UsageError) as caught:
        VisualCoT(path)
    assert str(caught.value).startswith(f"{path}: entry 2: ")
    assert says in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match="entry 1: neither conversations nor question"):
        VisualCoT(written(tmp_path, [{"a": 1}]))


def test_a_file_that_changed_after_opening_is_noticed(tmp_path):
    path = written(tmp_path, [conversation(i) for i in range(3)])
    samples = VisualCoT(path)
    path.write_text("[]")
    with pytest.raises(UsageError, match="changed or vanished"):
        samples[2]


def test_memory_is_bounded_however_long_the_file(tmp_path):
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write("[" + ",\n".join(json.dumps(PLAIN | {"answer": f"cup {i}"}) for i in range(30_000)) + "]")
    tracemalloc.start()
    samples = VisualCoT(path)
    n, last = len(samples), samples[-1].answer
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (n, last) == (30_000, "cup 29999")
    # Measured 1.4 to 3.6 MB: chunks of 256 KiB, 16 bytes a sample, and the interpreter's table of interned path
    # names, which grows in one step now and then. The samples themselves would take 31 MB (1,029 bytes each).
    assert peak < 8e6, peak
