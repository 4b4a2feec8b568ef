"""Attention painted on the pictures it belongs to, teacher beside students, on the tokens' true rectangles."""

from reports.overlays.choice import extreme_focus, most_divergent
from reports.overlays.density import density, top_tokens
from reports.overlays.grid import overlay_figure
from reports.overlays.sheet import sample_sheet
from reports.overlays.words import word_strips

__all__ = ["density", "extreme_focus", "most_divergent", "overlay_figure", "sample_sheet", "top_tokens", "word_strips"]
