"""A sample of the kill campaign (`python -m tests.property.kill` is the whole)."""

from __future__ import annotations

from tests.property.kill import campaign


def test_a_sample() -> None:
    outcomes = campaign(18, 7)
    assert sum(outcomes.values()) == 18
    # Some fell while it was at work, not before or after.
    assert any("killed" in outcome for outcome in outcomes)
