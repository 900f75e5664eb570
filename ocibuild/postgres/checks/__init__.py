"""Checks: what would go wrong with an extension once it is mounted, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable

from ocibuild.oci import Platform
from ocibuild.postgres.root import image_roots
from ocibuild.postgres.sources import Source

from .controls import check_controls
from .finding import Finding, Report, Verdict, in_order
from .layout import MAX_SIZE, check_layout, check_platforms
from .loading import check_loading
from .modules import check_modules
from .scripts import check_scripts

__all__ = ["MAX_SIZE", "Finding", "Report", "Verdict", "check"]


def check(
    sources: Iterable[Source],
    *,
    distro: str | None = None,
    major: int | None = None,
    name: str | None = None,
    preload: Iterable[str] = (),
    max_size: int = MAX_SIZE,
    platforms: Iterable[Platform | str] = (),
    version: str | None = None,
) -> Report:
    """Every finding on an extension's sources.

    Args:
        sources: One or several a platform, from `open_source`.
        distro: The Debian release of the server's image. Without one, every known release gets a verdict, and it is an
            error only when none can load the modules.
        major: The PostgreSQL major version of the server; by default the one of the modules.
        name: The image's name, which CloudNativePG must take as the name of a mount.
        preload: What `shared_preload_libraries` will hold.
        max_size: Bytes of one platform's files from which on a single extension is called large.
        platforms: The platforms wanted, as in `image_roots`.
        version: The crate's version, which what cargo pgrx package wrote must have.

    Returns:
        A report, true when no finding is an error.

    Raises:
        SourceError: The sources do not make an image at all: none, or two files at one path.
        UsageError: A distro that is not known.

    Example:
        >>> from ocibuild.postgres import open_source
        >>> report = check([open_source("fixtures/packages/amd64/pgrx_hello-pg18")])
        >>> bool(report), [verdict.distro for verdict in report.verdicts if verdict]
        (True, ['bookworm', 'trixie'])
    """
    given = list(sources)
    roots = image_roots(given, platforms=platforms)
    findings: list[Finding] = []
    for root in roots:
        findings.extend(check_controls(root, distro))
        findings.extend(check_scripts(root, tuple(preload)))
        findings.extend(check_modules(root, major))
        findings.extend(check_layout(root))
    findings.extend(check_platforms(roots, name, max_size, version))
    verdicts, hindrances = check_loading(roots, distro)
    findings.extend(hindrances)
    return Report(in_order(findings), verdicts)
