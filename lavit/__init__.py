"""Training students to look where their teacher looks: traces, latent tokens, gating, losses.

What can be imported from here stays (docs/api.md); every other module may move.
"""

from lavit.gating import gamma

__all__ = ["gamma"]
