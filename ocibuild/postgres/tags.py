"""Tags: literal, or templates filled from the extension."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ocibuild.errors import UsageError
from ocibuild.oci.reference import check_tag

__all__ = ["expand_tag", "tag_fields"]

_FIELD = re.compile(r"\{([a-z]*)\}")


def tag_fields(version: str | None, major: int | None) -> dict[str, str]:
    """The fields of a template: `version`, its `major`, `minor` and `patch`, and `pg`.

    Example:
        >>> tag_fields("0.2.0", 18)
        {'pg': '18', 'version': '0.2.0', 'major': '0', 'minor': '2', 'patch': '0'}
    """
    fields = {} if major is None else {"pg": str(major)}
    if version:
        fields["version"] = version
        numbers = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
        parts = zip(("major", "minor", "patch"), numbers.groups() if numbers else (), strict=False)
        fields |= {key: number for key, number in parts if number is not None}
    return fields


def expand_tag(template: str, fields: Mapping[str, str]) -> str:
    """A tag from a template such as `{version}-{pg}`; `+` of a version becomes `-`, which tags may hold.

    Raises:
        UsageError: A field that is not known, or a tag that is not legal.

    Example:
        >>> expand_tag("{major}.{minor}", tag_fields("0.2.0", 18))
        '0.2'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in fields:
            known = ", ".join(f"{{{name}}}" for name in fields) or "none: nothing tells the version"
            raise UsageError(f"{match[0]} in the tag {template!r}", wanted=f"one of: {known}")
        return fields[match[1]].replace("+", "-")

    return check_tag(_FIELD.sub(value, template))
