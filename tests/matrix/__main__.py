"""Build the golden cases on every machine that can be had here, and show a table.

    python -m tests.matrix [--rows NAME...] [--json] [--strict] [--cache DIR] [--list]
    python -m tests.matrix --read FOLDER [--expect N]     # reports of tests/matrix/verify.py, made elsewhere

Exit 1 when a digest is another, a row breaks, or reports are of other goldens. A row that cannot be had is listed with the
reason, and with --strict is a fault too. Roots are made once, in the cache folder; without the folder they are made anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.matrix.roots import default_cache, opened
from tests.matrix.rows import Outcome, judge, rows, run

HEADINGS = ("row", "CPU", "libc", "Python", "codecs", "result")


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as columns."""
    lines = [HEADINGS, *(_cells(item) for item in outcomes)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


def _cells(outcome: Outcome) -> tuple[str, ...]:
    report = outcome.report
    codecs = report.get("codecs", {})
    shown = f"deflate {codecs['deflate']}, zstd {codecs['zstd']}, zstandard {codecs['zstandard']}" if codecs else "-"
    result = f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state
    if outcome.state == "agrees":
        result += f" ({len(report['agreed'])})"
    cells = [str(report.get(key, "-")) for key in ("cpu", "libc", "python")]
    return outcome.row, *cells, shown, result


def read(folder: Path) -> list[Outcome]:
    """The reports in a folder and below, by file name."""
    found = []
    for path in sorted(folder.rglob("*.json")):
        text = path.read_text(encoding="utf-8", errors="replace")
        found.append(judge(path.stem, 0, text, "not a report"))
    return found


def faults(outcomes: Sequence[Outcome], expected: int | None, *, strict: bool = False) -> list[str]:
    """What keeps the whole from being shown."""
    bad = {"differs", "failed", "not run"} if strict else {"differs", "failed"}
    found = [f"{item.row}: {item.state}, {item.reason}" for item in outcomes if item.state in bad]
    if expected is not None and len(outcomes) != expected:
        found.append(f"{len(outcomes)} reports, wanted {expected}")
    if len({item.report["goldens"] for item in outcomes if item.report}) > 1:
        found.append("the reports are of different goldens")
    if not any(item.state == "agrees" for item in outcomes):
        found.append("no row was run")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the golden cases on every machine that can be had here.")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--json", action="store_true", help="one object in place of the table")
    parser.add_argument("--strict", action="store_true", help="a row that is not run is a fault too")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="reports made elsewhere, in place of rows")
    parser.add_argument("--expect", type=int, metavar="N", help="how many reports there must be")
    options = parser.parse_args(argv)
    known = rows()
    if options.list:
        print("\n".join(row.name for row in known))
        return 0
    if options.read:
        outcomes = read(options.read)
    else:
        if unknown := set(options.rows or ()) - {row.name for row in known}:
            parser.error(f"no such row: {', '.join(sorted(unknown))} (--list names them)")
        outcomes = []
        with opened(options.cache) as cache:
            for row in known:
                if not options.rows or row.name in options.rows:
                    print(f"{row.name} ...", file=sys.stderr, flush=True)
                    outcomes.append(run(row, cache))
    wrong = faults(outcomes, options.expect, strict=options.strict)
    if options.json:
        print(json.dumps({"rows": [dataclasses.asdict(item) for item in outcomes], "faults": wrong}, indent=2))
    else:
        print(table(outcomes))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
