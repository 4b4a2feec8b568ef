"""Curriculum sensory gating: how far the gate in front of the image is open at a training step (paper eq. 5).

The gate itself is `perception_gap.attention.gate.Gate`.
"""

from __future__ import annotations

import math

from perception_gap.errors import UsageError

SCHEDULES = ("cosine", "hard", "constant")


def gamma(step: int, warmup_steps: int = 400, epsilon: float = 1e-6, schedule: str = "cosine") -> float:
    """γ at a training step (0, 1, ..), 0..1: how much of the image answer rows see directly.

    cosine: ε + (1 − ε)/2 · (1 − cos(π t / T_w)) before T_w = `warmup_steps`, then 1 (paper eq. 5; ε = 1e-6, T_w = 400
    in appendix A). hard: 0 before T_w, then 1 (the ablation "w/o curriculum"). constant: 1 (the single stage).
    UsageError for an unknown schedule, a negative step or T_w, ε outside 0..1.
    """
    if schedule not in SCHEDULES:
        raise UsageError(f"gate schedule {schedule!r}: expected one of {', '.join(SCHEDULES)}")
    if step < 0 or warmup_steps < 0 or not 0 <= epsilon <= 1:
        raise UsageError(
            f"gate at step {step}, warm-up {warmup_steps}, epsilon {epsilon}: expected numbers of at least 0, "
            "epsilon at most 1"
        )
    if schedule == "constant" or step >= warmup_steps:
        return 1.0
    if schedule == "hard":
        return 0.0
    return epsilon + (1 - epsilon) / 2 * (1 - math.cos(math.pi * step / warmup_steps))
