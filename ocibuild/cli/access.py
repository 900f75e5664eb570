"""How the command line reaches registries: the options that every such command has."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ocibuild.errors import UsageError

if TYPE_CHECKING:
    from ocibuild.locations import RegistryOptions
    from ocibuild.store import Artifact

__all__ = ["add_connection_options", "add_registry_options", "read_password", "registry_options", "tell_of_referrers"]

_PASSWORD_LIMIT = 64 * 1024


def add_registry_options(parser: argparse.ArgumentParser, *, key_flag: str = "--key") -> None:
    """The arguments that say how a registry is reached; `key_flag` where `--key` means another key."""
    parser.add_argument("--username", metavar="NAME", help="in place of stored credentials; needs --password-stdin")
    parser.add_argument("--password-stdin", action="store_true", help="read the password or token from standard input")
    add_connection_options(parser, key_flag=key_flag)


def add_connection_options(parser: argparse.ArgumentParser, *, key_flag: str = "--key") -> None:
    """Those that say how to connect."""
    parser.add_argument("--plain-http", action="store_true", help="without TLS (on loopback it needs no saying)")
    parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust, in place of the system's")
    parser.add_argument("--cert", metavar="FILE", help=f"client certificate; needs {key_flag}")
    parser.add_argument(key_flag, dest="cert_key", metavar="FILE", help="its key")


def registry_options(options: argparse.Namespace, *, credentials: bool = True) -> RegistryOptions:
    """What was said; with `credentials=False` of the connection alone.

    Raises:
        UsageError: Half of a pair.
    """
    from ocibuild.locations import RegistryOptions

    if credentials and (options.username is None) == options.password_stdin:
        raise UsageError("half of --username and --password-stdin", wanted="both")
    if (options.cert is None) != (options.cert_key is None):
        raise UsageError("half of --cert and its key", wanted="both")
    return RegistryOptions(
        username=options.username if credentials else None,
        password=read_password() if credentials and options.password_stdin else "",
        plain_http=True if options.plain_http else None,
        ca_file=options.ca_file,
        client_certificate=(options.cert, options.cert_key) if options.cert else None,
    )


def read_password() -> str:
    """A password from standard input, without the line's end.

    Raises:
        UsageError: There is none.
    """
    password = sys.stdin.read(_PASSWORD_LIMIT).rstrip("\r\n")
    if not password:
        raise UsageError("no password on standard input", wanted="one line")
    return password


def tell_of_referrers(artifact: Artifact) -> None:
    """Say what is attached to an image and stays behind, where looking costs no request."""
    from ocibuild.cli.render import message
    from ocibuild.errors import OcibuildError
    from ocibuild.store import RemoteStore
    from ocibuild.store.referrers import find_attached

    if not hasattr(artifact.source, "referrers") or isinstance(artifact.source, RemoteStore):
        return
    try:
        count = len({item.descriptor.digest for item in find_attached(artifact.source, artifact.root)})
    except OcibuildError as error:
        message(f"what refers to the image was not copied, and cannot be read: {error.found}")
        return
    if count:
        what = "manifest refers to the image and was" if count == 1 else "manifests refer to the image and were"
        message(f"{count} {what} not copied: --referrers takes such along")
