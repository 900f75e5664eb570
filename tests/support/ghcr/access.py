"""Authorization: the token service, and who is let in."""

from __future__ import annotations

import json

from .server import Handler
from .status import fail
from .tokens import parse_scopes

__all__ = ["challenge", "is_authorized", "send_token"]


def send_token(handler: Handler) -> None:
    """Answer `/token`."""
    entry, tokens = handler.entry, handler.site.tokens
    if handler.command != "GET":
        return handler.refuse(405, "UNSUPPORTED", "only GET")
    if fail(handler, handler.site.plan.take(entry, "request")):
        return None
    user = tokens.check_basic(handler.headers.get("Authorization", ""))
    if user is None:
        return handler.refuse(403, "DENIED", "denied")
    if entry.values.get("service") != ["ghcr.io"]:
        return handler.refuse(400, "DENIED", "no such service")
    token = tokens.issue(user, parse_scopes(entry.values.get("scope", [])))
    if not user and not any(token.access.values()):
        return handler.refuse(401, "UNAUTHORIZED", "authentication required")
    entry.token = token.number
    return handler.answer(200, json.dumps({"token": token.value}).encode(), {"Content-Type": "application/json"})


def is_authorized(handler: Handler) -> bool:
    """Whether a request shows a token that is good for it; else it is answered."""
    entry, tokens = handler.entry, handler.site.tokens
    token = tokens.find(handler.headers.get("Authorization", ""))
    if token is not None:
        entry.token, entry.uses = token.number, token.used
    fault = handler.site.plan.take(entry, "challenge")
    kind = fault.kind if fault is not None else ""
    realm = ""
    if fault is not None and kind == "hostile_realm":
        realm = f"{handler.site.evil_base}/token" if fault.where == "evil" else fault.where
    if kind == "token_expired" and token is not None:
        tokens.end(token)
    actions = frozenset({"pull"} if handler.command in ("GET", "HEAD") else {"pull", "push"})
    wanted = {entry.repository: actions} if entry.repository else {}
    if token is not None and tokens.use(token) and kind not in ("hostile_realm", "refused_for_ever"):
        if token.allows(wanted):
            return True
        if token.user and entry.repository in tokens.read_only:
            handler.refuse(403, "DENIED", "permission_denied: write_package")
            return False
    challenge(handler, realm)
    return False


def challenge(handler: Handler, realm: str = "") -> None:
    """Answer 401. The scope is a placeholder, whatever is needed."""
    text = f'Bearer realm="{realm or handler.base + "/token"}",service="ghcr.io",scope="repository:user/image:pull"'
    handler.refuse(401, "UNAUTHORIZED", "authentication required", None, {"WWW-Authenticate": text})
