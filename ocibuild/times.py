"""Times as documents have them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["rfc3339"]


def rfc3339(moment: datetime) -> str:
    """A moment with its zone, in whole seconds of UTC (RFC 3339).

    Example:
        >>> rfc3339(datetime.fromtimestamp(0, UTC))
        '1970-01-01T00:00:00Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
