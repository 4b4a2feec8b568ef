"""From whatever holds a map (torch tensor of any device and dtype, array, list) to float64 numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    Values: TypeAlias = ArrayLike | Tensor


def to_array(values: Values) -> np.ndarray:
    """float64 copy on the CPU, without gradient. Torch is recognised without importing it."""
    if hasattr(values, "detach"):
        # numpy knows no bfloat16, and some devices no float64: first to the CPU, then to double.
        values = values.detach().cpu().double().numpy()
    return np.array(values, dtype=np.float64)


def as_distribution(attention: Values) -> np.ndarray | None:
    """A map [N] scaled to sum 1; None where that is undefined.

    Undefined: no token, no mass, or a weight that is negative, NaN or infinite. Raises ValueError unless [N].
    """
    weights = to_array(attention)
    if weights.ndim != 1:
        raise ValueError(f"a map of shape {weights.shape}: expected one weight per token, [N]; flatten with .ravel()")
    if not len(weights) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        return None
    # The largest weight goes to 1 first, so that neither huge nor subnormal weights spoil the sum.
    weights /= weights.max()
    distribution: np.ndarray = weights / weights.sum()
    return distribution


def as_pair(p: Values, q: Values) -> tuple[np.ndarray, np.ndarray] | None:
    """Two maps over the same tokens, each scaled to sum 1; None where either is undefined.

    ValueError unless both are [N].
    """
    raw = to_array(p), to_array(q)
    if raw[0].shape != raw[1].shape:
        raise ValueError(f"maps of shapes {raw[0].shape} and {raw[1].shape}: expected one raster for both, [N]")
    first, second = as_distribution(raw[0]), as_distribution(raw[1])
    return None if first is None or second is None else (first, second)
