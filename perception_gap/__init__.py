"""Does a vision-language student look where its teacher looks? Attention capture, geometry, metrics, runs.

What can be imported from here stays (docs/api.md); every other module may move.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from perception_gap import metrics
    from perception_gap.attention.capture import AttentionCapture
    from perception_gap.attention.rows import attention_rows
    from perception_gap.geometry import TokenGeometry
    from perception_gap.models.loading import LoadedModel, load
    from perception_gap.runs.run import Run
    from perception_gap.text.option_letters import option_letter
    from perception_gap.text.scoring import score

__version__ = "0.1.0"
__all__ = [
    "AttentionCapture",
    "LoadedModel",
    "TokenGeometry",
    "attention_rows",
    "load",
    "metrics",
    "open_run",
    "option_letter",
    "score",
]
_MODULES = {
    "AttentionCapture": "attention.capture",
    "LoadedModel": "models.loading",
    "TokenGeometry": "geometry",
    "attention_rows": "attention.rows",
    "load": "models.loading",
    "metrics": "metrics",
    "option_letter": "text.option_letters",
    "score": "text.scoring",
}


def open_run(path: str | Path) -> Run:
    """The finished run of `gapcheck analyze` in a folder, read-only.

    DamagedError (`perception_gap.errors`) where it is no run, unfinished, damaged or of another schema version.
    """
    from perception_gap.runs.run import Run

    return Run.open(path)


def __getattr__(name: str) -> Any:
    # Lazily: importing torch and transformers takes seconds, and `gapcheck --help` must answer at once.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: expected one of {', '.join(__all__)}")
    module = import_module(f"{__name__}.{_MODULES[name]}")
    value = module if name == _MODULES[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
