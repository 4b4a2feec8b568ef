import base64

import numpy as np
import pytest
from PIL import Image

from perception_gap.data.images import open_image
from perception_gap.geometry import TokenGeometry
from reports.page.payload import Shapes, packed, shape, thumbnail, unit_boxes


def unpacked(found: dict, rows: int) -> np.ndarray:
    """What page.js makes of it: (byte / 255)² × scale."""
    values = np.frombuffer(base64.b64decode(found["data"]), dtype=np.uint8).reshape(rows, -1)
    return (values / 255.0) ** 2 * np.array([[s or 0.0] for s in found["scale"]])


def test_packed_bytes_by_hand():
    found = packed(np.array([[0.0, 0.01, 0.04, 0.16]]))  # square roots 0, 1/4, 1/2, 1 of the largest
    assert list(base64.b64decode(found["data"])) == [0, 64, 128, 255]
    assert found["scale"] == [0.16]


def test_what_is_packed_comes_back_within_half_a_step_of_the_square_root_scale():
    maps = np.random.default_rng(0).dirichlet(np.full(700, 0.3), size=5)
    back = unpacked(packed(maps), 5)
    largest = maps.max(axis=1, keepdims=True)
    # Half of 1/255 on the square-root scale, and the scale's four digits.
    np.testing.assert_allclose(np.sqrt(back / largest), np.sqrt(maps / largest), atol=0.5 / 255 + 1e-4)


def test_packing_ignores_the_scale_of_a_row():
    maps = np.random.default_rng(1).random((2, 30))
    assert packed(maps)["data"] == packed(maps * [[7.0], [0.001]])["data"]


@pytest.mark.parametrize("row", [[np.nan, 1.0], [0.0, 0.0]])
def test_a_row_without_mass_has_no_scale(row):
    found = packed(np.array([row, [0.5, 0.5]]))
    assert found["scale"][0] is None
    assert found["scale"][1] == 0.5


def test_a_raster_is_its_shape_and_tiles_are_their_rectangles():
    assert shape(TokenGeometry.grid(3, 5)) == {"rows": 3, "cols": 5}
    tiles = TokenGeometry.concatenate([TokenGeometry.grid(1, 2), TokenGeometry.grid(1, 1, image=1)])
    assert shape(tiles) == {"boxes": [0, 0, 0.5, 1, 0.5, 0, 1, 1, 0, 0, 1, 1], "images": [0, 0, 1]}


def test_samples_share_the_geometries_that_are_equal():
    shapes = Shapes()
    halves = (TokenGeometry.grid(1, 2, within=(0, 0, 1, 0.5)), TokenGeometry.grid(1, 2, within=(0, 0, 1, 0.5)))
    found = [shapes.index(g) for g in (TokenGeometry.grid(2, 2), *halves, TokenGeometry.grid(2, 2))]
    assert found == [0, 1, 1, 0]
    assert len(shapes.listed) == 2


def test_thumbnails_keep_the_ratio_stand_upright_and_are_small(tmp_path):
    picture = Image.new("RGB", (1000, 400), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by 90°
    picture.save(tmp_path / "turned.jpg", exif=exif)
    src, ratio = thumbnail(open_image(tmp_path / "turned.jpg"), 100)
    assert ratio == 0.4
    data = base64.b64decode(src.removeprefix("data:image/webp;base64,"))
    (tmp_path / "small.webp").write_bytes(data)
    assert Image.open(tmp_path / "small.webp").size == (40, 100)


def test_boxes_become_fractions_of_their_picture():
    row = {"boxes": [10, 20, 30, 40, 0, 0, 50, 100], "box_images": [0, 1]}
    assert unit_boxes(row, [(100, 200), (50, 100)]) == [[0.1, 0.1, 0.3, 0.2, 0], [0, 0, 1, 1, 1]]
    assert unit_boxes(row, []) == []  # a picture that did not open has no size
