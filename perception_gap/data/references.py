"""Pictures as data name them: a path, an address, or the picture itself, which then gets a file of its own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from PIL import Image

from perception_gap.errors import GapcheckError
from perception_gap.storage.files import aside

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
LONGEST_NAME, LONGEST_PATH = 255, 4096  # bytes that Linux takes
_ADDRESS = re.compile(r"(data|file):|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{40,}={0,2}\s*")
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def locate(reference: Any, root: Path, pictures: Path | None) -> Path:
    """The file of one picture.

    reference: a path, relative to `root`; a file: or data: address; a picture in base64; encoded bytes; or
    {"bytes", "path"} as `datasets` has it. Pictures that are no files yet are written into `pictures`, named after
    their content. GapcheckError, short however long the reference is, for what is none of these.
    """
    if isinstance(reference, dict):
        inside = reference.get("bytes")
        reference = reference.get("path") if inside is None else inside
    if isinstance(reference, bytes):
        return _keep(reference, pictures, "picture in the data")
    if not isinstance(reference, str) or not reference.strip():
        raise GapcheckError("image: there is none; expected a path or a picture")
    address = _ADDRESS.match(reference)
    if address is None:
        if _BASE64.fullmatch(reference):
            decoded = _decoded(reference)
            if decoded is not None and decoded.startswith(_MAGIC):
                return _keep(decoded, pictures, reference)
        return _file(root / reference, reference)
    if address[1] is None:
        raise GapcheckError(f"image {short(reference)}: addresses are not fetched; download it and give its path")
    if address[1].lower() == "data":
        return _keep(_of_data_address(reference), pictures, reference)
    parts = urlsplit(reference)
    if parts.netloc not in ("", "localhost"):
        raise GapcheckError(f"image {short(reference)}: expected file:///PATH, a whole path of this machine")
    return _file(root / url2pathname(parts.path), reference)


def placeholder(reference: Any, root: Path) -> Path:
    """A path to stand for a picture that has none: short, and no file of that name exists."""
    return root / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', str(reference)[:40])}…"


def short(text: str, most: int = 60) -> str:
    """The text on one line, cut in its middle; how long it was where that is much."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    cut = f"{text[: most - 12]}…{text[-10:]}"
    return cut if len(text) <= 1000 else f"{cut} ({len(text):,} characters)"


def _file(path: Path, reference: str) -> Path:
    written = str(path).encode(errors="surrogateescape")
    if len(written) >= LONGEST_PATH or any(len(part) > LONGEST_NAME for part in written.split(b"/")):
        raise GapcheckError(
            f"image {short(reference)}: longer than a path can be; expected a path, a data: address or base64"
        )
    return path


def _of_data_address(address: str) -> bytes:
    head, comma, body = address.partition(",")
    if not comma:
        raise GapcheckError(f"image {short(address)}: expected data:image/..;base64,.. with a comma before the picture")
    content = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return content
    decoded = _decoded(content.decode("ascii", errors="replace"))
    if decoded is None:
        raise GapcheckError(f"image {short(address)}: not valid base64; write the address again")
    return decoded


def _decoded(text: str) -> bytes | None:
    written = re.sub(r"\s+", "", text).rstrip("=")
    try:
        return base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _keep(content: bytes, pictures: Path | None, name: str) -> Path:
    """The file, in `pictures`, of an encoded picture that the data call `name`."""
    if pictures is None:
        raise GapcheckError(f"image {short(name)}: a picture inside the data has no place here; give its path")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            kind = str(picture.format).lower()
    # What Pillow raises on damaged heads; what follows them is decoded when the sample's turn comes.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        raise GapcheckError(f"image {short(name)}: holds no picture that can be read; encode it again") from None
    path = pictures / f"{hashlib.sha256(content).hexdigest()[:32]}.{kind}"
    if not path.is_file() or path.read_bytes() != content:
        with aside(path) as partial:
            partial.write_bytes(content)
    return path
