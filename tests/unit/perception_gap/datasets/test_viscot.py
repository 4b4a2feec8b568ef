import json
import tracemalloc
from pathlib import Path

import pytest

from perception_gap.datasets.viscot import VisualCoT
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
    (sample,) = VisualCoT(written(tmp_path, [conversation()]), image_root=Path("root"))
    assert sample.id == "gqa-000001"
    assert sample.images == (Path("root/cot/gqa/0.jpg"),)
    assert sample.question == "What is the person 0 doing?"
    assert sample.answer == "Sitting on the floor."
    assert sample.boxes == ((303.0, 96.0, 486.0, 289.0),)
    assert sample.box_images == (0,)
    assert sample.task == "gqa"


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
