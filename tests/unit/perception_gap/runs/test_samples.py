"""Samples on their way into a model: what cannot be asked is a failed row with its reason, in its place."""

from pathlib import Path

import numpy as np
from PIL import Image

from perception_gap.data.images import Contents
from perception_gap.errors import GapcheckError
from perception_gap.runs.samples import Work, open_samples
from perception_gap.sample import Sample


def picture(path: Path, value: int = 0) -> Path:
    Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(path)
    return path


def work(name: str, path: Path, box: tuple[float, ...] = (0, 0, 10, 10)) -> Work:
    sample = Sample(name, (path,), "q?", "red", (box,), (0,), pair="p")
    return Work(sample, Contents.of(sample.images).hash, f"key-{name}")


def rekeyed(sample: Sample, images: str) -> Work:
    return Work(sample, images, f"new-{sample.id}")


def test_every_sample_has_a_row_and_what_can_be_asked_its_pictures(tmp_path):
    items = [
        work("good", picture(tmp_path / "a.png")),
        work("gone", tmp_path / "gone.png"),
        work("outside", picture(tmp_path / "b.png"), (0, 0, 99, 99)),
        work("refused", picture(tmp_path / "c.png")),
    ]

    def also(sample: Sample) -> None:
        if sample.id == "refused":
            raise GapcheckError("names no option")

    rows, opened = open_samples(tmp_path, items, rekeyed, also)
    assert list(rows) == ["key-good", "key-gone", "key-outside", "key-refused"]
    assert [item.sample.id for item in opened] == ["good"]
    assert opened[0].pictures[0].size == (30, 20)
    good, gone, outside, refused = rows.values()
    assert "status" not in good
    assert (good["heights"], good["widths"], good["boxes"], good["images"]) == ([20], [30], [0, 0, 10, 10], ["a.png"])
    assert (gone["status"], gone["heights"]) == ("failed", [])
    assert "no such file" in gone["error"]
    assert "reaches outside image 0 (30 × 20 pixels)" in outside["error"]
    assert outside["widths"] == [30]  # what is known of a failed sample stays
    assert refused["error"] == "names no option"


def test_a_picture_that_changed_is_measured_as_it_is_under_the_key_of_that(tmp_path):
    item = work("a", picture(tmp_path / "a.png"))
    picture(tmp_path / "a.png", 255)
    rows, opened = open_samples(tmp_path, [item], rekeyed, lambda sample: None)
    assert list(rows) == ["new-a"]
    assert rows["new-a"]["image_hash"] == Contents.of(item.sample.images).hash != item.images
    assert (opened[0].key, opened[0].pictures[0].getpixel((0, 0))) == ("new-a", (255, 255, 255))


def test_boxes_in_fractions_are_pixels_from_here_on(tmp_path):
    images = (picture(tmp_path / "a.png"),)
    sample = Sample("f", images, "q?", "red", ((0.0, 0.0, 0.5, 0.5),), (0,), fractions=True)
    item = Work(sample, Contents.of(sample.images).hash, "k")
    rows, opened = open_samples(tmp_path, [item], rekeyed, lambda sample: None)
    assert rows["k"]["boxes"] == [0.0, 0.0, 15.0, 10.0]
    assert opened[0].sample.boxes == ((0.0, 0.0, 15.0, 10.0),)
