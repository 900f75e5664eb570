"""Origins: where a secret may go, and where a registry may send us."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

from ocibuild.errors import RegistryError

__all__ = ["Origin", "check_target", "join", "redacted"]

_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_URL = re.compile(
    rf"(https?)://(\[[0-9a-f:.]+\]|{_LABEL}(?:\.{_LABEL})*\.?)(?::([0-9]{{0,5}}))?(?=[/?#]|$)", re.IGNORECASE | re.ASCII
)
_ODD = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of a URL.

        Raises:
            RegistryError: It is not an http or https URL with a plain host, or names a user.

        Example:
            >>> Origin.of("https://ghcr.io/v2/") == Origin.of("https://GHCR.io:443/token")
            True
        """
        # Stricter than any URL parser, so that none can read another host in it than this.
        match = None if _ODD.search(url) else _URL.match(url)
        if match is None:
            raise RegistryError(f"the URL {redacted(url)!r}", wanted="https and a host")
        scheme, host, port = match[1].lower(), match[2].lower(), int(match[3] or _PORTS[match[1].lower()])
        if not 0 < port <= _LAST_PORT or (host.startswith("[") and not _is_address(host[1:-1])):
            raise RegistryError(f"the URL {redacted(url)!r}", wanted="https and a host")
        return cls(scheme, host.strip("[]").rstrip("."), port)

    @classmethod
    def of_host(cls, host: str, scheme: str = "https") -> Origin:
        """The origin of a host, with its port or without.

        Raises:
            RegistryError: It is more than a host, or none.
        """
        if re.search(r"[/?#]", host):
            raise RegistryError(f"the registry {redacted(host)!r}", wanted="a host, perhaps with its port")
        return cls.of(f"{scheme}://{host}")

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine: where plain http needs no asking."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        address = self.address
        return address is not None and address.is_loopback

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address, where the host is one, in any of the forms that resolvers take."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            pass
        # inet_aton's forms: 127.1, 0x7f000001, 2130706433
        if re.fullmatch(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", self.host):
            return ipaddress.IPv4Address("0.0.0.0")  # noqa: S104 - stands for an odd literal: never a public host
        return None

    @property
    def is_inner(self) -> bool:
        """Whether it is an address, or a name that is only known inside a network."""
        return (
            self.address is not None
            or "." not in self.host
            or self.host.endswith((".local", ".internal", ".localhost"))
        )


def check_target(url: str, registry: Origin, *, what: str) -> Origin:
    """Refuse to go where a registry may not send its clients: to plain http from https, or into the inner network.

    Args:
        url: Where it sends us: a token realm, a redirect, an upload location.
        registry: The registry's own origin, which is always allowed.
        what: What the URL is, for an error.

    Raises:
        RegistryError: It must not.
    """
    target = Origin.of(url)
    if target == registry:
        return target
    if target.scheme != "https" and not (registry.scheme == "http" and target.is_loopback):
        raise RegistryError(f"{what} {redacted(url)}", wanted="https", where=registry.host)
    if target.is_inner and target.host != registry.host and not registry.is_inner:
        raise RegistryError(
            f"{what} {redacted(url)}, inside a private network", wanted="a public host", where=registry.host
        )
    return target


def join(base: str, link: str) -> str:
    """A link that may be relative, as a URL.

    Raises:
        RegistryError: It is none.
    """
    try:
        return urljoin(base, link)
    except ValueError:
        raise RegistryError(f"the link {redacted(link)!r}", wanted="a URL", where=redacted(base)) from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def redacted(url: str) -> str:
    """A URL without what may be a secret: user, query and fragment.

    Example:
        >>> redacted("https://user:pw@example.org/a?X-Amz-Signature=1")
        'https://example.org/a'
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(an unreadable URL)"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))[:500]
