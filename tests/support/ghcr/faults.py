"""Faults on demand: their kinds, when one falls on a request, and plans of several."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ocibuild.errors import AuthError, DigestMismatchError, OcibuildError, RegistryError

from .record import Request

__all__ = ["KINDS", "Fault", "Kind", "Plan"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes:
        stage: When it falls: `challenge` before authorization, `request` before the work, `upload` while a blob's bytes
            come, `answer` once the work is done, `body` while an answer's content goes.
        methods: The methods it makes sense for, as a pattern.
        target: The path and query names it makes sense for, as a pattern.
        error: What a client must raise; None when it must succeed all the same.
        times: How often it falls, unless a fault says otherwise; None for ever.
        ways: What it disturbs: `push`, `pull`, `list`.
    """

    stage: str
    methods: str
    target: str
    error: type[OcibuildError] | None = None
    times: int | None = 1
    ways: tuple[str, ...] = ("push", "pull")

    @property
    def recoverable(self) -> bool:
        """Whether a push or pull must succeed despite it."""
        return self.error is None


_ANY = r"^/v2/.+"
_BODY = r"^/v2/.*/manifests/|/blobs/sha"
_SESSION = r"/blobs/uploads/[^?]"
_MOUNT = r"/blobs/uploads/\?(.*&)?mount"

