"""Credentials for a registry, from where the container tools keep them.

In this order: what is given, Docker's configuration, podman's, then GITHUB_TOKEN for ghcr.io. `~/.netrc` is not read.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never

from ocibuild.errors import AuthError

__all__ = ["Credential", "find_credential", "store_credential"]

SIZE_LIMIT = 1024 * 1024
HELPER_SECONDS = 30
_SERVERS = {"docker.io": "https://index.docker.io/v1/"}
"""What Docker calls a registry in its configuration, where that is not its host."""

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers mark an identity token


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A name and password, or an identity token that stands for them.

    Attributes:
        username: The name; empty with an identity token.
        password: The password or token. Never shown.
        identity_token: An OAuth2 refresh token. Never shown.
        origin: Where it was found, for a person.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    origin: str = ""

    def __post_init__(self) -> None:
        try:
            f"{self.username}{self.password}{self.identity_token}".encode()
        except UnicodeEncodeError:
            raise AuthError("a credential with characters that no header can hold", where=self.origin) from None

    @property
    def basic(self) -> str:
        """The value of a Basic `Authorization` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be seen."""
        encoded = self.basic.removeprefix("Basic ") if self.password else ""
        return tuple(item for item in (self.password, self.identity_token, encoded) if item)

    def __reduce__(self) -> Never:
        raise TypeError("a credential is not to be pickled")


def find_credential(
    registry: str, repository: str = "", *, environ: Mapping[str, str] | None = None
) -> Credential | None:
    """The credential that the container tools would use for a registry; None for anonymous access.

    Args:
        registry: The host, with its port.
        repository: Where podman keeps several for one host, the most specific counts.
        environ: The environment; by default the process's.

    Raises:
        AuthError: A configuration that cannot be read, or a credential helper that fails.

    Example:
        >>> find_credential("ghcr.io", environ={"HOME": "/nonexistent", "GITHUB_TOKEN": "t", "GITHUB_ACTOR": "me"})
        Credential(username='me', origin='GITHUB_TOKEN')
    """
    environment = os.environ if environ is None else environ
    for path in _files(environment):
        config = _load(path)
        if config is not None and (found := _in_file(config, path, registry, repository)) is not None:
            return found
    token = environment.get("GITHUB_TOKEN", "")
    if token and registry == "ghcr.io":
        user = environment.get("GITHUB_ACTOR") or "unset"
        return Credential(username=user, password=token, origin="GITHUB_TOKEN")
    return None


def docker_config(environ: Mapping[str, str]) -> Path:
    """Docker's configuration file, where `login` writes."""
    folder = environ.get("DOCKER_CONFIG")
    return Path(folder) / "config.json" if folder else _home(environ) / ".docker" / "config.json"


def store_credential(registry: str, credential: Credential, *, environ: Mapping[str, str] | None = None) -> Path:
    """Write a credential into Docker's configuration, mode 0600, keeping what else is there; the file.

    Raises:
        AuthError: The file is not a configuration, or cannot be written.
    """
    path = docker_config(os.environ if environ is None else environ)
    config = _load(path) or {}
    if not isinstance(config.get("auths", {}), dict):
        raise AuthError("'auths' that is no table", wanted="a JSON object", where=path)
    entry = {"auth": credential.basic.removeprefix("Basic ")}
    if credential.identity_token:
        entry["identitytoken"] = credential.identity_token
    auths = {**config.get("auths", {}), _SERVERS.get(registry, registry): entry}
    # A link stays one: what it leads to is replaced.
    target = os.path.realpath(path)
    if os.path.islink(target):
        raise AuthError("cannot be written: a link to itself", where=path)
    raw = json.dumps({**config, "auths": auths}, indent=2).encode() + b"\n"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=".config-", dir=os.path.dirname(target))  # mode 0600
        try:
            with open(handle, "wb") as stream:
                stream.write(raw)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise AuthError(f"cannot be written: {error.strerror}", where=path) from None
    return path


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    yield docker_config(environ)
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"]) / "containers" / "auth.json"
    config = environ.get("XDG_CONFIG_HOME")
    yield (Path(config) if config else _home(environ) / ".config") / "containers" / "auth.json"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or environ.get("USERPROFILE") or os.path.expanduser("~"))


