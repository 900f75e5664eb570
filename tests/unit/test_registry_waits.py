"""How long is waited for a registry: what it asks for, what may pass, and what patience there is."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from ocibuild.registry import retry
from ocibuild.registry.retry import Patience, is_temporary, wanted_wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        (None, b"", 0.0),
        ("", b"retry-after: 5s", 5.0),
        ("3", b"retry-after: 5s", 3.0),
        (" 3 ", b"", 3.0),
        ("0", b"", 0.0),
        ("-3", b"", 0.0),
        ("3.5", b"", 0.0),
        ("1e3", b"", 0.0),
        ("nan", b"", 0.0),
        ("inf", b"", 0.0),
        ("soon", b"", 0.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", b"", 60.0),
        ("Thu, 01 Jan 2026 01:01:00 +0100", b"", 60.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", b"", 0.0),
        ("Thu, 01 Jan 2026 00:01:00", b"", 0.0),
        ("Thu, 99 Jan 2026 00:01:00 GMT", b"", 0.0),
        (None, b"retry-after: 1.889377ms, allowed: 2000/minute", 0.001889377),
        (None, b"Retry-After:2m", 120.0),
        (None, "retry-after: 7\u00b5s".encode(), 7e-6),
        (None, b"retry-after: 1.2.3s", 0.0),
        (None, b"retry-after: 5", 0.0),
        (None, b"\xff\xferetry-after: 5s", 5.0),
        ("\u00b2", b"", 0.0),
        ("1 Jan 99999999999999999999 0:0:0 GMT", b"", 0.0),
        ("1 Jan 2026 0:0:0 +99999999999999", b"", 0.0),
        (None, "retry-after: 7\u03bcs".encode(), 7e-6),
        (None, "retry-after: 5\u017f".encode(), 0.0),
    ],
)
def test_the_wait_that_a_registry_asks_for(header: str | None, body: bytes, expected: float) -> None:
    assert wanted_wait(header, body, now=NOW) == pytest.approx(expected)


def test_a_date_far_away_is_a_number() -> None:
    far = format_datetime(datetime(9999, 12, 31, tzinfo=UTC), usegmt=True)
    assert 2.5e11 < wanted_wait(far, b"", now=NOW) < 2.6e11


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (408, b"", True),
        (429, b"", True),
        (500, b"", True),
        (502, b"", True),
        (503, b"", True),
        (504, b"", True),
        (403, b'{"message":"You have exceeded a secondary rate limit"}', True),
        (403, b"denied", False),
        (401, b"secondary rate limit", False),
        (400, b"", False),
        (404, b"", False),
        (501, b"", False),
    ],
)
def test_what_may_pass(status: int, body: bytes, expected: bool) -> None:
    assert is_temporary(status, body) is expected


class Clock:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=found.monotonic, sleep=found.sleep))
    return found


def test_patience_ends_with_its_budget(clock: Clock) -> None:
    patience = Patience(60.0, sleep=clock.sleep)
    while patience.wait():
        pass
    assert 60 - 16 <= sum(clock.slept) <= 60
    assert all(0.125 <= pause <= 16 for pause in clock.slept)
    assert sum(clock.slept[3:6]) > sum(clock.slept[:3])


def test_patience_waits_as_long_as_is_asked_or_not_at_all(clock: Clock) -> None:
    patience = Patience(60.0, sleep=clock.sleep)
    assert patience.wait(50.0)
    assert clock.slept == [50.0]
    assert not patience.wait(50.0)
    assert not Patience(60.0, sleep=clock.sleep).wait(float("inf"))
    assert not Patience(0.0, sleep=clock.sleep).wait()
    assert clock.slept == [50.0]


def test_patience_counts_from_the_first_failure(clock: Clock) -> None:
    patience = Patience(10.0, sleep=clock.sleep)
    clock.now += 3600
    assert patience.wait()
    clock.now += 3600
    assert not patience.wait()


def test_patience_without_end(clock: Clock) -> None:
    patience = Patience(float("inf"), sleep=clock.sleep)
    for _ in range(1500):
        assert patience.wait()
