"""How much a model can read at once: what is longer is said, as its answer would mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from perception_gap.errors import GapcheckError

# What configurations call it, the usual name first.
_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")


def context_of(config: Any) -> int | None:
    """Tokens of a model's context, after what its position encoding was stretched to; None where it says nothing.

    A sliding window is no limit: layers under it see less, and the text may be longer.
    """
    text = config.get_text_config()
    lengths = (getattr(text, name, None) for name in _NAMES)
    declared = next((n for n in lengths if isinstance(n, int) and n > 0), None)
    return None if declared is None else max([declared, *_stretched(text)])


def _stretched(text: Any) -> Iterator[int]:
    """original × factor, of every position encoding that says both (YaRN; per kind of layer in some models)."""
    ropes = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    for rope in (ropes, *(ropes.values() if isinstance(ropes, dict) else ())):
        if isinstance(rope, dict):
            original, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
            if isinstance(original, int | float) and isinstance(factor, int | float):
                yield int(original * factor)


def check_fits(config: Any, mask: Tensor, what: str) -> None:
    """GapcheckError with both lengths if the longest text of a batch exceeds the context.

    mask: the attention mask [B, S]. what: the text, as the message calls it.
    """
    most, longest = context_of(config), int(mask.sum(1).max()) if mask.numel() else 0
    if most is not None and longest > most:
        raise GapcheckError(
            f"{what}: {longest:,} tokens, and the model's context has {most:,}; shorten the text, or lower --max-pixels"
        )
