"""Finding the packages of a pgrx project: what `cargo pgrx package` wrote below its target folder."""

from __future__ import annotations

import re
from pathlib import Path

from ocibuild.errors import UsageError

from .project import above, find_crates

__all__ = ["find_packages"]


def find_packages(folder: Path, *, major: int | None = None, target: Path | None = None) -> list[Path]:
    """The packages of the project that a folder belongs to: one crate, or all extensions of a workspace.

    Looks for `EXTENSION-pgMAJOR` under `PROFILE` and `TRIPLE/PROFILE` of the target folder. What the release profile
    built is preferred to all others.

    Args:
        folder: The crate, a folder in it, or the workspace.
        major: The PostgreSQL major version, where the project is packaged for several.
        target: The target folder, where it is not in the crate or above it.

    Raises:
        UsageError: No project, no package, or packages for several majors or extensions.
    """
    crates = find_crates(folder.resolve())
    if not crates:
        raise UsageError(
            "no source, and no pgrx project here",
            wanted="a folder that cargo pgrx package wrote",
            hint="Name one, or run this in a project with a control file beside its Cargo.toml.",
        )
    names = {name for _, name in crates}
    targets = [target] if target else list(dict.fromkeys(up / "target" for crate, _ in crates for up in above(crate)))
    found = [path for place in targets for path in _below(place, names, major)]
    if not found:
        wanted = f"target/release/{'|'.join(sorted(names))}-pg{major or '*'}"
        raise UsageError("no package", wanted=wanted, where=targets[0], hint="Run cargo pgrx package first.")
    release = [path for path in found if path.parent.name == "release"]
    _check_one(release or found)
    return release or found


def _below(target: Path, names: set[str], major: int | None) -> list[Path]:
    suffix = f"-pg{major or '*'}"
    patterns = [f"{depth}/{name}{suffix}" for depth in ("*", "*/*") for name in sorted(names)]
    found = [path for pattern in patterns for path in sorted(target.glob(pattern)) if path.is_dir()]
    return [path for path in found if re.search(r"-pg\d+$", path.name)]


def _check_one(found: list[Path]) -> None:
    kinds = {path.name for path in found}
    if len(kinds) > 1:
        majors = {re.sub(r".*-pg", "", name) for name in kinds}
        listed = ", ".join(str(path) for path in found)
        raise UsageError(
            f"packages of {len(kinds)} kinds: {', '.join(sorted(kinds))}",
            wanted="one",
            hint=(
                f"Choose with --pg, one of: {', '.join(sorted(majors))}"
                if len(majors) > 1
                else f"Name those you mean: {listed}"
            ),
        )
