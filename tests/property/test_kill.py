"""A sample of the kill campaign (`python -m tests.property.kill` is the whole)."""

from __future__ import annotations

from tests.property.kill import campaign


def test_a_sample() -> None:
    assert sum(campaign(12, 7).values()) == 12
