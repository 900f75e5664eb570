"""The faults that are an answer: as registries say that they have trouble, or have had enough."""

from __future__ import annotations

from .faults import Fault
from .server import Handler

__all__ = ["fail"]


def fail(handler: Handler, fault: Fault | None) -> bool:
    """Answer as a fault of the stage `request` has it; False when there is none of these kinds."""
    if fault is None:
        return False
    if fault.kind == "reset":
        for _ in handler.pieces():
            pass
        handler.reset()
    elif fault.kind in ("error_once", "error_always"):
        handler.refuse(500, "UNKNOWN", "unknown error")
    elif fault.kind == "bad_gateway":
        handler.answer(502, b"<html><h1>502 Bad Gateway</h1></html>", {"Content-Type": "text/html"})
    elif fault.kind == "unavailable":
        handler.answer(503, b"", {"Retry-After": "0"})
    elif fault.kind == "throttled_in_body":
        message = "retry-after: 1.889377ms, allowed: 2000/minute"
        handler.refuse(429, "TOOMANYREQUESTS", message)
    elif fault.kind == "throttled":
        handler.refuse(429, "TOOMANYREQUESTS", "too many requests", None, {"Retry-After": f"{fault.seconds:.0f}"})
    elif fault.kind == "secondary_limit":
        text = b"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        handler.answer(403, text, {"Content-Type": "text/plain"})
    elif fault.kind == "denied":
        handler.refuse(403, "DENIED", "permission_denied: write_package")
    else:
        return False
    return True
