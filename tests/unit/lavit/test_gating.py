"""The schedule of γ, by hand and by another identity."""

from __future__ import annotations

import math

import pytest

from lavit.gating import gamma
from perception_gap.errors import UsageError


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (0, 1e-6),
        (100, 1e-6 + (1 - 1e-6) / 2 * (1 - math.sqrt(0.5))),  # cos 45°
        (200, 0.5 + 0.5e-6),  # cos 90° = 0: half of ε, half of 1
        (300, 1e-6 + (1 - 1e-6) / 2 * (1 + math.sqrt(0.5))),
        (400, 1.0),
        (999, 1.0),
    ],
)
def test_gamma_by_hand(step, value):
    assert gamma(step) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("warmup", "epsilon"), [(400, 1e-6), (7, 0.2), (1, 0.0), (160, 1.0), (0, 1e-6)])
def test_gamma_rises_from_epsilon_to_one_as_a_squared_sine(warmup, epsilon):
    values = [gamma(step, warmup, epsilon) for step in range(warmup + 3)]
    assert values == sorted(values)
    assert values[0] == (epsilon if warmup else 1.0)
    assert values[warmup:] == [1.0] * 3
    # The same curve by another identity: (1 − cos x)/2 = sin²(x/2). Rounding alone differs.
    naive = [epsilon + (1 - epsilon) * math.sin(math.pi * step / (2 * warmup)) ** 2 for step in range(warmup)]
    assert values[:warmup] == pytest.approx(naive, abs=1e-12)
    assert all(epsilon <= value <= 1 for value in values)


def test_hard_and_constant_schedules():
    assert [gamma(step, 3, schedule="hard") for step in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [gamma(step, 3, schedule="constant") for step in range(6)] == [1.0] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": -1}, "gate at step -1"),
        ({"step": 0, "warmup_steps": -1}, "warm-up -1"),
        ({"step": 0, "epsilon": -0.1}, "epsilon -0.1"),
        ({"step": 0, "epsilon": 1.5}, "epsilon 1.5"),
        ({"step": 0, "epsilon": math.nan}, "epsilon nan"),
        ({"step": 0, "schedule": "linear"}, "'linear': expected one of cosine, hard, constant"),
    ],
)
def test_gamma_refuses_what_means_nothing(arguments, message):
    with pytest.raises(UsageError, match=message):
        gamma(**arguments)
