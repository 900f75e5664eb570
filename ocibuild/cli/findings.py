"""Findings and verdicts as people read them: one block a check, errors first, the rest of a long list counted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ocibuild.cli.render import Style, printable

if TYPE_CHECKING:
    # The checks are loaded when they run: layers are being compressed by then.
    from ocibuild.postgres import Finding, Report

__all__ = ["report_dict", "show_findings", "show_verdicts", "summary"]

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
_MESSAGES = 4
_PLACES = 2
_WIDTH = 100
_SHORT = 8


def show_findings(findings: Sequence[Finding], style: Style) -> Iterator[str]:
    """The findings: each check with what it found, where, and what to do."""
    blocks: dict[tuple[str, str], list[Finding]] = {}
    common = _common([finding.where for finding in findings])
    for finding in findings:
        blocks.setdefault((finding.severity, finding.id), []).append(finding)
    for (severity, name), block in blocks.items():
        yield from _show_block(f"{style(severity, _COLOURS[severity], 'bold')} [{name}]", block, style, common)


def _common(places: Sequence[str]) -> str:
    """The folder that all sources are in, to be left out; empty for a short one."""
    folders = [os.path.dirname(place.partition(": ")[0]) for place in places if "/" in place.partition(": ")[0]]
    try:
        common = os.path.commonpath(folders) if folders else ""
    except ValueError:
        common = ""
    return f"{common}/" if len(common) > _SHORT else ""


def _show_block(title: str, block: Sequence[Finding], style: Style, common: str) -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for finding in block:
        known = places.setdefault(finding.message, [])
        if finding.where not in known:
            known.append(finding.where)
    for number, (message, wheres) in enumerate(places.items()):
        if number == _MESSAGES:
            yield f"  and {len(places) - number} more of these"
            break
        yield f"{title} {printable(message)}" if number == 0 else f"  {printable(message)}"
        for where in wheres[:_PLACES]:
            yield f"    in {printable(where.removeprefix(common))}"
        if len(wheres) > _PLACES:
            yield f"    and {len(wheres) - _PLACES} more"
    for hint in dict.fromkeys(finding.hint for finding in block[:_MESSAGES] if finding.hint):
        yield f"  {style(printable(hint), 'dim')}"


def show_verdicts(report: Report, style: Style) -> Iterator[str]:
    """A line a Debian release: whether its server's image can load the modules, else the first reason why not."""
    width = max((len(verdict.distro) for verdict in report.verdicts), default=0)
    for verdict in report.verdicts:
        name = verdict.distro.ljust(width)
        if verdict:
            yield f"{name}  {style('loads', 'green')}"
            continue
        reasons = list(dict.fromkeys(item.message for item in verdict.findings if item.severity == "error"))
        text = reasons[0] if len(reasons[0]) <= _WIDTH else f"{reasons[0][:_WIDTH].rpartition(' ')[0]} …"
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        yield f"{name}  {style('cannot load', 'red')}: {printable(text)}{more}"


def summary(report: Report) -> str:
    """How many findings of each severity there are."""
    counts = [(sum(item.severity == name for item in report.findings), name) for name in ("error", "warning", "info")]
    words = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "info": ("note", "notes")}
    told = [f"{count} {words[name][count != 1]}" for count, name in counts if count]
    return ", ".join(told) or "no findings"


def report_dict(report: Report) -> dict[str, Any]:
    """The report as `--json` prints it."""
    return {
        "findings": [finding.to_dict() for finding in report.findings],
        "verdicts": [
            {
                "distro": verdict.distro,
                "loads": bool(verdict),
                "findings": [finding.to_dict() for finding in verdict.findings],
            }
            for verdict in report.verdicts
        ],
    }
