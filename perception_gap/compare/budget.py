"""One resolution for all: no model of a comparison sees more of a picture than any other can.

A picture that exceeds the budget is shrunk before a model's own processor sees it; what that processor then does
(squares, tiles, patches) is the model's own. Models whose processor shrinks to the budget or below by itself get the
picture as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from perception_gap.errors import UsageError
from perception_gap.models.families.base import Family


def common_budget(families: Mapping[str, Family], pixels: str = "same") -> tuple[dict[str, int | None], str]:
    """Most pixels (width × height) of a picture for each model, None where nothing is shrunk; and a line that says so.

    pixels: "same" (the smallest `largest_area` of the models), "own" (no budget) or a number of pixels.
    UsageError for anything else.
    """
    if pixels == "own":
        return dict.fromkeys(families), "pictures: each model its own resolution"
    areas = {name: family.largest_area() for name, family in families.items()}
    if pixels == "same":
        budget = min(areas.values())
        limiting = next(name for name, area in areas.items() if area == budget)
        reason = f"as {limiting} sees no more (--pixels own leaves each its own)"
    elif pixels.isdecimal() and int(pixels) >= 1:
        budget, reason = int(pixels), "as --pixels asks"
    else:
        raise UsageError(f'--pixels {pixels!r}: expected "same", "own" or a number of pixels, width × height')
    shrunk = {name: budget if area > budget else None for name, area in areas.items()}
    return shrunk, f"pictures: at most {budget:,} pixels for every model, {reason}"
