"""Which pictures of a run are read: those below it and below what the user names, while they are what was measured."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from perception_gap.data.images import open_image, pixel_bytes
from perception_gap.runs.paths import is_below
from reports.pictures import CHANGED, GONE, OUTSIDE, PictureError, open_pictures


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "run" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (4, 3), "red").save(path)
    return path


def digest(*paths: Path) -> str:
    return sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def refused(paths, image_hash, folder) -> str:
    with pytest.raises(PictureError) as found:
        open_pictures(paths, image_hash, [folder])
    return str(found.value)


def test_pictures_below_a_named_folder_are_shown(picture, tmp_path):
    (found,) = open_pictures([picture], digest(picture), [tmp_path / "run"])
    assert found.getpixel((0, 0)) == (255, 0, 0)
    assert len(open_pictures([picture] * 2, digest(picture, picture), [tmp_path / "other", tmp_path])) == 2
    pixels = sha256(pixel_bytes(open_image(picture))).hexdigest()
    assert open_pictures([picture], pixels, [tmp_path], of_pixels=True)
    assert open_pictures([], None, []) == []  # a question without pictures


@pytest.mark.parametrize("spelling", ["{}", "{root}/run/../secret.png", "link.png", "linked/secret.png"])
def test_a_picture_outside_is_not_opened_however_it_is_spelt(picture, tmp_path, spelling):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 3), "blue").save(secret)
    (tmp_path / "run" / "link.png").symlink_to(secret)
    (tmp_path / "run" / "linked").symlink_to(tmp_path)
    path = tmp_path / "run" / spelling.format(secret, root=tmp_path)
    assert refused([path], digest(secret), tmp_path / "run") == OUTSIDE
    assert refused([picture, path], digest(picture, secret), tmp_path / "run") == OUTSIDE
    assert open_pictures([path], digest(secret), [tmp_path / "run", tmp_path])


def test_a_name_that_begins_alike_is_another_folder(tmp_path):
    assert not is_below(tmp_path / "run-2" / "a.png", [tmp_path / "run"])
    assert is_below(tmp_path / "run", [tmp_path / "run"])


def test_a_picture_replaced_since_is_not_shown_as_the_one_that_was_measured(picture, tmp_path):
    measured = digest(picture)
    Image.new("RGB", (4, 3), "blue").save(picture)
    assert refused([picture], measured, tmp_path) == CHANGED
    assert refused([picture], None, tmp_path) == CHANGED


def test_what_is_gone_damaged_or_no_file_is_said_to_be_so(picture, tmp_path):
    assert refused([tmp_path / "gone.png"], "", tmp_path) == GONE
    assert refused([tmp_path], "", tmp_path) == GONE
    assert refused([tmp_path / ("x" * 5000)], "", tmp_path) == GONE
    os.mkfifo(tmp_path / "pipe")
    assert refused([tmp_path / "pipe"], "", tmp_path) == GONE
    (tmp_path / "text.png").write_bytes(b"no picture")
    assert refused([tmp_path / "text.png"], digest(tmp_path / "text.png"), tmp_path) == GONE
