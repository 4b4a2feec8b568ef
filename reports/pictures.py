"""Pictures of a run, as the models saw them: those that may be read, and only while they are what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from perception_gap.data.images import decode_image, pixel_bytes
from perception_gap.errors import GapcheckError
from perception_gap.runs.paths import is_below

OUTSIDE, GONE, CHANGED = "lies outside the run", "cannot be read", "is not the one that was measured"


class PictureError(GapcheckError):
    """A picture that is not shown: the message is OUTSIDE, GONE or CHANGED; `path` is where it is said to lie."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(reason)
        self.path = path


def open_pictures(
    paths: Sequence[Path], image_hash: str | None, folders: Sequence[Path], *, of_pixels: bool = False
) -> list[Image.Image]:
    """The pictures of one sample, decoded from the very bytes that are checked.

    folders: below which they may be read, links followed. image_hash: sha256 over their bytes, or (of_pixels, as
    `gapcheck bench` keeps it) over mode, size and pixels. PictureError for the first that is not shown.
    """
    digest = hashlib.sha256()
    pictures: list[Image.Image] = []
    for path in paths:
        try:
            if not is_below(path, folders):
                raise PictureError(OUTSIDE, path)
            if not path.is_file():
                raise PictureError(GONE, path)
            content = path.read_bytes()
            pictures.append(decode_image(content, str(path)))
        except PictureError:
            raise
        except (OSError, ValueError, GapcheckError):
            raise PictureError(GONE, path) from None
        digest.update(pixel_bytes(pictures[-1]) if of_pixels else content)
    if paths and digest.hexdigest() != image_hash:
        raise PictureError(CHANGED, paths[0])
    return pictures
