"""Tags: literal, or templates filled from the extension."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from ocibuild.errors import UsageError
from ocibuild.oci.reference import check_tag

__all__ = ["check_version", "expand_tag", "is_floating", "is_prerelease", "tag_fields", "tags"]

_FIELD = re.compile(r"\{([a-z]*)\}")
_PRERELEASE = re.compile(
    r"~|(?<=[0-9])[-._]?(?:alpha|beta|rc|pre(?:view)?|dev|snapshot|a|b)(?=[-._0-9]|$)", re.IGNORECASE
)
_ILLEGAL = str.maketrans({"+": "-", "~": "-", ":": "-"})


def tag_fields(
    version: str | None, major: int | None, *, distro: str | None = None, created: int | None = None
) -> dict[str, str]:
    """The fields of a template: `version`, its `major`, `minor` and `patch`, `pg`, `distro`, `timestamp`.

    Example:
        >>> tag_fields("0.2.0", 18, distro="trixie")
        {'pg': '18', 'distro': 'trixie', 'version': '0.2.0', 'major': '0', 'minor': '2', 'patch': '0'}
    """
    fields = {} if major is None else {"pg": str(major)}
    if distro:
        fields["distro"] = distro
    if created is not None:
        fields["timestamp"] = datetime.fromtimestamp(created, UTC).strftime("%Y%m%d%H%M")
    if version:
        fields["version"] = version
        numbers = re.match(r"(?:\d+:)?(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
        parts = zip(("major", "minor", "patch"), numbers.groups() if numbers else (), strict=False)
        fields |= {key: number for key, number in parts if number is not None}
    return fields


def expand_tag(template: str, fields: Mapping[str, str]) -> str:
    """A tag from a template such as `{version}-{pg}`; `+`, `~` and `:` of a version become `-`, which tags may hold.

    Raises:
        UsageError: A field that is not known, or a tag that is not legal.

    Example:
        >>> expand_tag("{version}-{pg}", tag_fields("0.2.0~rc1", 18))
        '0.2.0-rc1-18'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in fields:
            known = ", ".join(f"{{{name}}}" for name in fields) or "none: nothing tells the version"
            hint = {"distro": "Say it with --distro.", "timestamp": "Say when with --created."}.get(match[1], "")
            raise UsageError(f"{match[0]} in the tag {template!r}", wanted=f"one of: {known}", hint=hint)
        return fields[match[1]].translate(_ILLEGAL)

    return check_tag(_FIELD.sub(value, template))


def tags(templates: Iterable[str], fields: Mapping[str, str], *, floating: bool = False) -> tuple[list[str], list[str]]:
    """The tags of templates, and the templates left out: those that float are not moved to a pre-release.

    Args:
        templates: Tags or templates.
        fields: From `tag_fields`.
        floating: Move them all the same.

    Raises:
        UsageError: As `expand_tag`.

    Example:
        >>> tags(["{version}", "{major}.{minor}", "latest"], tag_fields("0.3.0-rc.1", 18))
        (['0.3.0-rc.1'], ['{major}.{minor}', 'latest'])
    """
    given = list(dict.fromkeys(templates))
    held = (
        [] if floating or not is_prerelease(fields.get("version", "")) else [one for one in given if is_floating(one)]
    )
    return list(dict.fromkeys(expand_tag(one, fields) for one in given if one not in held)), held


def is_floating(template: str) -> bool:
    """Whether a tag moves from release to release: `latest`, or a template without the whole version."""
    names = set(_FIELD.findall(template))
    return template == "latest" or (bool(names) and "version" not in names and "timestamp" not in names)


def is_prerelease(version: str) -> bool:
    """Whether a version comes before a release: `0.3.0-rc.1`, `0.3.0~rc1`, `0.3.0beta2`.

    Example:
        >>> [is_prerelease(version) for version in ("1.0", "1.0-rc.1", "1.0~rc1", "19beta2", "1.0+dfsg")]
        [False, True, True, True, False]
    """
    return _PRERELEASE.search(version.partition("+")[0]) is not None


def check_version(version: str | None, expected: str) -> None:
    """Refuse a version that is not the one of a git tag, `v` in front or not.

    Raises:
        UsageError: They differ.

    Example:
        >>> check_version("0.2.0", "v0.2.0")
    """
    wanted = expected.removeprefix("refs/tags/").removeprefix("v")
    if not wanted:
        raise UsageError("no expected version", wanted="one, such as v0.2.0", hint="Is the variable empty?")
    if version != wanted:
        raise UsageError(
            f"the version is {version or 'unknown'}, and {wanted} was expected",
            hint="Build what was tagged, or tag what was built.",
        )
