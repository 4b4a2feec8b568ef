"""Images and boxes of one sample, checked when the sample is analysed: a bad one fails its row, not the run."""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from perception_gap.data.references import FORMATS, short
from perception_gap.errors import GapcheckError, one_line
from perception_gap.sample import Sample

REMEDY = "; --boxes says what else the numbers are"
TOLERANCE = 1.0  # pixels: annotators count from 1 or round up, so a box may end one pixel beyond the border


@dataclass(frozen=True)
class Contents:
    """The bytes of a sample's pictures, read once: what is hashed is what is decoded, whoever writes meanwhile.

    files: what each path held, or why it could not be read.
    """

    paths: tuple[Path, ...]
    files: tuple[bytes | GapcheckError, ...]

    @classmethod
    def of(cls, paths: Sequence[Path]) -> Contents:
        files: list[bytes | GapcheckError] = []
        for path in paths:
            try:
                files.append(read_image(path))
            except GapcheckError as error:
                files.append(error)
        return cls(tuple(paths), tuple(files))

    @property
    def hash(self) -> str:
        """sha256, hex; a picture that cannot be read counts by its absence."""
        digest = hashlib.sha256()
        for content in self.files:
            digest.update(content if isinstance(content, bytes) else b"missing")
        return digest.hexdigest()

    def pictures(self) -> list[Image.Image]:
        """As `open_image` opens them. GapcheckError for the first that cannot be read or decoded."""
        pictures = []
        for path, content in zip(self.paths, self.files, strict=True):
            if isinstance(content, GapcheckError):
                raise content
            pictures.append(decode_image(content, short(str(path), 200)))
        return pictures


def open_pictures(sample: Sample, contents: Contents | None = None) -> list[Image.Image]:
    """The sample's pictures (see `open_image`), from `contents` where they were read already.

    GapcheckError for the sample's fault, and for the first picture that does not open.
    """
    if sample.fault is not None:
        raise GapcheckError(sample.fault)
    return (contents or Contents.of(sample.images)).pictures()


def read_image(path: Path) -> bytes:
    """The encoded picture. GapcheckError, in one line with the path, for a file that is missing or cannot be read."""
    name = short(str(path), 200)
    try:
        if path.exists() and not path.is_file():
            raise GapcheckError(f"image {name}: is no regular file; expected an image file")
        return path.read_bytes()
    except FileNotFoundError:
        raise GapcheckError(f"image {name}: no such file; check the path or pass --image-root") from None
    except (OSError, ValueError) as error:  # a locked folder, a loop of links, a name that no file can have
        reason = getattr(error, "strerror", None) or one_line(error)
        raise GapcheckError(f"image {name}: cannot be read ({reason}); check the path") from None


def open_image(path: Path) -> Image.Image:
    """The picture, fully decoded, upright (EXIF orientation applied), as RGB.

    GapcheckError, in one line with the path, for a file that is missing, locked away, truncated or no image.
    """
    return decode_image(read_image(path), short(str(path), 200))


def decode_image(data: bytes, name: str) -> Image.Image:
    """`open_image` of an encoded picture in memory, which errors call `name`."""
    try:
        with whole_images(), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            picture.load()
            return _eight_bit(ImageOps.exif_transpose(picture)).convert("RGB")
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise GapcheckError(f"image {name}: cannot be decoded (is none of {known}); convert it to one") from None
    # Pillow's decoders raise all of these on damaged files (SyntaxError for broken PNG chunks).
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file system's, not Pillow's
            raise
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
    """Deep grey modes in 0..255: Pillow's own conversion clips them, which leaves them all but white.

    16 bits are 16 bits. Of 32 bits and of floats the range is not known: the smallest usual one that holds all values
    (1 for floats, 255, 65535), beyond which the largest value is white.
    """
    if picture.mode == "P" and "transparency" in picture.info:
        return picture.convert("RGBA")  # Pillow warns of the direct way
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("has undefined pixel values")
    usual = (
        (65535.0,) if picture.mode.startswith("I;16") else (*((1.0,) if picture.mode == "F" else ()), 255.0, 65535.0)
    )
    whole = next((white for white in usual if values.max() <= white), values.max())
    return Image.fromarray(np.clip(255 * values / whole, 0, 255).round().astype(np.uint8))


def check_boxes(sample: Sample, sizes: Sequence[tuple[int, int]], remedy: str = REMEDY) -> None:
    """Every box must cover part of its image, more than one pixel, and end at most one pixel beyond it.

    sizes: (height, width). GapcheckError names the box, the size of its image and the `remedy`; `Sample.unit_boxes`
    clips what this tolerates.
    """
    for box, image in zip(sample.boxes, sample.box_images, strict=True):
        height, width = sizes[image]
        x0, y0, x1, y1 = box
        inside = min(x0, y0) >= -TOLERANCE and x1 <= width + TOLERANCE and y1 <= height + TOLERANCE
        empty = not (min(x1, width) > max(x0, 0.0) and min(y1, height) > max(y0, 0.0))
        # [0, 0, 1, 1] is one pixel, and the whole picture in fractions: nobody means the pixel.
        small = (x1 - x0 < 1 and y1 - y0 < 1) or (min(box) >= 0 and max(box) <= 1 < max(width, height))
        if empty or small or not inside or not all(math.isfinite(v) for v in box):
            kind = "reaches outside" if not inside else "covers nothing of" if empty else "is under one pixel of"
            shown = ", ".join(f"{v:g}" for v in box)
            raise GapcheckError(
                f"sample {sample.id}: box [{shown}] {kind} image {image} ({width} × {height} pixels): "
                f"expected [x0, y0, x1, y1] in pixels of the original image{remedy}"
            )
