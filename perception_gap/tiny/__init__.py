"""The embedded models (`tiny:teacher`, `tiny:student`, ..): real Qwen2.5-VL classes, trained on drawn scenes.

Their checkpoints lie in `weights/`, one folder a model with its card; `scripts/embedded` is what made them.
"""

from __future__ import annotations

from pathlib import Path

TINY = "tiny:"
WEIGHTS = Path(__file__).parent / "weights"


def embedded() -> list[str]:
    """`tiny:NAME` of every model that ships with the package."""
    return sorted(f"{TINY}{config.parent.name}" for config in WEIGHTS.glob("*/config.json"))
