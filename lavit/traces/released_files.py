"""What the authors' files hold: where they lie, features, attention, and the grid that is stored nowhere."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from perception_gap.data.jsonl import text
from perception_gap.data.references import FORMATS
from perception_gap.errors import GapcheckError, UsageError, one_line

SIDE = 28  # pixels of a merged image token of Qwen2.5-VL: patches of 14, two by two
# (min_pixels, max_pixels): the published processor's, which the extractor leaves alone; the paper's; the scripts'.
LIMITS = ((56 * 56, 12_845_056), (200_704, 1_003_520), (200_704, 4_194_304))
FARTHEST = 1.25  # between a guessed grid's aspect ratio and the picture's; rounding to whole tokens stays below
_ORIENTATION = 0x0112  # EXIF


@dataclass(frozen=True)
class Tree:
    """Where things lie: `data/` is the folder above `source` that holds features/, or else the source's own.

    The release's paths are absolute on its authors' machine, relative to that of `data/`, or to a folder in it; the
    first place where the file exists is taken.
    """

    source: Path
    image_root: Path | None = None

    @property
    def data(self) -> Path:
        folders = self.source.absolute().parents
        return next((folder for folder in folders if (folder / "features").is_dir()), folders[0])

    def image(self, record: dict[str, Any]) -> Path | None:
        """None where the record names none; the likeliest place where there is no such file."""
        places = self._places(record, ("image_relative_path", "image_path"), self.image_root or self.data / "images")
        return _first(places) if places else None

    def v_top(self, record: dict[str, Any]) -> Path:
        """The features of all image tokens; a file that may not exist."""
        names = ("v_top_path_abs", "v_top_path", "v_top_layer_path_abs", "v_top_layer_path")
        return self._feature(record, names, self.data / "features" / "vtop", "v_top_layer.pth")

    def trajectory(self, record: dict[str, Any]) -> Path:
        """The attention of all image tokens; a file that may not exist."""
        names = ("attention_path_abs", "trajectory_path")
        return self._feature(record, names, self.data / "features" / "trajectories", "attention.json")

    def _feature(self, record: dict[str, Any], names: tuple[str, ...], folder: Path, end: str) -> Path:
        places = self._places(record, names, folder)
        number = record.get("question_id")
        usual = f"{number:06d}" if type(number) is int else str(number)
        return _first([*places, *(folder / place.name for place in places), folder / f"sample_{usual}_{end}"])

    def _places(self, record: dict[str, Any], names: tuple[str, ...], folder: Path) -> list[Path]:
        places = []
        for written in filter(None, (text_of(record, name) for name in names)):
            path = Path(written)
            inside = [path.parts[i + 1 :] for i, part in enumerate(path.parts) if part == "data"]
            places += [folder / path, self.source.absolute().parent / path]
            places += [self.data.joinpath(*parts) for parts in inside]
        return places


def _first(places: list[Path]) -> Path:
    return next((place for place in places if os.path.isfile(place)), places[0])


def text_of(record: dict[str, Any], *names: str) -> str:
    """The first of these fields that is a sound text with something in it; "" where none is."""
    for name in names:
        with suppress(UsageError):
            return text(record, name, "")
    return ""


def read_features(path: Path) -> Tensor:
    """V_top, float32 [N, D], of .pth, .pt or .npy; GapcheckError for anything else, and for NaN."""
    states: Any
    try:
        if path.suffix == ".npy":
            states = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            states = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead an unpickler anywhere
        reason = one_line(error, 100) or type(error).__name__
        raise GapcheckError(f"V_top {path}: cannot be read ({reason}); fetch the file again") from None
    if not isinstance(states, Tensor) or states.ndim != 2 or not states.numel() or not states.is_floating_point():
        kind = f"{states.dtype} {list(states.shape)}" if isinstance(states, Tensor) else type(states).__name__
        raise GapcheckError(f"V_top {path}: holds {kind}: expected one floating tensor [image tokens, width]")
    if not torch.isfinite(states).all():
        raise GapcheckError(f"V_top {path}: holds NaN or infinite values; fetch the file again")
    return states.float()


def read_attention(record: dict[str, Any], path: Path) -> np.ndarray | None:
    """float64 [N], the first step's raw scores, else its min–max scaled ones; from the record itself or the file.

    None where there is neither; GapcheckError for what cannot be read.
    """
    where, trajectory = "trajectory", record.get("trajectory")
    if trajectory is None:
        if not os.path.isfile(path):
            return None
        where = f"trajectory {path}"
        try:
            trajectory = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise GapcheckError(f"{where}: cannot be read ({str(error)[:100]}); fetch the file again") from None
    steps = trajectory.get("steps") if isinstance(trajectory, dict) else None
    step = steps[0] if isinstance(steps, list) and steps else None
    values = (step.get("raw_attention_scores") or step.get("p_t")) if isinstance(step, dict) else None
    numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
    if not numbers or not values:
        raise GapcheckError(f"{where}: no raw_attention_scores or p_t in its first step: expected a list of numbers")
    weights = np.asarray(values, dtype=np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise GapcheckError(f"{where}: negative, NaN or infinite scores; fetch the file again")
    return weights


def grid_of(n: int, height: int, width: int) -> tuple[int, int, bool] | None:
    """(rows, cols, whether that is a guess) of n image tokens of a picture; None where nothing fits.

    What Qwen's own resizing gives, under one of the pixel limits in use; else the factors of n that come nearest to
    the picture's aspect ratio, if one pair does and is no farther than `FARTHEST`.
    """
    for smallest, largest in LIMITS:
        with suppress(ValueError):  # an aspect ratio above 200
            high, wide = smart_resize(height, width, factor=SIDE, min_pixels=smallest, max_pixels=largest)
            if (high // SIDE) * (wide // SIDE) == n:
                return high // SIDE, wide // SIDE, False
    pairs = [(rows, n // rows) for rows in range(1, n + 1) if n % rows == 0]
    fits = sorted((abs(math.log(cols / rows * height / width)), rows, cols) for rows, cols in pairs)
    off, rows, cols = fits[0]
    undecided = len(fits) > 1 and math.isclose(fits[1][0], off, abs_tol=1e-9)
    return None if undecided or off > math.log(FARTHEST) else (rows, cols, True)


def turned(path: Path) -> bool:
    """Whether EXIF turns the picture: the teacher saw it as stored, we see it upright."""
    with Image.open(path, formats=FORMATS) as picture:
        return picture.getexif().get(_ORIENTATION, 1) != 1