def _load(path: Path) -> dict[str, Any] | None:
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
        config = json.loads(raw) if len(raw) <= SIZE_LIMIT else None
    except OSError as error:
        raise AuthError(f"cannot be read: {error.strerror}", where=path) from None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        # What was found is not shown: it holds secrets.
        raise AuthError("not a configuration", wanted="a JSON object", where=path, hint="Log in again.")
    return config


def _in_file(config: dict[str, Any], path: Path, registry: str, repository: str) -> Credential | None:
    helpers = _table(config, "credHelpers")
    server = _SERVERS.get(registry, registry)
    for name in (registry, server):
        if isinstance(helpers.get(name), str):
            return _from_helper(helpers[name], server)
    for key in _keys(registry, repository):
        for name, entry in _table(config, "auths").items():
            if _bare(name) == key and isinstance(entry, dict) and (found := _in_entry(entry, path)) is not None:
                return found
    store = config.get("credsStore")
    return _from_helper(store, server) if isinstance(store, str) and store else None


def _keys(registry: str, repository: str) -> Iterator[str]:
    """The names under which podman may keep a credential, most specific first."""
    parts = [registry, *filter(None, repository.split("/"))]
    while parts:
        yield "/".join(parts)
        parts.pop()
    if registry in _SERVERS:
        yield _bare(_SERVERS[registry])


def _bare(name: str) -> str:
    """A configuration's key without what Docker puts around the host."""
    bare = re.sub(r"^https?://", "", name).rstrip("/")
    return re.sub(r"/v[12]$", "", bare)


def _in_entry(entry: dict[str, Any], path: Path) -> Credential | None:
    token = entry.get("identitytoken")
    username, password = entry.get("username"), entry.get("password")
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            decoded = base64.b64decode(auth, validate=True).decode().rstrip("\0")
        except ValueError:  # not base64, not ASCII, not UTF-8
            raise AuthError("a damaged credential", where=path, hint="Log in again.") from None
        username, _, password = decoded.partition(":")
    if isinstance(token, str) and token:
        return Credential(username=str(username or ""), identity_token=token, origin=str(path))
    if isinstance(username, str) and isinstance(password, str) and (username or password):
        return Credential(username=username, password=password, origin=str(path))
    return None


def _from_helper(name: str, registry: str) -> Credential | None:
    """What a credential helper says (docker-credential-helpers)."""
    if not _HELPER.fullmatch(name):
        raise AuthError(f"the credential helper {name[:80]!r}", wanted="a plain name")
    program = f"docker-credential-{name}"
    try:
        result = subprocess.run(  # noqa: S603 - the name is plain, and found on PATH as every tool finds it
            [program, "get"], input=registry.encode(), capture_output=True, timeout=HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise AuthError("not found on PATH", where=program, hint="Install it, or log in without it.") from None
    except subprocess.TimeoutExpired:
        raise AuthError(f"no answer in {HELPER_SECONDS} seconds", where=program) from None
    except OSError as error:
        raise AuthError(f"cannot be run: {error.strerror}", where=program) from None
    if result.returncode != 0:
        if b"not found" in result.stdout.lower():
            return None
        # Its words may hold a secret.
        raise AuthError(f"it failed with exit code {result.returncode}", where=program)
    try:
        answer = json.loads(result.stdout[:SIZE_LIMIT])
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise AuthError("an answer that is none", wanted="Username and Secret", where=program) from None
    if not (isinstance(username, str) and isinstance(secret, str)):
        raise AuthError("an answer that is none", wanted="Username and Secret", where=program)
    if username == _TOKEN_USER:
        return Credential(identity_token=secret, origin=program)
    return Credential(username=username, password=secret, origin=program)


def _table(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}
