"""The Debian releases that are known."""

from __future__ import annotations

__all__ = ["DISTROS"]

DISTROS = ("bullseye", "bookworm", "trixie", "sid")
"""Those that have a policy, oldest first."""
