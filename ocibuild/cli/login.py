"""Store a credential for a registry, as docker does, in a file that only you can read.

echo "$TOKEN" | ocibuild login ghcr.io --username me --password-stdin
"""

from __future__ import annotations

import argparse
import getpass
import sys

from ocibuild.cli.access import read_password
from ocibuild.cli.render import print_json, printable
from ocibuild.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("registry", metavar="REGISTRY", help="the host, with its port")
    parser.add_argument("--username", metavar="NAME", help="the name (asked for on a terminal)")
    parser.add_argument("--password-stdin", action="store_true", help="read the password or token from standard input")
    parser.add_argument("--plain-http", action="store_true", help="without TLS (on loopback it needs no saying)")
    parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust, in place of the system's")


def run(options: argparse.Namespace) -> int:
    """Try the credential, and store it."""
    from ocibuild.registry import Credential, RegistryClient
    from ocibuild.registry.credentials import store_credential

    username = options.username
    if options.password_stdin:
        if not username:
            raise UsageError("--password-stdin without --username", wanted="both")
        password = read_password()
    else:
        if not sys.stdin.isatty():
            raise UsageError("no terminal to ask on", wanted="--username and --password-stdin")
        username = username or input("Username: ")
        password = getpass.getpass("Password: ")
    credential = Credential(username=username, password=password, origin="the command line")
    plain = True if options.plain_http else None
    client = RegistryClient(options.registry, credential=credential, plain_http=plain, ca_file=options.ca_file)
    client.ping()
    path = store_credential(options.registry, credential)
    if options.json:
        print_json({"registry": options.registry, "username": username, "file": str(path)})
    else:
        print(f"logged in to {printable(options.registry)} as {printable(username)}; stored in {path}")
    return 0
