"""The command line: one file a command, imported when it is called. Results go to standard output, messages to error.

Nothing here decides anything: a command reads its arguments, calls the library and shows what came of it.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ocibuild.errors import OcibuildError

__all__ = ["entry", "main"]

COMMANDS = {
    "build": "build an image from what an extension's build left",
    "check": "show everything that would go wrong once a server mounts an extension",
    "push": "push an image to a registry",
    "copy": "copy an image from one place to another",
    "inspect": "show what an image holds",
    "diff": "show why two images differ",
    "rebuild": "build an image again and compare its digest",
    "sign": "sign an image",
    "attest": "sign what is said of an image: its SBOM, its provenance, or a document of your own",
    "verify": "tell who signed an image, and whether it is what a policy asks for",
    "sbom": "list what an image was made of, as CycloneDX",
    "unpack": "write the files of an image to a folder",
    "login": "store a credential for a registry",
    "gc": "remove what nothing names from a layout",
}

EXIT_CODES = """\
exit codes:
  0 done             1 internal error   2 usage            3 a source that cannot be packed
  4 findings         5 damaged content  6 not found        7 a place that cannot be read or written
  8 a registry       9 credentials      10 a codec that writes other bytes
  11 not signed      12 wrongly signed  13 a policy that is not met"""


def main(argv: Sequence[str] | None = None, *, is_program: bool = False) -> int:
    """Run a command line; the exit code.

    Args:
        argv: The arguments, by default the process's own.
        is_program: The process does nothing else: it may be forked.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # What an encoding cannot say is written out, rather than an error after the work is done.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser, command = _parser(next((item for item in arguments if item in COMMANDS), None), arguments[:1])
    options, unknown = parser.parse_known_args(arguments)
    options.is_program = is_program
    if unknown and hasattr(options, "sources") and not any(item.startswith("-") for item in unknown):
        options.sources, unknown = [*options.sources, *unknown], []  # sources may stand anywhere
    if options.version:
        _show_version(verbose=options.verbose)
        parser.exit()
    if unknown:
        _refuse(command or parser, unknown[0])
    if getattr(options, "run", None) is None:
        parser.print_help(sys.stderr)
        return 2
    return _guarded(options.run, options)


def entry() -> NoReturn:
    """The program: `main`, without the interpreter's farewell, which takes as long as a small command does."""
    # A command makes many small values and few circles.
    gc.set_threshold(100_000)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    code = main(is_program=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    atexit._run_exitfuncs()  # noqa: SLF001 - what os._exit leaves out, and temporary folders need
    os._exit(code)


def _show_warning(text: Warning | str, *_: object, **__: object) -> None:
    _say(f"warning: {text}", 0)


def _refuse(parser: argparse.ArgumentParser, argument: str) -> NoReturn:
    from difflib import get_close_matches

    near = get_close_matches(argument.partition("=")[0], parser._option_string_actions, n=1)  # noqa: SLF001 - no other way
    parser.error(f"unknown argument {argument!r}" + (f"; did you mean {near[0]}?" if near else ""))


def _parser(
    command: str | None, first: Sequence[str] = ()
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser | None]:
    """The parser, and that of the command that is called; the others are listed where the list can be asked for."""
    chosen = None
    parser = argparse.ArgumentParser(
        prog="ocibuild",
        description="Assemble OCI images of PostgreSQL extensions: no daemon, no root, the same bytes everywhere.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version and the format number, and exit")
    parser.add_argument("--verbose", action="store_true", help="with --version: the codecs and their versions too")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", prog=parser.prog)
    for name, summary in COMMANDS.items():
        if command in first and name != command:
            continue
        sub = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == command:
            module = importlib.import_module(f"ocibuild.cli.{name}")
            sub.description = module.__doc__
            module.configure(sub)
            sub.add_argument("--json", action="store_true", help="print one JSON object")
            sub.add_argument("--no-color", action="store_true", help="no colour (NO_COLOR does the same)")
            # Where 1 is an answer, any error is one code.
            sub.set_defaults(run=module.run, trouble=getattr(module, "TROUBLE", None))
            chosen = sub
    return parser, chosen


def _show_version(*, verbose: bool) -> None:
    from ocibuild import FORMAT, __version__

    print(f"ocibuild {__version__} (format {FORMAT})")
    if verbose:
        from ocibuild.cli.render import table
        from ocibuild.layer.format import CODECS, known_answer

        rows = []
        for compression, codec in CODECS.items():
            verdict = (
                "as the format names"
                if known_answer(compression) == codec.answer
                else "OTHER BYTES than the format names"
            )
            rows.append([compression.value, f"{codec.package} {codec.version}", codec.settings, verdict])
        rows.append(["python", f"{sys.implementation.name} {sys.version.partition(' ')[0]}", sys.platform, ""])
        print("\n".join(table(rows, indent="  ")))


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from ocibuild.errors import OcibuildError, StoreError

    _catch_signals()
    try:
        code = run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OcibuildError as error:
        return _report(error, options)
    except BrokenPipeError:
        # Whoever read our output is done; Python would complain once more at exit.
        _forget_output()
        return 141
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except OSError as error:
        _forget_output()
        return _report(StoreError(error.strerror or str(error), where=error.filename or "output"), options)
    except Exception as error:
        if os.environ.get("OCIBUILD_DEBUG"):
            raise
        found = f"internal error: {type(error).__name__}: {error}"
        hint = "This is a fault of ocibuild. Set OCIBUILD_DEBUG=1 to see where, and report it."
        return _say(f"{found}. {hint}", options.trouble or 1)
    return code


def _catch_signals() -> None:
    """As Ctrl-C: what was begun is cleaned up."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            # What is ignored stays so: nohup.
            if (number := getattr(signal, name, None)) and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _interrupt)


def _say(text: str, code: int) -> int:
    from ocibuild.cli.render import message, printable

    message(f"ocibuild: {printable(text)}")
    return code


def _report(error: OcibuildError, options: argparse.Namespace) -> int:
    from ocibuild.cli.render import print_json

    _say(str(error), 0)
    if options.json:
        fields: dict[str, object] = dict(error.to_dict())
        if findings := getattr(error, "findings", ()):
            fields["findings"] = [finding.to_dict() for finding in findings]
        with contextlib.suppress(OSError):
            print_json(fields)
    return options.trouble or error.exit_code


def _forget_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
