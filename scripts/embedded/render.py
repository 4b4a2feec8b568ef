"""Rendered training scenes: pictures as the processor resizes them, texts, and labels for every image token."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from perception_gap.data.drawing import COLORS, DIRECTIONS, SHAPES, SIDE, Thing
from perception_gap.data.scenes import TASKS, scene
from perception_gap.errors import UsageError
from perception_gap.geometry import TokenGeometry

PIXELS, GRID = 128, 8
SHAPE_NAMES = ("none", *SHAPES, "arrow", "a", "b", "?")
LOOKS = ("none", "solid", "hollow", *DIRECTIONS)
# Dense label heads of the vision tower: name -> number of classes. Row and column need no rendering.
HEADS = {"shape": len(SHAPE_NAMES), "color": len(COLORS) + 1, "size": 3, "look": len(LOOKS), "depth": 6, "albedo": 4}
ABSENT = -100  # the label that the loss ignores


def token_labels(things: Iterable[Thing]) -> np.ndarray:
    """int8 [64, 6]: for each token the facts (HEADS) of the thing that covers most of it; later things lie on top."""
    geometry = TokenGeometry.grid(GRID, GRID)
    labels = np.zeros((GRID * GRID, len(HEADS)), dtype=np.int8)
    labels[:, 4:] = ABSENT
    best = np.zeros(GRID * GRID)
    for thing in things:
        box = np.asarray(thing.box) / SIDE
        cover = geometry.overlap(box)
        if thing.shape == "patch":
            labels[cover > 0.5, 5] = ABSENT if thing.albedo is None else thing.albedo
            continue
        # A thing counts where it fills a quarter of the token, and wherever its centre falls.
        x, y = ((c / SIDE) for c in thing.center)
        holds = (cover >= 0.25) & (cover >= best)
        holds |= np.arange(GRID * GRID) == min(int(y * GRID), GRID - 1) * GRID + min(int(x * GRID), GRID - 1)
        best[holds] = np.maximum(best[holds], cover[holds])
        look = thing.direction or ("hollow" if thing.hollow else "solid")
        labels[holds, 0] = SHAPE_NAMES.index(thing.shape)
        if thing.shape not in "ab?":
            labels[holds, 1] = 1 + list(COLORS).index(thing.color or "")
            labels[holds, 2] = {"small": 1, "large": 2}.get(thing.size or "", ABSENT)
            labels[holds, 3] = LOOKS.index(look)
        if thing.depth is not None:
            labels[holds, 4] = min(int((thing.depth - 1.0) / 1.9 * 6), 5)
        if thing.albedo is not None:
            labels[holds, 5] = thing.albedo
    return labels


def _render(job: tuple[str, int, str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    task, index, split, seed = job
    drawn = scene(task, index, split=split, seed=seed)
    picture = torch.from_numpy(drawn.image).permute(2, 0, 1)
    small = resize(picture, [PIXELS, PIXELS], interpolation=InterpolationMode.BICUBIC, antialias=True)
    inside = TokenGeometry.grid(GRID, GRID).overlap(np.asarray(drawn.boxes) / SIDE)
    return (small.permute(1, 2, 0).numpy(), token_labels(drawn.things), inside.astype(np.float16), drawn.record(""))


def render(folder: Path, per_task: int, split: str = "train", seed: int = 0, workers: int = 2) -> None:
    """Write images.npy, labels.npy, inside.npy and texts.jsonl for `per_task` scenes of every task."""
    if (folder / "texts.jsonl").exists():
        there = len(np.load(folder / "labels.npy", mmap_mode="r"))
        if there != per_task * len(TASKS):
            raise UsageError(f"{folder}: holds {there} scenes, not {per_task * len(TASKS)}; remove it to render anew")
        return
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(task, i, split, seed) for i in range(per_task) for task in TASKS]
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(jobs), PIXELS, PIXELS, 3))
    labels = np.zeros((len(jobs), GRID * GRID, len(HEADS)), np.int8)
    inside = np.zeros((len(jobs), GRID * GRID), np.float16)
    texts = []
    with ProcessPoolExecutor(workers) as pool:
        for i, done in enumerate(tqdm(pool.map(_render, jobs, chunksize=120), total=len(jobs), desc="render")):
            images[i], labels[i], inside[i] = done[:3]
            texts.append(json.dumps(done[3]))
    np.save(folder / "labels.npy", labels)
    np.save(folder / "inside.npy", inside)
    partial = folder / "texts.jsonl.tmp"
    partial.write_text("\n".join(texts) + "\n")
    os.replace(partial, folder / "texts.jsonl")


if __name__ == "__main__":
    import sys

    render(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "train")
