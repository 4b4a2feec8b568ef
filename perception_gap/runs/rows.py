"""What rows of a run say: whether they answer a question, whether they are right, where their image tokens lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perception_gap.geometry import TokenGeometry


def answered(row: Mapping[str, Any] | pd.Series, question: str, image_hash: str, options: Sequence[str]) -> bool:
    """Whether a run's row is a valid one of this very question: the same words, pictures and options."""
    same = row["question"] == question and row["image_hash"] == image_hash and list(row["options"]) == list(options)
    return bool(same and row["status"] == "ok")


def geometry_of(row: dict[str, Any] | pd.Series) -> TokenGeometry:
    """The TokenGeometry that a row describes: a whole-image grid by its shape, anything else by its rectangles."""
    if row["grid_rows"] is not None and not pd.isna(row["grid_rows"]):
        return TokenGeometry.grid(int(row["grid_rows"]), int(row["grid_cols"]))
    return TokenGeometry(np.asarray(list(row["token_boxes"])).reshape(-1, 4), np.asarray(list(row["token_images"])))


def geometry_fields(geometry: TokenGeometry) -> dict[str, Any]:
    """The row's fields that `geometry_of` reads."""
    if geometry.grid_shape:
        rows, cols = geometry.grid_shape
        return {"grid_rows": rows, "grid_cols": cols, "token_boxes": [], "token_images": []}
    boxes, images = geometry.boxes.ravel().tolist(), geometry.image.tolist()
    return {"grid_rows": None, "grid_cols": None, "token_boxes": boxes, "token_images": images}


def verdicts(samples: pd.DataFrame) -> pd.Series:
    """1 right, 0 wrong or failed (a failed sample stays in the denominator), NaN without a reference [rows]."""
    known = samples["correct"].notna() | (samples["status"] != "ok")
    return samples["correct"].eq(True).astype(float).where(known)
