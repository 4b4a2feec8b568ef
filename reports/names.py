"""What figures, tables and pages call a model, short and each once, and the frame on which maps met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perception_gap.runs.run import Run


def labels(runs: Sequence[Run]) -> list[str]:
    """What figures and tables call the runs' models: short, each once.

    `Qwen2.5-VL-3B-Instruct` of a hub id, `lavit` of runs/lavit/model; how latent tokens were treated, where that is not
    the usual, and so much of the run's folder as tells apart names that would stand twice.
    """
    names = [short_name(run.info["model"]["name"], run.info["settings"].get("latents", "force")) for run in runs]
    unique = list(names)
    for depth in range(1, max((len(run.path.resolve().parts) for run in runs), default=0)):
        twice = {name for name in unique if unique.count(name) > 1}
        for i, run in enumerate(runs):
            if unique[i] in twice:
                unique[i] = f"{names[i]} ({'/'.join(run.path.resolve().parts[-depth:])})"
    return unique


def short_name(model: str, latents: str = "force") -> str:
    """`tiny:lavit (latents mask)`: the last part of a hub id or folder that says something, and its latents."""
    parts = [part for part in Path(model).parts if part not in ("model", "/", ".")]
    return (parts[-1] if parts else model) + ("" if latents == "force" else f" (latents {latents})")


def frame(info: Mapping[str, Any]) -> str:
    """`token grid` or `16 × 16 raster`: where the maps of two models met, on which KL and JS depend.

    info: run.json or compare.json; "" for a run that was compared with no other.
    """
    raster = info.get("raster")
    if raster == "native":
        return "token grid"
    return f"{raster[0]} × {raster[1]} raster" if isinstance(raster, list) and len(raster) == 2 else ""


def frames(runs: Sequence[Run]) -> str:
    """The frame of these runs, or of several `token grid and 16 × 16 raster`."""
    return " and ".join(dict.fromkeys(filter(None, (frame(run.info) for run in runs))))
