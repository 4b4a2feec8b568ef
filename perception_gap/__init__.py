"""Does a vision-language student look where its teacher looks? Attention capture, geometry, metrics, analysis.

`perception_gap.load(name_or_path, ...)` opens a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception_gap.models.loading import LoadedModel, load

__version__ = "0.1.0"
__all__ = ["LoadedModel", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Lazily: importing torch and transformers takes seconds, and `gapcheck --help` must answer at once.
    if name in ("load", "LoadedModel"):
        from perception_gap.models import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
