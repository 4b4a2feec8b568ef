import ast
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from perception_gap.data.images import FORMATS, check_boxes, open_image
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.sample import Sample

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, kind)
    return file.getvalue()


def message(path: Path) -> str:
    with pytest.raises(GapcheckError) as caught:
        open_image(path)
    assert not isinstance(caught.value, UsageError)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_an_image_opens_as_rgb_with_its_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png")), NOISE)
    Image.fromarray(NOISE).convert("L").save(tmp_path / "grey.png")
    assert open_image(tmp_path / "grey.png").mode == "RGB"


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the picture rotated by 90 degrees clockwise
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png")), np.rot90(NOISE, -1))


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in message(tmp_path / "none.png")


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    assert "cannot be decoded" in message(tmp_path / "text.png")
    assert "is no regular file" in message(tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("AVIF", "JPEG2000")])
def test_common_formats_open(tmp_path, kind):
    (tmp_path / "picture").write_bytes(encoded(kind))
    assert open_image(tmp_path / "picture").size == (64, 48)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "PCX", "SGI"])
def test_what_is_no_plain_raster_is_refused_and_no_helper_is_started(tmp_path, monkeypatch, kind):
    """Pillow gives EPS to Ghostscript: a program that pictures of a data set must not reach."""
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "picture.png").write_bytes(encoded(kind))
    assert "cannot be decoded (is none of PNG, JPEG" in message(tmp_path / "picture.png")
    assert not started.exists()


def test_every_picture_is_opened_as_one_of_the_formats():
    """`Image.open` without a list would also try the formats that start other programs."""
    root = Path(__file__).parents[4]
    calls = [
        (path.name, node.lineno)
        for package in ("perception_gap", "lavit", "benchmarks", "reports")
        for path in (root / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("Image.open")
        and not any(keyword.arg == "formats" for keyword in node.keywords)
    ]
    assert calls == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused_wherever_it_ends(tmp_path, kind, kept):
    whole = encoded(kind)
    (tmp_path / "cut").write_bytes(whole[: int(kept * len(whole))])
    assert "cannot be decoded" in message(tmp_path / "cut")


def test_a_truncated_image_is_refused_when_another_library_tolerates_them(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encoded("JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in message(tmp_path / "cut.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def boxed(*boxes, images=None):
    return Sample("s7", (Path("a"), Path("b")), "q", "a", boxes=boxes, box_images=images or (0,) * len(boxes))


SIZES = [(48, 64), (100, 100)]  # (height, width)


def test_boxes_inside_and_up_to_one_pixel_beyond_pass():
    check_boxes(boxed((0, 0, 64, 48), (-1, -1, 65, 49), (10.5, 3, 11, 4)), SIZES)
    check_boxes(boxed((0, 0, 100, 100), images=(1,)), SIZES)
    check_boxes(boxed(), SIZES)


@pytest.mark.parametrize("box", [(0, 0, 66, 48), (0, 0, 64, 50), (-2, 0, 5, 5), (0, -2, 5, 5), (900, 900, 950, 950)])
def test_a_box_outside_is_named_with_the_size_of_its_image(box):
    with pytest.raises(GapcheckError, match=r"sample s7: box \[.*\] reaches outside image 0 \(64 × 48 pixels\)"):
        check_boxes(boxed(box), SIZES)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (5, 9, 8, 5), (64, 0, 65, 9), (-1, 0, 0, 9)])
def test_a_box_that_covers_nothing_is_named(box):
    with pytest.raises(GapcheckError, match=r"sample s7: box \[.*\] covers nothing of image 0"):
        check_boxes(boxed(box), SIZES)


@pytest.mark.parametrize("box", [(0.6, 0.2, 0.9, 0.8), (0, 0, 1, 1), (20.1, 20.1, 20.9, 21), (5, 5, 5.999, 5.5)])
def test_a_box_under_one_pixel_is_no_annotation(box):
    with pytest.raises(GapcheckError, match=r"is under one pixel of image 0 .*--boxes says what else the numbers are"):
        check_boxes(boxed(box), SIZES)
    with pytest.raises(GapcheckError, match=r"in pixels of the original image$"):
        check_boxes(boxed(box), SIZES, remedy="")


def test_a_thin_box_is_one():
    check_boxes(boxed((5, 5, 5.5, 20), (5, 5, 20, 5.5), (5, 5, 6, 6)), SIZES)


def test_a_box_that_is_not_finite_is_refused():
    with pytest.raises(GapcheckError, match="nan"):
        check_boxes(boxed((0, 0, float("nan"), 5)), SIZES)


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.array([[0, 128, 200]], np.int32), 255),
        (np.array([[0, 1, 2]], np.int32), 255),
        (np.array([[0, 128, 200]], np.float32), 255),
        (np.array([[0, 0.25, 0.5]], np.float32), 1),
        (np.array([[0, 300, 40000]], np.int32), 65535),
        (np.array([[0, 300, 400]], np.float32), 65535),
        (np.array([[0, 1000, 131070]], np.int32), 131070),
        (np.array([[0, 128, 200]], np.uint16), 65535),
    ],
    ids=str,
)
def test_deep_grey_is_read_by_its_depth_and_not_stretched_by_its_own_maximum(tmp_path, values, white):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    read = np.asarray(open_image(tmp_path / "a.tiff"))[..., 0]
    np.testing.assert_array_equal(read, np.round(255 * values.astype(np.float64) / white).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("CMYK", "TIFF"),
        ("CMYK", "JPEG"),
        ("YCbCr", "JPEG"),
        ("P", "GIF"),
    ],
)
def test_every_common_mode_opens_as_its_colors(tmp_path, mode, kind):
    flat = Image.new("RGB", (16, 16), (255, 255, 255))
    flat.paste((0, 0, 0), (0, 0, 8, 16))
    flat.convert(mode).save(tmp_path / "a", kind)
    read = np.asarray(open_image(tmp_path / "a"), dtype=int)
    # JPEG rings at the edge.
    assert np.abs(read[:, :4]).max() <= 8
    assert np.abs(read[:, 12:] - 255).max() <= 8


def test_a_palette_with_transparent_colors_keeps_them_without_a_warning(tmp_path):
    palette = Image.fromarray(NOISE).convert("P")
    palette.save(tmp_path / "a.png", transparency=bytes([0] * 100 + [255] * 156))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = open_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read), np.asarray(palette.convert("RGB")))


def test_deep_grey_pictures_are_scaled_and_not_clipped(tmp_path):
    ramp = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)
    eight = Image.fromarray(ramp)
    eight.save(tmp_path / "8.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray((ramp / 255).astype(np.float32)).save(tmp_path / "float.tiff")
    expected = np.asarray(open_image(tmp_path / "8.png"), dtype=int)
    for name in ("16.png", "float.tiff"):
        assert np.abs(np.asarray(open_image(tmp_path / name), dtype=int) - expected).max() <= 1  # rounding
