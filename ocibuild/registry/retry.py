"""Which answers are worth another try, and how long to wait: exponential backoff with jitter under one time budget."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Patience", "is_temporary", "wanted_wait"]

_STATUSES = frozenset({408, 429, *range(500, 600)} - {501, 505})
_FIRST_WAIT = 0.25
_LONGEST_WAIT = 16.0
_MOST_DOUBLINGS = 10
# Go writes the micro sign; some write the Greek letter.
_UNITS = {"ns": 1e-9, "us": 1e-6, "\xb5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_IN_BODY = re.compile(rf"retry-after:\s*([0-9.]{{1,20}})\s*({'|'.join(_UNITS)})")


@dataclass(slots=True)
class Patience:
    """How long failures of one request are borne.

    Attributes:
        seconds: The budget, from the first failure on.
        sleep: What waits; tests replace it.
    """

    seconds: float
    sleep: Callable[[float], None] = time.sleep
    _until: float | None = field(default=None, init=False)
    _tries: int = field(default=0, init=False)

    def wait(self, wanted: float = 0.0) -> bool:
        """Wait before the next try; False, at once, when that would exceed the budget.

        Args:
            wanted: The seconds that the registry asked for.
        """
        now = time.monotonic()
        if self._until is None:
            self._until = now + self.seconds
        backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(self._tries, _MOST_DOUBLINGS))
        self._tries += 1
        # Clients that failed together must not come back together.
        pause = max(wanted, random.uniform(backoff / 2, backoff))  # noqa: S311 - no secret
        if now + pause > self._until:
            return False
        self.sleep(pause)
        return True


def is_temporary(status: int, body: bytes) -> bool:
    """Whether an answer may be another one later: 408, 429, 5xx, and GHCR's 403 for a secondary rate limit."""
    return status in _STATUSES or (status == 403 and b"secondary rate limit" in body.lower())  # noqa: PLR2004


def wanted_wait(header: str | None, body: bytes, *, now: datetime | None = None) -> float:
    """The seconds that an answer asks to wait, in its `Retry-After` (RFC 9110) or in its body, as GHCR has it; else 0.

    Example:
        >>> wanted_wait("3", b""), wanted_wait(None, b"retry-after: 250ms, allowed: 2000/minute")
        (3.0, 0.25)
    """
    if header:
        if re.fullmatch(r"\s*[0-9]{1,9}\s*", header, re.ASCII):
            return float(header)
        try:
            moment = parsedate_to_datetime(header)
            return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds()) if moment.tzinfo else 0.0
        except (ValueError, OverflowError, TypeError):
            return 0.0
    found = _IN_BODY.search(body.decode(errors="replace").lower())
    try:
        return float(found[1]) * _UNITS[found[2]] if found else 0.0
    except ValueError:
        return 0.0
