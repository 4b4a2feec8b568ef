"""Images and boxes of one sample, checked when the sample is analysed: a bad one fails its row, not the run."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from perception_gap.errors import GapcheckError
from perception_gap.sample import Sample

# What pictures are opened as: rasters that Pillow reads by itself. It gives EPS to Ghostscript, an interpreter.
FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "PPM",
    "JPEG2000",
    "TGA",
    *(["AVIF"] if find_spec("PIL.AvifImagePlugin") else []),
)
TOLERANCE = 1.0  # pixels: annotators count from 1 or round up, so a box may end one pixel beyond the border


def open_image(path: Path) -> Image.Image:
    """The picture, fully decoded, upright (EXIF orientation applied), as RGB.

    GapcheckError, in one line with the path, for a file that is missing, truncated or no image.
    """
    if path.exists() and not path.is_file():
        raise GapcheckError(f"image {path}: is no regular file; expected an image file")
    try:
        return _decoded(path, str(path))
    except FileNotFoundError:
        raise GapcheckError(f"image {path}: no such file; check the path or pass --image-root") from None


def decode_image(data: bytes, name: str) -> Image.Image:
    """`open_image` of an encoded picture in memory, which errors call `name`."""
    return _decoded(io.BytesIO(data), name)


def _decoded(source: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        with whole_images(), Image.open(source, formats=FORMATS) as picture:
            picture.load()
            return _eight_bit(ImageOps.exif_transpose(picture)).convert("RGB")
    except FileNotFoundError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise GapcheckError(f"image {name}: cannot be decoded (is none of {known}); convert it to one") from None
    # Pillow's decoders raise all of these on damaged files (SyntaxError for broken PNG chunks).
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        reason = re.sub(r" ('[^']*'|<[^>]*>)$", "", reason)  # the file, which the message names already
        raise GapcheckError(f"image {name}: cannot be decoded ({reason}); replace the file") from None


def pixel_bytes(picture: Image.Image) -> bytes:
    """What a hash of the pixels covers: mode, size and values."""
    return f"{picture.mode} {picture.size}".encode() + picture.tobytes()


def shrink(picture: Image.Image, most: int | None) -> Image.Image:
    """The picture with at most `most` pixels (width × height), its aspect ratio kept to a pixel; never enlarged.

    Antialiased bicubic, as image processors do it. None: as it is. ValueError below one pixel.
    """
    if most is not None and most < 1:
        raise ValueError(f"most {most}: expected at least one pixel")
    width, height = picture.size
    if most is None or width * height <= most:
        return picture
    scale = math.sqrt(most / (width * height))
    wide, high = max(1, int(width * scale)), max(1, int(height * scale))
    return picture.resize((min(wide, most), min(high, most // min(wide, most))), Image.Resampling.BICUBIC)


@contextmanager
def whole_images() -> Iterator[None]:
    """While open, Pillow refuses truncated files.

    lmms-eval lets them pass for the whole process, and half a picture then counts as a whole one.
    """
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Deep grey modes scaled to 0..255: Pillow's own conversion clips them, which leaves them all but white."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("has undefined pixel values")
    whole = 65535.0 if picture.mode.startswith("I;16") or 255 < values.max() <= 65535 else max(values.max(), 1.0)
    return Image.fromarray(np.clip(255 * values / whole, 0, 255).round().astype(np.uint8))


def check_boxes(sample: Sample, sizes: Sequence[tuple[int, int]]) -> None:
    """Every box must cover part of its image and end at most one pixel beyond it; `sizes` are (height, width).

    GapcheckError names the box and the size of its image. `Sample.unit_boxes` clips what this tolerates.
    """
    for box, image in zip(sample.boxes, sample.box_images, strict=True):
        height, width = sizes[image]
        x0, y0, x1, y1 = box
        inside = min(x0, y0) >= -TOLERANCE and x1 <= width + TOLERANCE and y1 <= height + TOLERANCE
        empty = min(x1, width) <= max(x0, 0.0) or min(y1, height) <= max(y0, 0.0)
        if empty or not inside or not all(math.isfinite(v) for v in box):
            kind = "reaches outside" if not inside else "covers nothing of"
            shown = ", ".join(f"{v:g}" for v in box)
            raise GapcheckError(
                f"sample {sample.id}: box [{shown}] {kind} image {image} ({width} × {height} pixels): "
                "expected [x0, y0, x1, y1] in pixels of the original image"
            )
