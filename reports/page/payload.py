"""One sample as the page holds it: thumbnails, token rectangles, and the maps of every word in one byte a token.

A byte is round(255 √(weight / largest)): the square root spends more of the 256 steps on weights far below the largest.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from perception_gap.geometry import TokenGeometry
from reports.page.albums import Album, Member
from reports.pictures import PictureError

SIDE = 320  # pixels of a thumbnail's long side
MOST_WORDS = 40  # of a text; the words behind them are shown without maps


def sample_payload(album: Album, sample_id: str, shapes: Shapes, side: int = SIDE) -> dict[str, Any]:
    """What the page shows of a sample; `shapes` collects the token rectangles that samples share."""
    first = album.first.row(sample_id)
    lost: PictureError | None = None
    try:
        pictures = [thumbnail(picture, side) for picture in album.pictures(sample_id)]
    except PictureError as error:
        lost, pictures = error, [(None, 1.0)] * len(first["images"])
    measured = first["heights"] is not None  # a picture that did not open has no size, and its boxes no place
    sizes = list(zip(first["widths"], first["heights"], strict=True)) if measured else []
    return {
        "question": str(first["question"]),
        "reference": str(first["reference"]),
        "options": [str(option) for option in first["options"]],
        "images": [{"src": src, "ratio": ratio} for src, ratio in pictures],
        "lost": lost and str(lost),
        "boxes": unit_boxes(first, sizes),
        "models": [_model(member, sample_id, shapes) for member in album.members],
    }


def _model(member: Member, sample_id: str, shapes: Shapes) -> dict[str, Any]:
    row = member.row(sample_id)
    payload: dict[str, Any] = {"answer": "" if row["answer"] is None else str(row["answer"])}
    if row["status"] != "ok":
        return payload | {"error": str(row["error"])}
    whole, geometry = member.map_of(sample_id, member.shared), member.geometry(sample_id)
    if whole is None or len(whole) != len(geometry):
        return payload
    shared = member.text(sample_id, member.shared)
    payload |= {"shape": shapes.index(geometry), "whole": packed(whole[None])}
    if shared is not None:
        payload["shared"] = _text(shared)
    own_text = member.text(sample_id, "own") if member.shared != "own" else None
    if own_text is not None and (shared is None or own_text.words != shared.words):
        payload["own"] = _text(own_text)
    return payload


def _text(text: Any) -> dict[str, Any]:
    return {
        "words": text.words,
        "categories": text.categories,
        "maps": packed(text.maps[:MOST_WORDS]),
        "kl": [number(v) for v in text.kl],
        "focus": [number(v) for v in text.focus],
    }


class Shapes:
    """The different geometries of a block, each once."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self._seen: dict[Any, int] = {}

    def index(self, geometry: TokenGeometry) -> int:
        key = geometry.grid_shape or (geometry.boxes.tobytes(), geometry.image.tobytes())
        if key not in self._seen:
            self._seen[key] = len(self.listed)
            self.listed.append(shape(geometry))
        return self._seen[key]


def shape(geometry: TokenGeometry) -> dict[str, Any]:
    """A whole-picture raster as {rows, cols}, anything else as xyxy fractions of the picture, four digits."""
    if geometry.grid_shape:
        return {"rows": geometry.grid_shape[0], "cols": geometry.grid_shape[1]}
    return {"boxes": np.round(geometry.boxes, 4).ravel().tolist(), "images": geometry.image.tolist()}


def packed(maps: np.ndarray) -> dict[str, Any]:
    """[R, N] weights as base64 bytes, row after row, and the largest weight of each row; null for an undefined row."""
    largest = maps.max(axis=1) if maps.size else np.zeros(len(maps))
    good = np.isfinite(largest) & (largest > 0)
    scaled = np.divide(maps, largest[:, None], out=np.zeros(maps.shape), where=good[:, None])
    data = np.round(255 * np.sqrt(scaled.clip(0, 1))).astype(np.uint8)
    scale = [float(f"{v:.4g}") if ok else None for v, ok in zip(largest.tolist(), good.tolist(), strict=True)]
    return {"data": base64.b64encode(data.tobytes()).decode("ascii"), "scale": scale}


def thumbnail(picture: Image.Image, side: int) -> tuple[str | None, float]:
    """(data URI, width / height) of a picture."""
    ratio = picture.width / picture.height
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii"), round(ratio, 4)


def unit_boxes(row: Mapping[Any, Any], sizes: list[tuple[int, int]]) -> list[list[float]]:
    """The reference boxes as [x0, y0, x1, y1, picture], fractions of the picture."""
    boxes = np.asarray(row["boxes"], dtype=float).reshape(-1, 4)
    fractions = []
    for box, image in zip(boxes, row["box_images"], strict=True):
        if image < len(sizes):
            width, height = sizes[int(image)]
            fractions.append([round(v, 4) for v in (box / [width, height, width, height]).tolist()] + [int(image)])
    return fractions


def number(value: float, digits: int = 4) -> float | None:
    """JSON has no NaN."""
    return None if not math.isfinite(value) else float(f"{value:.{digits}g}")


def index_of(album: Album, about: pd.DataFrame, ids: list[str]) -> dict[str, Any]:
    """The columns by which the page sorts and filters: one entry a sample, in the order of `ids`."""
    rows = about.loc[ids]
    questions = album.first.samples.loc[ids, "question"].astype(str)
    columns: dict[str, Any] = {
        "id": ids,
        "task": rows["task"].tolist(),
        "word": rows["word"].tolist(),
        "question": [text[:2000] for text in questions],
        "kl": [number(v, 3) for v in rows["kl"]],
    }
    for name in ("verdict", "kl", "focus"):
        columns[f"{name}s"] = [
            [int(v) if name == "verdict" else number(v, 3) for v in rows[f"{name}_{m}"]]
            for m in range(len(album.members))
        ]
    return columns
