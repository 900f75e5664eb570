"""Check an extension: everything that would go wrong once a server mounts it, all at once.

SOURCE is what build takes, or an image: oci:DIR[:TAG], oci-archive:FILE[:TAG]. Each finding has an identifier, which
docs/reference/checks.md explains. Without --distro every known Debian release gets a verdict.

  ocibuild check target/release/pg_trickle-pg18 --distro bookworm
  ocibuild check dist/pg_trickle
"""

from __future__ import annotations

import argparse

from ocibuild import postgres
from ocibuild.cli.arguments import add_source_options
from ocibuild.cli.findings import report_dict, show_findings, show_verdicts, summary
from ocibuild.cli.render import Style, print_json, printable
from ocibuild.cli.sources import check_input, read_input
from ocibuild.errors import CheckError


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Check and show."""
    given = read_input(options)
    report = check_input(given, options)
    roots = postgres.image_roots(given.sources, platforms=options.platform)
    platforms = [str(root.platform) for root in roots]
    version = next((source.version for source in given.sources if source.version), None)
    if options.json:
        print_json({"name": given.name, "postgresql": given.major, "platforms": platforms, **report_dict(report)})
    else:
        style = Style(no_color=options.no_color)
        print(style(printable(given.title(version, platforms)), "bold"))
        print()
        for line in show_findings(report.findings, style):
            print(line)
        if report.findings:
            print()
        for line in show_verdicts(report, style):
            print(line)
        print(summary(report))
    return 0 if report else CheckError.exit_code
