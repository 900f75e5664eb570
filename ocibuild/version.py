"""What this program is, and what it writes."""

from __future__ import annotations

__all__ = ["FORMAT", "__version__"]

__version__ = "0.1.0.dev0"

FORMAT = 1
"""The format number: which rules and which codecs make the bytes of an image (docs/reference/format-1.md)."""
