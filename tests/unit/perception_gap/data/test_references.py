import base64
import io
import os
from pathlib import Path
from textwrap import wrap
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from perception_gap.data.images import open_image
from perception_gap.data.references import locate, placeholder
from perception_gap.errors import GapcheckError

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def in_base64(kind: str = "PNG") -> str:
    return base64.b64encode(encoded(kind)).decode()


def test_paths_are_relative_to_the_root_and_absolute_ones_stay(tmp_path):
    assert locate("img/a.png", tmp_path, None) == tmp_path / "img/a.png"
    assert locate("/x/a.png", tmp_path, None) == Path("/x/a.png")
    assert locate("a:b.png", tmp_path, None) == tmp_path / "a:b.png"
    assert locate("deadbeef" * 8, tmp_path, None) == tmp_path / ("deadbeef" * 8)  # a name of base64's letters


@pytest.mark.parametrize(
    "reference",
    [
        encoded(),
        {"bytes": encoded(), "path": None},
        {"bytes": encoded("WEBP"), "path": "a.webp"},
        f"data:image/png;base64,{in_base64()}",
        f"DATA:;base64,{in_base64('TIFF')}",
        f"data:image/png;charset=utf-8;base64,{quote(in_base64())}",
        f"data:image/png,{quote(encoded())}",
        in_base64(),
        in_base64("BMP"),
        in_base64("WEBP"),
        in_base64("TIFF"),
        f"data:image/png;base64,{in_base64().rstrip('=')}\n",
        "\n".join(wrap(in_base64(), 76)),
    ],
    ids=str,
)
def test_a_picture_inside_the_data_gets_a_file_named_after_its_content(tmp_path, reference):
    path = locate(reference, Path("elsewhere"), tmp_path / "pictures")
    assert path.parent == tmp_path / "pictures"
    assert path == locate(reference, Path("elsewhere"), tmp_path / "pictures")
    np.testing.assert_array_equal(np.asarray(open_image(path)), NOISE)


def test_a_kept_picture_that_was_damaged_is_written_again(tmp_path):
    path = locate(encoded(), tmp_path, tmp_path / "pictures")
    path.write_bytes(bytes(path.stat().st_size))
    assert locate(encoded(), tmp_path, tmp_path / "pictures").read_bytes() == encoded()


def test_a_file_address_is_its_path(tmp_path):
    assert locate("file:///x/a%20b.png", tmp_path, None) == Path("/x/a b.png")
    assert locate("file://localhost/x/a.png", tmp_path, None) == Path("/x/a.png")
    assert locate("file:img/a.png", tmp_path, None) == tmp_path / "img/a.png"
    with pytest.raises(GapcheckError, match="expected file:///PATH"):
        locate("file://img/a.png", tmp_path, None)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("https://example.org/a.png", "addresses are not fetched; download it"),
        ("s3://bucket/a.png", "addresses are not fetched"),
        ("x/" * 2200 + "a.png", "longer than a path can be"),
        ("a" * 300 + ".png", "longer than a path can be"),
        ("é" * 130, "longer than a path can be"),  # two bytes each
        ("A" * 200_000 + "!", "longer than a path can be"),
        ("data:image/png;base64," + "QUJD" * 50_000, "holds no picture"),
        ("data:image/png;base64,%%%", "not valid base64"),
        ("data:image/png", "with a comma before the picture"),
        ("data:image/png;base64,", "holds no picture"),
        (b"", "holds no picture"),
        ({"bytes": None, "path": None}, "there is none"),
        ({}, "there is none"),
        ("  ", "there is none"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_picture_is_said_in_a_short_line(tmp_path, reference, says):
    with pytest.raises(GapcheckError, match=says) as caught:
        locate(reference, tmp_path, tmp_path / "pictures")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)
    stand_in = placeholder(reference, tmp_path)
    assert not stand_in.exists()
    assert len(stand_in.name) < 60


def test_a_picture_inside_data_without_a_place_for_it_is_refused(tmp_path):
    with pytest.raises(GapcheckError, match="has no place here"):
        locate(encoded(), tmp_path, None)


def test_a_picture_behind_a_closed_folder_or_a_loop_fails_in_one_line(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "a.png").write_bytes(encoded())
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "loop", tmp_path / "file" / "a.png", tmp_path / ("a" * 300), tmp_path / ("b/" * 3000)):
        with pytest.raises(GapcheckError, match=r"^image ") as caught:
            open_image(path)
        assert len(str(caught.value)) < 400
    os.chmod(closed, 0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(folder, 0o755)
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65534)  # nobody: root enters every folder
    try:
        with pytest.raises(GapcheckError, match="Permission denied"):
            open_image(closed / "a.png")
    finally:
        if uid == 0:
            os.seteuid(0)
        os.chmod(closed, 0o755)
