"""What a check found."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["FIRST_MAJOR", "Finding", "Report", "Verdict", "in_order", "listed"]

FIRST_MAJOR = 18
"""The first PostgreSQL that loads extensions from a mounted image (`extension_control_path`)."""

_LISTED = 5

_ORDER = {"error": 0, "warning": 1, "info": 2}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a check found.

    Attributes:
        id: The check's identifier, such as `missing-script`; `docs/reference/checks.md` has a section for each.
        severity: `error` (the extension would not work), `warning` or `info`.
        message: What was found.
        where: The file it is about.
        hint: What to do.
        distro: The Debian release it holds for, where it does not hold for all.
    """

    id: str
    severity: str
    message: str
    where: str = ""
    hint: str = ""
    distro: str = ""

    def to_dict(self) -> dict[str, str]:
        """The finding as `--json` prints it."""
        return {
            "id": self.id,
            "severity": self.severity,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            "distro": self.distro,
        }


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the operand image of one Debian release can load the modules, and what hinders it.

    Attributes:
        distro: The release, such as `bookworm`.
        findings: What hinders it, and what only deserves a warning.
    """

    distro: str
    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)


class Report(msgspec.Struct, frozen=True):
    """All findings, errors first, and a verdict for each Debian release. True when no finding is an error."""

    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...] = ()

    def __bool__(self) -> bool:
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid publishing."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, then by place; the same one only once."""
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda item: (_ORDER[item.severity], item.where, item.id, item.message)))


def listed(items: Sequence[str]) -> str:
    """The first few of many, and how many more there are.

    Example:
        >>> listed(["a", "b", "c", "d", "e", "f"])
        'a, b, c, d, e and 1 more'
    """
    more = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {more} more" if more > 0 else "")
