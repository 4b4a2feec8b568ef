"""What every test of `lavit` must leave as it found it."""

from __future__ import annotations

import gc

import pytest
from transformers.modeling_utils import AttentionInterface

from perception_gap.attention import interface


@pytest.fixture(autouse=True)
def _interface_stays_as_it_was():
    before = list(AttentionInterface._global_mapping.items())
    yield
    if interface._hooks:
        gc.collect()  # an attached gate or capture may be part of a cycle
    after = list(AttentionInterface._global_mapping.items())
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(a is b for (_, a), (_, b) in zip(after, before, strict=True))
    assert not interface.listeners
    assert not interface.amenders
    assert not interface._hooks
