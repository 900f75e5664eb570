"""Store a credential for a registry, as docker does, in a file that only you can read.

echo "$TOKEN" | ocibuild login ghcr.io --username me --password-stdin
"""

from __future__ import annotations

import argparse
import getpass
import sys

from ocibuild.cli.access import add_connection_options, read_password, registry_options
from ocibuild.cli.render import print_json, printable
from ocibuild.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("registry", metavar="REGISTRY", help="the host, with its port")
    parser.add_argument("--username", metavar="NAME", help="the name (asked for on a terminal)")
    parser.add_argument("--password-stdin", action="store_true", help="read the password or token from standard input")
    add_connection_options(parser)


def run(options: argparse.Namespace) -> int:
    """Try the credential, and store it."""
    from ocibuild.locations import open_client
    from ocibuild.registry import Credential
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
    client = open_client(options.registry, registry_options(options, credentials=False), credential)
    client.ping()
    path = store_credential(options.registry, credential)
    if options.json:
        print_json({"registry": options.registry, "username": username, "file": str(path)})
    else:
        print(f"logged in to {printable(options.registry)} as {printable(username)}; stored in {path}")
    return 0
