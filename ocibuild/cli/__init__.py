"""The command line: one file a command, imported when it is called. Results go to standard output, messages to error.

Nothing here decides anything: a command reads its arguments, calls the library and shows what came of it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["main"]

COMMANDS = {
    "build": "build an image from what cargo pgrx package wrote",
    "copy": "copy an image from one place to another",
    "inspect": "show what an image holds",
    "unpack": "write the files of an image to a folder",
    "gc": "remove what nothing names from a layout",
}

EXIT_CODES = """\
exit codes:
  0 done             1 internal error   2 usage            3 a source that cannot be packed
  4 findings         5 damaged content  6 not found        7 a place that cannot be read or written"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(next((item for item in arguments if item in COMMANDS), None))
    options = parser.parse_args(arguments)
    if getattr(options, "run", None) is None:
        parser.print_help(sys.stderr)
        return 2
    return _guarded(options.run, options)


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ocibuild",
        description="Assemble OCI images of PostgreSQL extensions: no daemon, no root, the same bytes everywhere.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == command:
            module = importlib.import_module(f"ocibuild.cli.{name}")
            sub.description = module.__doc__
            module.configure(sub)
            sub.add_argument("--json", action="store_true", help="print one JSON object")
            sub.add_argument("--no-color", action="store_true", help="no colour (NO_COLOR does the same)")
            sub.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from ocibuild import __version__

        print(f"ocibuild {__version__}")
        parser.exit()


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from ocibuild.errors import OcibuildError

    # As Ctrl-C: what was begun is cleaned up.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _flushed(run(options))
    except OcibuildError as error:
        return _report(error, options)
    except BrokenPipeError:
        # Whoever read our output is done; Python would complain once more at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("ocibuild: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("OCIBUILD_DEBUG"):
            raise
        print(
            f"ocibuild: internal error: {type(error).__name__}: {error}\n"
            "This is a fault of ocibuild. Set OCIBUILD_DEBUG=1 to see where, and report it.",
            file=sys.stderr,
        )
        return 1


def _flushed(code: int) -> int:
    sys.stdout.flush()
    return code


def _report(error: Any, options: argparse.Namespace) -> int:
    import json

    from ocibuild.cli.render import printable

    print(f"ocibuild: {printable(str(error))}", file=sys.stderr)
    if options.json:
        fields = error.to_dict()
        if findings := getattr(error, "findings", ()):
            fields["findings"] = [finding.to_dict() for finding in findings]
        print(json.dumps(fields, indent=2, ensure_ascii=False))
    return int(error.exit_code)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