KINDS: dict[str, Kind] = {
    # the connection
    "reset": Kind("request", ".*", _ANY),
    "reset_upload": Kind("upload", "PUT|PATCH", _SESSION, ways=("push",)),
    "lost_answer": Kind("answer", "PUT|PATCH|POST", _ANY, ways=("push",)),
    "truncated": Kind("body", "GET", _BODY, ways=("pull",)),
    "slow": Kind("body", "GET", _BODY, ways=("pull",)),
    "slow_upload": Kind("upload", "PUT|PATCH", _SESSION, ways=("push",)),
    # the service
    "error_once": Kind("request", ".*", _ANY),
    "bad_gateway": Kind("request", ".*", _ANY),
    "unavailable": Kind("request", ".*", _ANY),
    "error_always": Kind("request", ".*", _ANY, RegistryError, None),
    "throttled_in_body": Kind("request", ".*", _ANY),
    "throttled": Kind("request", ".*", _ANY),
    "secondary_limit": Kind("request", "GET|PUT|PATCH|POST", _ANY),  # a HEAD could not say that it is one
    # authorization
    "token_expired": Kind("challenge", ".*", _ANY),
    "refused_for_ever": Kind("challenge", ".*", _ANY, AuthError, None),
    "denied": Kind("request", "PUT|PATCH|POST", _ANY, AuthError, None, ("push",)),
    "hostile_realm": Kind("challenge", ".*", r"^/v2/", AuthError, None),
    # where it sends its clients
    "foreign_upload": Kind("answer", "POST|PATCH", "/blobs/uploads/", RegistryError, None, ("push",)),
    "foreign_blob": Kind("answer", "GET", "^/v2/.*/blobs/sha", RegistryError, None, ("pull",)),
    "tags_loop": Kind("answer", "GET", "/tags/list", RegistryError, None, ("list",)),
    "referrers_loop": Kind("answer", "GET", "/referrers/", RegistryError, None, ("list",)),
    "foreign_link": Kind("answer", "GET", "/tags/list|/referrers/", RegistryError, None, ("list",)),
    # what it says of content
    "flipped": Kind("body", "GET", _BODY, DigestMismatchError, None, ("pull",)),
    "wrong_digest": Kind("answer", "GET|PUT", "/manifests/", DigestMismatchError, None),
    "other_manifest": Kind("answer", "GET", "/manifests/", DigestMismatchError, None, ("pull",)),
    "wrong_size": Kind("answer", "HEAD", "/blobs/sha", ways=("push",)),
    # mounts
    "mount_201": Kind("request", "POST", _MOUNT, times=None, ways=("push",)),
    "mount_202": Kind("request", "POST", _MOUNT, times=None, ways=("push",)),
    "mount_401": Kind("request", "POST", _MOUNT, times=None, ways=("push",)),
    "mount_404": Kind("request", "POST", _MOUNT, times=None, ways=("push",)),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and the requests it falls on.

    Attributes:
        kind: A name of `KINDS`.
        method: The methods, as a pattern; by default the kind's.
        path: What is searched in path and query names, as a pattern; by default the kind's. The kind's must match too
            unless this begins with `^/`: so the token service is reached by `^/token`.
        server: `ghcr` or `storage`; by default any.
        times: How often; None for ever, by default the kind's.
        skip: How many such requests pass before.
        at: The byte, for what happens in the middle of a body.
        seconds: For what takes time, and for `Retry-After`.
        where: For what leads elsewhere: `evil`, or a URL.
        lies: The evil host answers 200 and bytes of its own; else it asks for credentials.
        body: What is given in place of a manifest.
    """

    kind: str
    method: str = ""
    path: str = ""
    server: str = ""
    times: int | None = -1
    skip: int = 0
    at: int = 0
    seconds: float = 0.2
    where: str = "evil"
    lies: bool = False
    body: bytes = b""

    def falls_on(self, request: Request, stage: str) -> bool:
        """Whether a request at a stage is one of those meant."""
        kind = KINDS[self.kind]
        if kind.stage != stage or self.server not in ("", request.server):
            return False
        if self.kind == "token_expired" and not request.uses:
            return False  # a new token that is refused is no expired one
        if not re.fullmatch(self.method or kind.methods, request.method):
            return False
        if self.path.startswith("^/"):
            return re.search(self.path, request.target) is not None
        return re.search(kind.target, request.target) is not None and re.search(self.path, request.target) is not None

    @property
    def limit(self) -> int | None:
        """How often it falls; None for ever."""
        return KINDS[self.kind].times if self.times == -1 else self.times


@dataclass(slots=True)
class _Armed:
    fault: Fault
    passed: int = 0
    fallen: int = 0


class Plan:
    """The faults still to come. Safe to use from several threads."""

    def __init__(self, *faults: Fault) -> None:
        self.fallen: list[tuple[Fault, int]] = []
        """What fell, and the numbers of the requests."""
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self.add(*faults)

    @classmethod
    def random(cls, seed: int, count: int, *, size: int = 1 << 16, kinds: Iterable[str] = ()) -> Plan:
        """Faults that a push must survive, the same for the same seed.

        Args:
            seed: Any number.
            count: How many.
            size: The size of the largest blob: where bodies break.
            kinds: By default all that are recoverable and disturb a push, but for those of mounts. A token ends once at
                most: a client that meets a second end at once may think that it is refused.
        """
        source = random.Random(seed)
        names = sorted(kinds or (k for k, v in KINDS.items() if v.recoverable and "push" in v.ways and v.times))
        made: list[Fault] = []
        while len(made) < count:
            kind = source.choice(names)
            if kind == "token_expired" and any(fault.kind == kind for fault in made):
                continue
            at = min(size - 1, int(size ** source.random()))
            made.append(Fault(kind, skip=source.randrange(8), at=at, seconds=0.05))
        return cls(*made)

    @property
    def faults(self) -> list[Fault]:
        """All of them."""
        return [item.fault for item in self._armed]

    def add(self, *faults: Fault) -> None:
        """Have more of them."""
        for fault in faults:
            if fault.kind not in KINDS:
                raise ValueError(f"no kind of fault: {fault.kind}")
        with self._lock:
            self._armed.extend(_Armed(fault) for fault in faults)

    def clear(self) -> None:
        """Have none any more."""
        with self._lock:
            self._armed.clear()

    def take(self, request: Request, stage: str) -> Fault | None:
        """The fault that falls on a request at a stage."""
        with self._lock:
            for item in self._armed:
                limit = item.fault.limit
                if (limit is not None and item.fallen >= limit) or not item.fault.falls_on(request, stage):
                    continue
                item.passed += 1
                if item.passed <= item.fault.skip:
                    continue
                item.fallen += 1
                self.fallen.append((item.fault, request.number))
                request.faults.append(item.fault.kind)
                return item.fault
        return None

    def count(self, kind: str) -> int:
        """How often a kind fell."""
        return sum(fault.kind == kind for fault, _ in list(self.fallen))
